//! What open may say that it found: a row of FORMAT.md's table ("Recovery") for what a crash interrupted, and no other.

use inkstone_storage::log::{Recovery, Verdict};

use crate::model::Step;

/// When a log is opened, as far as its verdicts depend on that.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Opening {
    /// No open has ever returned.
    pub(crate) is_first: bool,
    /// The open before found a footer that nothing vouches for, and no boundary was sealed since.
    pub(crate) has_unproven: bool,
    /// The open before went over a page cache in which a failed write left the second slot of the hard state: the first
    /// was durable, and nothing was written.
    pub(crate) is_over_cache: bool,
}

/// Checks that every finding is of something that was under way: of the steps that were not answered.
pub(crate) fn check(
    recovery: &Recovery,
    unanswered: &[Step],
    opening: Opening,
) -> Result<(), String> {
    for finding in &recovery.findings {
        let is_explained = explains(finding.verdict, opening)
            || unanswered
                .iter()
                .any(|step| interrupted(step).contains(&finding.verdict));
        if !is_explained {
            let steps: Vec<String> = unanswered.iter().map(Step::describe).collect();
            return Err(format!("{finding}, when {steps:?} were not answered"));
        }
    }
    Ok(())
}

/// Rows that need no step.
fn explains(verdict: Verdict, opening: Opening) -> bool {
    match verdict {
        // The next segment's file, which is made ready at any time.
        Verdict::Leftover => true,
        Verdict::NewLog | Verdict::WatermarkLost => opening.is_first,
        Verdict::UnprovenFooter | Verdict::UnfinishedSealing => opening.has_unproven,
        Verdict::SlotBehind => opening.is_over_cache,
        _ => false,
    }
}

/// Rows of what a step leaves that is interrupted.
fn interrupted(step: &Step) -> &'static [Verdict] {
    match step {
        Step::Append(_) => &[
            Verdict::TornTail,
            Verdict::EmptySegment,
            // Where the log begins is kept before its first entry.
            Verdict::SlotBehind,
        ],
        Step::Truncate(_) | Step::Snapshot(_) => &[],
        Step::Purge(_) => &[Verdict::PurgedFile, Verdict::SlotBehind],
        Step::Vote(_) => &[Verdict::SlotBehind],
        Step::Seal(..) => &[Verdict::UnprovenFooter, Verdict::UnfinishedSealing],
    }
}

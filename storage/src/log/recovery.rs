//! What open found and what it did about it, row by row of the table in FORMAT.md, "Recovery".
//!
//! Promises: a verdict for every row, and for nothing else; what a log was opened with says all that was not as a clean
//! stop leaves it. Must not know: how it is found out.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::limits::FINDINGS_MAX;

/// A row of the table in FORMAT.md, "Recovery". What the log goes on from comes first, then what no log is opened over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing of the group is there: a new log.
    NewLog,
    /// A file that was not complete when a crash came.
    Leftover,
    /// One slot of the hard state is bad or older than the other.
    SlotBehind,
    /// Neither slot of the watermark is good, and nothing else is wrong.
    WatermarkLost,
    /// A file whose entries are all purged.
    PurgedFile,
    /// The last segment has no header and nothing behind it: its creation was interrupted.
    UnbornSegment,
    /// The last segment has no frame.
    EmptySegment,
    /// A write that was never acknowledged was interrupted.
    TornTail,
    /// A part of a footer that nothing says was ever durable.
    UnfinishedSealing,
    /// A whole footer that nothing says was ever durable.
    UnprovenFooter,
    /// A segment had been sealed, its footer is bad, its frames are whole.
    LostFooter,
    /// A segment's header is bad, what it must say is known, and the first frame confirms it.
    LostHeader,
    /// A checkpoint or snapshot is bad, and another one reaches far enough.
    LostCheckpoint,
    /// A frame's header is whole, something else in the frame is not.
    RottenFrame,
    /// The headers of frames are gone, between others or up to where the next segment begins.
    LostFrames,
    /// Frames at the end of the log that were durable are gone.
    LostTail,
    /// A segment is missing in front of another.
    MissingSegment,
    /// A frame at the end is bad, and how much was durable is not known.
    UnknownTail,
    /// Rows of a sealed segment's footer are bad.
    RottenRows,
}

impl Verdict {
    /// Whether the log opens over it; what else there is refuses to.
    pub fn is_made_good(self) -> bool {
        self < Self::RottenFrame
    }
}

/// One thing that open found and made good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The row of the table.
    pub verdict: Verdict,
    /// Where it was found.
    pub file: PathBuf,
    /// And where in it, in bytes.
    pub position: u64,
    /// Bytes that were cut, written anew or deleted there.
    pub size: u64,
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            verdict,
            file,
            position,
            size,
        } = self;
        let file = file.display();
        write!(out, "{file}: {verdict:?} at byte {position}, {size} bytes")
    }
}

/// What [`Log::open`](super::Log::open) found, in the order in which it was made good.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Empty after a clean stop. At most [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
}

impl Recovery {
    /// Whether the log was as a clean stop leaves it.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// The first finding of a row, if there is one.
    pub fn find(&self, verdict: Verdict) -> Option<&Finding> {
        self.findings
            .iter()
            .find(|finding| finding.verdict == verdict)
    }

    /// The write that was cut off the end, if there was one.
    pub fn torn(&self) -> Option<&Finding> {
        self.find(Verdict::TornTail)
    }

    pub(super) fn note(&mut self, verdict: Verdict, file: &Path, position: u64, size: u64) {
        let finding = Finding {
            verdict,
            file: file.to_owned(),
            position,
            size,
        };
        if verdict != Verdict::NewLog {
            tracing::warn!(%finding, "recovered");
        }
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

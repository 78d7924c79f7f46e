//! The two small files with two slots each: hard state and watermark.
//!
//! Promises: a slot that a crash can leave bad beside a good one is no damage. Must not know: segments.

use std::io;
use std::path::Path;

use super::{Check, FileKind, FileReport, State, uuid};
use crate::format::fields::FormatError;
use crate::format::hard_state::{HARD_STATE_SIZE, HARD_STATE_SLOT, HardState};
use crate::format::watermark::{WATERMARK_SIZE, WATERMARK_SLOT, Watermark};
use crate::types::EntryId;

/// A slot as it was found.
type Slot<T> = Result<T, FormatError>;

impl Check<'_> {
    /// Reads both slots; a file that is short has bad ones.
    fn slots<const SIZE: usize, T>(
        &self,
        path: &Path,
        distance: u64,
        decode: impl Fn(&[u8; SIZE], u64) -> Slot<T>,
    ) -> io::Result<[Slot<T>; 2]> {
        let file = self.disk.open_to_read(path)?;
        let read = |slot: u64| {
            let mut bytes = [0; SIZE];
            match file.read_at(&mut bytes, slot * distance) {
                Ok(()) => decode(&bytes, slot),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Err(FormatError::bad(0, "the file ends before the slot does"))
                }
                Err(error) => {
                    let what = format!("the disk does not read it: {error}");
                    Err(FormatError::bad(0, what))
                }
            }
        };
        Ok([read(0), read(1)])
    }

    /// The hard state: the newer slot, if there is a good one.
    pub(super) fn hard_state(&self, path: &Path) -> (FileReport, Option<HardState>) {
        let mut report = self.report(path, FileKind::HardState);
        let slots = self.slots::<HARD_STATE_SIZE, _>(path, HARD_STATE_SLOT, |bytes, _| {
            HardState::decode(bytes)
        });
        let newest = match slots {
            // Both slots are written before a change is answered, one after the other: a crash may leave one bad.
            Ok(slots) => judge(&mut report, path, HARD_STATE_SLOT, slots, true, |state| {
                (state.sequence, hard_state_note(state))
            }),
            Err(error) => {
                report.unreadable(path, &error);
                None
            }
        };
        (report, newest)
    }

    /// The watermark: the newer slot, if there is a good one. `may_be_new`: there is nothing that it could tell of.
    pub(super) fn watermark(
        &self,
        path: &Path,
        is_new: impl Fn() -> bool,
    ) -> (FileReport, Option<Watermark>) {
        let mut report = self.report(path, FileKind::Watermark);
        let slots = self.slots::<WATERMARK_SIZE, _>(path, WATERMARK_SLOT, Watermark::decode_slot);
        let newest = match slots {
            Ok([Err(FormatError::Bad { .. }), Err(FormatError::Bad { .. })]) if is_new() => {
                report.set(State::Torn, "a first start was interrupted");
                None
            }
            // A slot is less than a sector, and the bad one may have been the higher one: no crash leaves it so, but
            // in a first start.
            Ok(slots) => judge(&mut report, path, WATERMARK_SLOT, slots, is_new(), |mark| {
                (mark.sequence, watermark_note(mark))
            }),
            Err(error) => {
                report.unreadable(path, &error);
                None
            }
        };
        (report, newest)
    }
}

/// What two slots together are: the newer one. `may_be_torn`: a crash may leave one bad slot beside a good one.
fn judge<T: PartialEq>(
    report: &mut FileReport,
    path: &Path,
    distance: u64,
    slots: [Slot<T>; 2],
    may_be_torn: bool,
    describe: impl Fn(&T) -> (u64, String),
) -> Option<T> {
    let newer_version = slots
        .iter()
        .any(|slot| matches!(slot, Err(FormatError::Version { .. })));
    let text = |slot: &Slot<T>| match slot {
        Ok(state) => {
            let (sequence, note) = describe(state);
            format!("sequence {sequence}, {note}")
        }
        Err(error) => what(error),
    };
    match &slots {
        [one @ Ok(_), two] if one == two => report.note(format!("both slots: {}", text(one))),
        [one, two] => {
            report.note(format!("slot 1: {}", text(one)));
            report.note(format!("slot 2: {}", text(two)));
        }
    }
    match slots {
        [Ok(one), Ok(two)] => {
            let (first, _) = describe(&one);
            let (second, _) = describe(&two);
            Some(if second > first { two } else { one })
        }
        [Ok(good), Err(error @ FormatError::Bad { .. })] => {
            lone(report, path, distance, error, may_be_torn);
            Some(good)
        }
        [Err(error @ FormatError::Bad { .. }), Ok(good)] => {
            lone(report, path, 0, error, may_be_torn);
            Some(good)
        }
        [one, two] => {
            let bad = [(0, one.err()), (distance, two.err())];
            for (position, error) in bad {
                let is_newer = matches!(error, Some(FormatError::Version { .. }));
                if let Some(error) = error.filter(|_| is_newer || !newer_version) {
                    report.bad(path, position, error);
                }
            }
            None
        }
    }
}

/// A bad slot beside a good one.
fn lone(
    report: &mut FileReport,
    path: &Path,
    position: u64,
    error: FormatError,
    may_be_torn: bool,
) {
    if may_be_torn {
        report.set(
            State::Torn,
            "the good slot holds all that was ever answered; the other is written again at the next start",
        );
    } else {
        report.bad(path, position, error);
        report.note("the bad slot may have been the newer one; it is written again at a start that finds the log whole");
    }
}

fn what(error: &FormatError) -> String {
    match error {
        FormatError::Bad { what, .. } => what.clone(),
        FormatError::Version { found } => format!("format version {found}"),
    }
}

fn entry_note(id: EntryId) -> String {
    let EntryId { term, node, index } = id;
    format!("entry {index} (term {term} of node {node})")
}

fn hard_state_note(state: &HardState) -> String {
    let vote = state.vote.map_or_else(
        || "no vote".to_owned(),
        |vote| {
            let committed = if vote.committed { ", committed" } else { "" };
            format!(
                "vote for node {} in term {}{committed}",
                vote.node, vote.term
            )
        },
    );
    let purged = state.purged.map_or_else(
        || "nothing purged".to_owned(),
        |purged| format!("purged up to {}", entry_note(purged)),
    );
    format!("{vote}, {purged}, first entry {}", state.first)
}

fn watermark_note(mark: &Watermark) -> String {
    mark.last.map_or_else(
        || "the log was empty".to_owned(),
        |last| format!("durable up to {}", entry_note(last)),
    )
}

/// Whether a file with this owner belongs here, said in its report.
pub(super) fn check_owner(
    report: &mut FileReport,
    expected: ([u8; 16], u32),
    found: ([u8; 16], u32),
) -> bool {
    if expected == found {
        return true;
    }
    let text = |(cluster, group)| format!("cluster {}, group {group}", uuid(cluster));
    let note = format!("of {}, not of {}", text(found), text(expected));
    report.set(State::Foreign, note);
    false
}

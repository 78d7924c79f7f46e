//! Damage that names entries: which, what is known of them, and so what a peer's entry must be to take their place.
//!
//! Promises: bounded, whatever rots; a verdict is a row of the table in FORMAT.md, "Recovery". Must not know: how damage
//! is found, or mended.

use std::fmt;

use super::Damage;
use crate::limits::{FAULT_RANGES_SHOWN_MAX, FAULTS_MAX};
use crate::types::{EntryId, EntryKind};

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
}

impl Verdict {
    /// Whether the log opens over it; what else there is refuses to.
    pub fn is_made_good(self) -> bool {
        self < Self::RottenFrame
    }
}

/// What tells an entry from every other, kept apart from its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryIdentity {
    /// The entry.
    pub id: EntryId,
    /// How its payload is read.
    pub kind: EntryKind,
    /// Bytes of its payload.
    pub payload_size: u32,
    /// As its frame has it.
    pub payload_crc: u32,
    /// As its frame has it: of all entries up to this one.
    pub chain_crc: u32,
}

/// What is known of damaged entries, and so whether a peer's can be told to be the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Everything but the payload, one for each entry.
    Identity(Vec<EntryIdentity>),
    /// What the chain crc is before the first and behind the last: entries are the right ones when theirs lead there.
    Chain {
        /// Chain crc of the entry before.
        before: u32,
        /// Chain crc of the last damaged entry.
        after: u32,
        /// Bytes that their frames fill, when both ends are in one file.
        size: Option<u64>,
    },
    /// Nothing: no entry can be told to be the right one.
    Nothing,
}

/// Neighbouring damaged entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultyRange {
    /// The row of the table.
    pub verdict: Verdict,
    /// Index of the first one.
    pub first: u64,
    /// Index of the last one.
    pub last: u64,
    /// Where the first one's frame stands, or would: a position in `damage.file`.
    pub position: u64,
    /// What is wrong with the first one.
    pub damage: Damage,
    /// What is known of them.
    pub known: Known,
}

impl FaultyRange {
    /// How many entries.
    pub fn entries(&self) -> u64 {
        self.last - self.first + 1
    }

    /// Whether a peer's entries can be told to be the right ones.
    pub fn is_verifiable(&self) -> bool {
        self.known != Known::Nothing
    }
}

impl fmt::Display for FaultyRange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return write!(out, "{}", self.first);
        }
        write!(out, "{}-{}", self.first, self.last)
    }
}

/// All damaged entries that were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// By index, rising; neighbours of which the same is known are one. At most [`FAULTS_MAX`].
    pub list: Vec<FaultyRange>,
    /// Damaged entries that are not listed: when those listed are mended, the next survey lists more.
    pub unlisted: u64,
    /// Identities in the list.
    identities: usize,
}

impl Faults {
    /// Whether none was found.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty() && self.unlisted == 0
    }

    /// Damaged entries, those not listed too.
    pub fn entries(&self) -> u64 {
        self.list.iter().map(FaultyRange::entries).sum::<u64>() + self.unlisted
    }

    /// The fault that an entry is part of, if it is listed.
    pub fn of(&self, index: u64) -> Option<&FaultyRange> {
        self.list
            .iter()
            .find(|fault| (fault.first..=fault.last).contains(&index))
    }

    /// Adds a fault behind the others; in vain when there are too many.
    pub(crate) fn push(&mut self, fault: FaultyRange) {
        if self.unlisted > 0 || self.list.len() + self.identities >= FAULTS_MAX {
            self.unlisted += fault.entries();
            return;
        }
        if let Some(last) = self.list.last_mut()
            && last.last + 1 == fault.first
            && last.verdict == fault.verdict
            && last.damage.file == fault.damage.file
            && let (Known::Identity(known), Known::Identity(more)) = (&mut last.known, &fault.known)
        {
            self.identities += more.len();
            known.extend_from_slice(more);
            last.last = fault.last;
            return;
        }
        self.list.push(fault);
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(first) = self.list.first() {
            write!(out, "{}; ", first.damage)?;
        }
        match self.entries() {
            1 => write!(out, "1 entry is damaged: ")?,
            entries => write!(out, "{entries} entries are damaged: ")?,
        }
        for (number, fault) in self.list.iter().take(FAULT_RANGES_SHOWN_MAX).enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            write!(out, "{comma}{fault}")?;
        }
        if self.unlisted > 0 || self.list.len() > FAULT_RANGES_SHOWN_MAX {
            write!(out, " and more")?;
        }
        write!(out, "; nothing was cut")
    }
}

//! What of the un-synced is kept by a crash.
//!
//! Promises: every choice is an argument or follows from a seed that is one. Must not know: files.

use std::path::PathBuf;

/// What a crash keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Of bytes and sizes.
    pub data: Unsynced,
    /// What is written as a whole or not at all.
    pub unit: Unit,
    /// Of names.
    pub names: Names,
}

/// Which un-synced changes of bytes and sizes a crash keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsynced {
    /// As when only the process was killed.
    All,
    /// Only what was synced is there.
    None,
    /// This one, and what stood in its units before it.
    Only(usize),
    /// One unit of this one.
    OnlyUnit(usize, usize),
    /// Any, as the seed has it.
    Random(u64),
}

/// What a disk writes as a whole or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// 512 bytes.
    Sector,
    /// 4096 bytes.
    Page,
}

impl Unit {
    pub(super) fn size(self) -> u64 {
        match self {
            Self::Sector => 512,
            Self::Page => 4096,
        }
    }
}

/// Which un-synced changes of names a crash keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// All.
    Kept,
    /// None.
    Lost,
    /// Those of one directory.
    KeptIn(PathBuf),
    /// This one, and what its names had before it.
    Only(usize),
    /// Any, as the seed has it.
    Random(u64),
}

/// Numbers that follow from a seed (`SplitMix64`).
#[derive(Debug)]
pub(super) struct Seeded(pub(super) u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let bound = bound.max(1) as u64;
        usize::try_from(self.next() % bound).unwrap_or_default()
    }

    /// How the units of one file are chosen.
    pub(super) fn pattern(&mut self) -> Pattern {
        match self.below(5) {
            0 => Pattern::Coin(8),
            1 => Pattern::Coin(4),
            2 => Pattern::Coin(1),
            3 => Pattern::First(self.below(8)),
            _ => Pattern::Last(self.below(8)),
        }
    }
}

/// How the units of one file are chosen: a write that is large is torn at one place more often than everywhere.
#[derive(Debug)]
pub(super) enum Pattern {
    /// Each for itself, so many of 8 are lost.
    Coin(usize),
    /// So many, and then none.
    First(usize),
    /// None of so many, and then all.
    Last(usize),
}

impl Pattern {
    /// How many of a unit's `versions` are kept. The units come in order.
    pub(super) fn keep(&mut self, seeded: &mut Seeded, _unit: u64, versions: usize) -> usize {
        match self {
            Self::Coin(lost) => {
                if seeded.below(9) < *lost {
                    seeded.below(versions)
                } else {
                    versions
                }
            }
            Self::First(left) | Self::Last(left) => {
                let is_among = left.checked_sub(1).map(|less| *left = less).is_some();
                let is_kept = matches!(self, Self::First(_)) == is_among;
                if is_kept { versions } else { 0 }
            }
        }
    }
}

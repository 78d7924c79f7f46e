//! A damaged spot, with what writing it back needs to know.
//!
//! Promises: bounded. Must not know: what is done about it.

use crate::error::{Faults, FaultyRange, Verdict};
use crate::format::frame::SyncStamp;

/// A fault, and what stands around it.
#[derive(Debug, Clone)]
pub(in crate::log) struct FaultAt {
    pub(in crate::log) fault: FaultyRange,
    /// Base index of the segment that it is in.
    pub(in crate::log) base: u64,
    /// The stamp of the last frame before it that has one.
    pub(in crate::log) before: Option<SyncStamp>,
    /// The stamp of the first frame behind it that has one.
    pub(in crate::log) after: Option<SyncStamp>,
}

impl FaultAt {
    /// One of which nobody can say how much was lost behind it.
    pub(super) fn into_unknown(mut self) -> Self {
        self.fault.verdict = Verdict::UnknownTail;
        self.fault.damage.what += "; and how far the log was durable is not known";
        self
    }
}

/// Faults in the order of their entries.
#[derive(Debug, Default)]
pub(in crate::log) struct FaultList {
    pub(in crate::log) list: Vec<FaultAt>,
    /// Damaged entries that are not listed.
    pub(in crate::log) unlisted: u64,
}

impl FaultList {
    pub(in crate::log) fn is_empty(&self) -> bool {
        self.list.is_empty() && self.unlisted == 0
    }

    pub(in crate::log) fn push(&mut self, at: FaultAt) {
        if self.unlisted > 0 || self.list.len() >= crate::limits::FAULTS_MAX {
            self.unlisted += at.fault.entries();
            return;
        }
        self.list.push(at);
    }

    pub(in crate::log) fn append(&mut self, other: Self) {
        for at in other.list {
            self.push(at);
        }
        self.unlisted += other.unlisted;
    }

    /// The faults as callers see them: neighbours of which the same is known are one.
    pub(in crate::log) fn faults(&self) -> Faults {
        let mut faults = Faults::default();
        for at in &self.list {
            faults.push(at.fault.clone());
        }
        faults.unlisted += self.unlisted;
        faults
    }
}

/// A spot that is bad, before it is known whether it is damage.
#[derive(Debug)]
pub(super) struct Bad {
    pub(super) at: FaultAt,
    /// An intact header that does not belong there.
    pub(super) is_wrong: bool,
}

impl Bad {
    /// Where the stamp behind it goes, if that is not known yet.
    pub(super) fn unanswered(&mut self) -> Option<&mut Option<SyncStamp>> {
        self.at.after.is_none().then_some(&mut self.at.after)
    }
}

//! What repair has done since the node started, and what it still has to do: for the node's status.
//!
//! Must not know: how anything is repaired.

use std::sync::Arc;

use inkstone_storage::error::{Damage, Faults};
use parking_lot::Mutex;

/// Damaged places that a status names.
const PLACES_MAX: usize = 20;

/// A snapshot of [`Repairs`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairStatus {
    /// Damaged entries that are still to be written back.
    pub damaged_entries: u64,
    /// Entries that were written back.
    pub repaired_entries: u64,
    /// When that last happened, nanoseconds since the Unix epoch; 0: never.
    pub last_time: i64,
    /// What keeps the node in quarantine: the first places, each with the indexes of its first and last entry.
    pub places: Vec<(Damage, u64, u64)>,
    /// What it waits for; empty: for nothing.
    pub waits_for: String,
}

/// What repair is at. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Repairs {
    status: Arc<Mutex<RepairStatus>>,
}

impl Repairs {
    /// As it is now.
    pub fn status(&self) -> RepairStatus {
        self.status.lock().clone()
    }

    /// This is damaged, and keeps the node from starting.
    pub fn set_faults(&self, faults: &Faults) {
        let places = faults.list.iter().take(PLACES_MAX);
        let mut status = self.status.lock();
        status.damaged_entries = faults.entries();
        status.places = places
            .map(|fault| (fault.damage.clone(), fault.first, fault.last))
            .collect();
    }

    /// So many are damaged, of a log that runs.
    pub fn set_damaged(&self, entries: u64) {
        self.status.lock().damaged_entries = entries;
    }

    /// So many entries were written back.
    pub fn note(&self, entries: u64, now: i64) {
        if entries > 0 {
            let mut status = self.status.lock();
            status.repaired_entries += entries;
            status.last_time = now;
        }
    }

    /// What it waits for; empty: for nothing.
    pub fn wait_for(&self, what: impl Into<String>) {
        self.status.lock().waits_for = what.into();
    }
}

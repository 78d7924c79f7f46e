//! What repair has done since the node started, and what it still has to do: for the node's status.
//!
//! Promises: what a reader has met stands here until it is mended or purged, also where nothing scrubs. Must not know: how
//! anything is repaired.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use inkstone_storage::error::{Damage, Faults};
use parking_lot::Mutex;

/// Damaged places that a status names.
const PLACES_MAX: usize = 20;
/// Files of which is remembered that readers met damage in them; the scrubber finds the rest.
const MET_MAX: usize = 1_000;

/// A snapshot of [`Repairs`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairStatus {
    /// Damaged entries that are still to be written back.
    pub damaged_entries: u64,
    /// Entries that were written back.
    pub repaired_entries: u64,
    /// When that last happened, nanoseconds since the Unix epoch; 0: never.
    pub last_time: i64,
    /// What keeps the node in quarantine, or what its readers have met: the first places, each with the indexes of its first
    /// and last entry, where they are known.
    pub places: Vec<Place>,
    /// What it waits for; empty: for nothing.
    pub waits_for: String,
}

/// Damage, and the first and the last entry that it takes.
pub type Place = (Damage, Option<(u64, u64)>);

/// What repair is at. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Repairs {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    status: RepairStatus,
    /// What readers and repairs have met, by file.
    met: BTreeMap<PathBuf, Met>,
    /// Damaged entries that the scrubber knows of, by file.
    scrubbed: BTreeMap<PathBuf, u64>,
}

/// Damage in one file of a log that runs.
#[derive(Debug)]
struct Met {
    places: Vec<Place>,
    entries: u64,
}

impl Inner {
    fn count(&mut self) {
        let met = self.met.iter().map(|(file, met)| {
            let scrubbed = self.scrubbed.get(file).copied();
            met.entries.max(scrubbed.unwrap_or(0))
        });
        let unmet = self.scrubbed.iter();
        let unmet = unmet.filter(|(file, _)| !self.met.contains_key(*file));
        self.status.damaged_entries = met.chain(unmet.map(|(_, entries)| *entries)).sum();
        let places = self.met.values().flat_map(|met| &met.places);
        self.status.places = places.take(PLACES_MAX).cloned().collect();
    }
}

fn places(faults: &Faults) -> Vec<Place> {
    let places = faults.list.iter().take(PLACES_MAX);
    places
        .map(|fault| (fault.damage.clone(), Some((fault.first, fault.last))))
        .collect()
}

impl Repairs {
    /// As it is now.
    pub fn status(&self) -> RepairStatus {
        self.inner.lock().status.clone()
    }

    /// This is damaged, and keeps the node from starting.
    pub fn set_faults(&self, faults: &Faults) {
        let mut inner = self.inner.lock();
        inner.status.damaged_entries = faults.entries();
        inner.status.places = places(faults);
    }

    /// So many entries of these files are damaged, as the scrubber says, of a log that runs.
    pub fn set_scrubbed(&self, files: impl IntoIterator<Item = (PathBuf, u64)>) {
        let mut inner = self.inner.lock();
        inner.scrubbed = files.into_iter().collect();
        inner.count();
    }

    /// A reader has met this, in the entry with that index if it is known.
    pub fn meet(&self, damage: &Damage, index: Option<u64>) {
        let mut inner = self.inner.lock();
        if inner.met.len() >= MET_MAX || inner.met.contains_key(&damage.file) {
            return;
        }
        let place = (damage.clone(), index.map(|index| (index, index)));
        let met = Met {
            places: vec![place],
            entries: 1,
        };
        inner.met.insert(damage.file.clone(), met);
        inner.count();
    }

    /// All of a segment was looked at, in which readers may have met damage: this is what there is.
    pub fn set_segment(&self, file: PathBuf, faults: &Faults) {
        let mut inner = self.inner.lock();
        if faults.is_empty() {
            inner.met.remove(&file);
            // The scrubber says it, too, when it comes by.
            inner.scrubbed.remove(&file);
        } else {
            let met = Met {
                places: places(faults),
                entries: faults.entries(),
            };
            inner.met.insert(file, met);
        }
        inner.count();
    }

    /// These files are gone, and with them what was damaged in them.
    pub fn forget(&self, is_gone: impl Fn(&PathBuf) -> bool) {
        let mut inner = self.inner.lock();
        inner.met.retain(|file, _| !is_gone(file));
        inner.count();
    }

    /// The files in which readers have met damage that is not mended yet.
    pub fn met(&self) -> Vec<PathBuf> {
        self.inner.lock().met.keys().cloned().collect()
    }

    /// So many entries were written back.
    pub fn note(&self, entries: u64, now: i64) {
        if entries > 0 {
            let mut inner = self.inner.lock();
            inner.status.repaired_entries += entries;
            inner.status.last_time = now;
        }
    }

    /// What it waits for; empty: for nothing.
    pub fn wait_for(&self, what: impl Into<String>) {
        self.inner.lock().status.waits_for = what.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damage(file: &str) -> Damage {
        Damage {
            file: file.into(),
            position: 7,
            what: "bad".to_owned(),
        }
    }

    #[test]
    fn what_a_reader_met_counts_at_once_and_until_it_is_whole() {
        let repairs = Repairs::default();
        repairs.meet(&damage("a.seg"), Some(4));
        // Again, before anybody has looked at the whole segment.
        repairs.meet(&damage("a.seg"), Some(5));
        let status = repairs.status();
        assert_eq!(status.damaged_entries, 1);
        assert_eq!(status.places, [(damage("a.seg"), Some((4, 4)))]);
        // The scrubber knows more of that file, and another one: neither counts twice.
        repairs.set_scrubbed([("a.seg".into(), 3), ("b.seg".into(), 2)]);
        assert_eq!(repairs.status().damaged_entries, 5);
        repairs.set_segment("a.seg".into(), &Faults::default());
        assert_eq!(repairs.status().damaged_entries, 2);
        assert_eq!(repairs.status().places, []);
        repairs.meet(&damage("c.seg"), None);
        repairs.set_scrubbed([]);
        assert_eq!(repairs.status().damaged_entries, 1);
        repairs.forget(|file| file.ends_with("c.seg"));
        assert_eq!(repairs.status().damaged_entries, 0);
    }
}

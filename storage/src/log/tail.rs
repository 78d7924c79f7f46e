//! The newest entries, in memory: what replication, apply and live readers are served from.
//!
//! Promises: entries that are not durable are never dropped; of the others at most `size_max` bytes stay. Must not know:
//! files.

use std::collections::VecDeque;

use crate::types::Entry;

/// Bytes that an entry counts beside its payload.
const ENTRY_OVERHEAD: usize = size_of::<Entry>();

/// A run of entries that ends with the log's last.
#[derive(Debug)]
pub(super) struct Tail {
    entries: VecDeque<Entry>,
    /// Index of the first entry here, or the next one's when there is none.
    first: u64,
    /// Entries at the front that are durable.
    durable: usize,
    /// Bytes of those.
    durable_size: usize,
    size_max: usize,
}

fn size(entry: &Entry) -> usize {
    entry.payload.len() + ENTRY_OVERHEAD
}

impl Tail {
    /// Empty: the next entry has index `first`.
    pub(super) fn new(first: u64, size_max: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            first,
            durable: 0,
            durable_size: 0,
            size_max,
        }
    }

    /// Index of the first entry here.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    pub(super) fn push(&mut self, entry: Entry) {
        debug_assert_eq!(entry.id.index, self.next(), "the tail has no holes");
        self.entries.push_back(entry);
    }

    /// Entries `from..to`, at least one if there is one, until `size_max` bytes of payload are reached. `from` is here.
    pub(super) fn range(&self, from: u64, to: u64, size_max: usize) -> Vec<Entry> {
        let skip = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let count = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
        let mut size = 0;
        let mut range = Vec::new();
        for entry in self.entries.iter().skip(skip).take(count) {
            size += entry.payload.len();
            if size > size_max && !range.is_empty() {
                break;
            }
            range.push(entry.clone());
        }
        range
    }

    /// Entries up to `index` are durable: the oldest go when there are too many.
    pub(super) fn set_durable(&mut self, index: u64) {
        let durable = usize::try_from((index + 1).saturating_sub(self.first)).unwrap_or(usize::MAX);
        let durable = durable.min(self.entries.len());
        for entry in self
            .entries
            .iter()
            .skip(self.durable)
            .take(durable.saturating_sub(self.durable))
        {
            self.durable_size += size(entry);
        }
        self.durable = self.durable.max(durable);
        while self.durable > 0 && self.durable_size > self.size_max {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.first += 1;
            if self.durable > 0 {
                self.durable -= 1;
                self.durable_size -= size(&entry);
            }
        }
    }

    /// Forgets the entries from `index` on.
    pub(super) fn cut(&mut self, index: u64) {
        if index <= self.first {
            *self = Self::new(index, self.size_max);
            return;
        }
        while self.next() > index {
            let durable = self.durable == self.entries.len();
            if let Some(entry) = self.entries.pop_back()
                && durable
            {
                self.durable -= 1;
                self.durable_size -= size(&entry);
            }
        }
    }

    /// Forgets the entries below `index`.
    pub(super) fn drop_below(&mut self, index: u64) {
        if index >= self.next() {
            *self = Self::new(index, self.size_max);
            return;
        }
        while self.first < index {
            self.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{EntryId, EntryKind};

    fn entry(index: u64) -> Entry {
        Entry {
            id: EntryId {
                term: 1,
                node: 1,
                index,
            },
            kind: EntryKind::Command,
            payload: vec![0; 100].into(),
        }
    }

    fn filled(size_max: usize) -> Tail {
        let mut tail = Tail::new(5, size_max);
        (5..15).for_each(|index| tail.push(entry(index)));
        tail
    }

    #[test]
    fn what_is_not_durable_stays_whatever_its_size() {
        let mut tail = filled(0);
        tail.set_durable(9);
        assert_eq!(tail.first(), 10);
        assert_eq!(tail.range(10, u64::MAX, usize::MAX).len(), 5);
    }

    #[test]
    fn durable_entries_stay_within_the_bound() {
        let mut tail = filled(3 * (100 + ENTRY_OVERHEAD));
        tail.set_durable(14);
        assert_eq!(tail.first(), 12);
    }

    #[test]
    fn a_range_has_at_least_one_entry() {
        let tail = filled(0);
        assert_eq!(tail.range(6, 9, 0).len(), 1);
        assert_eq!(tail.range(6, 9, 200).len(), 2);
    }

    #[test]
    fn cutting_durable_entries_keeps_the_count_right() {
        let mut tail = filled(usize::MAX);
        tail.set_durable(14);
        tail.cut(8);
        assert_eq!(
            (tail.durable, tail.durable_size),
            (3, 3 * (100 + ENTRY_OVERHEAD))
        );
        tail.push(entry(8));
        tail.set_durable(7);
        assert_eq!(tail.durable, 3);
        tail.cut(2);
        assert_eq!((tail.first(), tail.durable, tail.durable_size), (2, 0, 0));
    }
}

//! The giver's side: one page of what a peer lacks.
//!
//! Runs on a thread that may block. Must not know: who asks.

use inkstone_proto::peer_v1 as peer;
use inkstone_proto::peer_v1::Absence;
use inkstone_storage::error::ReadError;
use inkstone_storage::format::frame::payload_crc;
use inkstone_storage::limits::REPLICATION_SIZE_MAX;
use inkstone_storage::log::{Log, Repair};
use inkstone_storage::types::Entry;

use crate::raft::wire::{self, Malformed};

/// Entries that one request names, and absent ones that one answer names.
pub(super) const ENTRIES_MAX: usize = 1_024;

/// An entry, or why it cannot be had.
#[derive(Debug)]
pub(crate) enum Held {
    /// Verified on this read.
    Entry(Entry),
    /// Not to be had.
    Absent(Absence),
}

/// A log that entries can be had from.
pub(crate) trait Giver {
    /// The entry at `index`.
    fn entry(&self, index: u64) -> Held;
    /// Chain crc behind it, if that is known.
    fn chain_crc(&self, index: u64) -> Option<u32>;
    /// The last entry that is certainly committed.
    fn committed_index(&self) -> Option<u64>;
}

/// The log of a node that takes part.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) log: Log,
    pub(crate) committed_index: Option<u64>,
}

impl Giver for Running {
    fn entry(&self, index: u64) -> Held {
        match self.log.entries(index, index.saturating_add(1), 1) {
            Ok(entries) => entries
                .into_iter()
                .next()
                .map_or(Held::Absent(Absence::BeyondEnd), Held::Entry),
            Err(ReadError::Purged { .. }) => Held::Absent(Absence::Purged),
            Err(ReadError::Damaged(damage)) => {
                tracing::debug!(index, %damage, "a peer asks for an entry that is damaged here, too");
                Held::Absent(Absence::Damaged)
            }
            Err(error @ ReadError::Io { .. }) => unread(index, &error),
        }
    }

    fn chain_crc(&self, index: u64) -> Option<u32> {
        // Damage of a header says nothing of the chain.
        self.log.chain_crc(index).ok().flatten()
    }

    fn committed_index(&self) -> Option<u64> {
        self.committed_index
    }
}

/// The log of a node in quarantine: what is whole of it.
impl Giver for Repair {
    fn entry(&self, index: u64) -> Held {
        if self.purged().is_some_and(|purged| index <= purged.index) {
            return Held::Absent(Absence::Purged);
        }
        match self.entry(index) {
            Ok(Some(entry)) => Held::Entry(entry),
            Ok(None) if self.last_index().is_none_or(|last| index > last) => {
                Held::Absent(Absence::BeyondEnd)
            }
            Ok(None) => Held::Absent(Absence::Damaged),
            Err(error) => unread(index, &error),
        }
    }

    fn chain_crc(&self, index: u64) -> Option<u32> {
        self.chain_crc(index).ok().flatten()
    }

    fn committed_index(&self) -> Option<u64> {
        self.committed_index()
    }
}

/// An entry that could not be read this time: nothing is said of whether it is here.
fn unread(index: u64, error: &ReadError) -> Held {
    tracing::warn!(index, %error, "an entry that a peer asks for cannot be read");
    Held::Absent(Absence::Unspecified)
}

/// What is in one answer.
#[derive(Default)]
struct Page {
    answer: peer::FetchEntriesResponse,
    size: usize,
}

impl Page {
    fn is_full(&self) -> bool {
        self.size >= REPLICATION_SIZE_MAX
            || self.answer.entries.len() + self.answer.absent.len() >= ENTRIES_MAX
    }

    /// Whether there was room: the first entry always has some.
    fn give(&mut self, entry: Entry, chain_crc: Option<u32>) -> bool {
        let size = entry.payload.len();
        if self.size > 0 && self.size + size > REPLICATION_SIZE_MAX {
            return false;
        }
        // An entry without a payload takes room, too.
        self.size += size + 64;
        self.answer.entries.push(peer::FetchedEntry {
            entry: Some(entry_to_wire(entry)),
            chain_crc,
        });
        true
    }

    fn lack(&mut self, index: u64, why: Absence) {
        let why = why.into();
        self.answer.absent.push(peer::AbsentEntry { index, why });
    }
}

fn entry_to_wire(entry: Entry) -> peer::Entry {
    peer::Entry {
        id: Some(wire::id_to_wire(entry.id)),
        kind: u32::from(entry.kind as u8),
        payload_crc: crc32fast::hash(&entry.payload),
        payload: entry.payload,
    }
}

/// Whether an entry is the one with this identity.
pub(super) fn is_identical(wanted: &peer::EntryIdentity, entry: &Entry) -> bool {
    wanted.id == Some(wire::id_to_wire(entry.id))
        && wanted.kind == u32::from(entry.kind as u8)
        && usize::try_from(wanted.payload_size) == Ok(entry.payload.len())
        && wanted.payload_crc == payload_crc(entry.kind, &entry.payload)
}

/// Answers a request, as much of it as one message takes.
pub(crate) fn give(
    giver: &dyn Giver,
    request: &peer::FetchEntriesRequest,
) -> Result<peer::FetchEntriesResponse, Malformed> {
    let mut page = Page::default();
    page.answer.committed_index = giver.committed_index();
    match &request.range {
        Some(range) if request.exact.is_empty() => give_range(giver, range, &mut page)?,
        None if !request.exact.is_empty() => give_exact(giver, &request.exact, &mut page)?,
        _ => return Err(Malformed("either `exact` or `range` is needed".to_owned())),
    }
    Ok(page.answer)
}

fn give_exact(
    giver: &dyn Giver,
    exact: &[peer::EntryIdentity],
    page: &mut Page,
) -> Result<(), Malformed> {
    if exact.len() > ENTRIES_MAX {
        let count = exact.len();
        return Err(Malformed(format!(
            "{count} entries are asked for; the most is {ENTRIES_MAX}"
        )));
    }
    let mut last = None;
    for wanted in exact {
        let index = wanted.id.map(|id| id.index);
        let index = index.ok_or_else(|| Malformed("the field `exact.id` is missing".to_owned()))?;
        if last.replace(index).is_some_and(|last| index <= last) {
            return Err(Malformed(format!("entry {index} is not in order")));
        }
        if page.is_full() {
            break;
        }
        match giver.entry(index) {
            Held::Entry(entry) if is_identical(wanted, &entry) => {
                if !page.give(entry, giver.chain_crc(index)) {
                    break;
                }
            }
            Held::Entry(_) => page.lack(index, Absence::Other),
            Held::Absent(why) => page.lack(index, why),
        }
    }
    Ok(())
}

fn give_range(
    giver: &dyn Giver,
    range: &peer::FetchRange,
    page: &mut Page,
) -> Result<(), Malformed> {
    let peer::FetchRange {
        first,
        last,
        chain_crc_after,
    } = *range;
    if first > last {
        return Err(Malformed(format!("entries {first} to {last} are none")));
    }
    // Equal chain crcs at equal indexes mean equal prefixes.
    let is_same_log = giver.chain_crc(last) == Some(chain_crc_after);
    let committed = giver.committed_index();
    for index in first..=last {
        if page.is_full() {
            break;
        }
        match giver.entry(index) {
            Held::Entry(entry) => {
                if !is_same_log && committed.is_none_or(|committed| index > committed) {
                    page.lack(index, Absence::Uncommitted);
                } else if !page.give(entry, giver.chain_crc(index)) {
                    break;
                }
            }
            Held::Absent(why) => page.lack(index, why),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use inkstone_storage::types::{EntryId, EntryKind};

    use super::*;

    /// Entries 0 to 9, of which 5 is damaged, the first two are purged, and all up to 6 are committed.
    struct Fake;

    fn entry(index: u64) -> Entry {
        Entry {
            id: EntryId {
                term: 2,
                node: 1,
                index,
            },
            kind: EntryKind::Command,
            payload: Bytes::from(format!("entry {index}")),
        }
    }

    impl Giver for Fake {
        fn entry(&self, index: u64) -> Held {
            match index {
                0..2 => Held::Absent(Absence::Purged),
                5 => Held::Absent(Absence::Damaged),
                2..10 => Held::Entry(entry(index)),
                _ => Held::Absent(Absence::BeyondEnd),
            }
        }

        fn chain_crc(&self, index: u64) -> Option<u32> {
            u32::try_from(index).ok().filter(|index| *index < 10)
        }

        fn committed_index(&self) -> Option<u64> {
            Some(6)
        }
    }

    fn identity(entry: &Entry) -> peer::EntryIdentity {
        peer::EntryIdentity {
            id: Some(wire::id_to_wire(entry.id)),
            kind: u32::from(entry.kind as u8),
            payload_size: u32::try_from(entry.payload.len()).unwrap(),
            payload_crc: payload_crc(entry.kind, &entry.payload),
        }
    }

    fn exact(entries: Vec<peer::EntryIdentity>) -> peer::FetchEntriesRequest {
        peer::FetchEntriesRequest {
            exact: entries,
            ..peer::FetchEntriesRequest::default()
        }
    }

    fn range(first: u64, last: u64, chain_crc_after: u32) -> peer::FetchEntriesRequest {
        peer::FetchEntriesRequest {
            range: Some(peer::FetchRange {
                first,
                last,
                chain_crc_after,
            }),
            ..peer::FetchEntriesRequest::default()
        }
    }

    fn given(answer: &peer::FetchEntriesResponse) -> Vec<u64> {
        let entries = answer.entries.iter();
        entries
            .map(|given| given.entry.as_ref().unwrap().id.unwrap().index)
            .collect()
    }

    fn lacking(answer: &peer::FetchEntriesResponse) -> Vec<(u64, Absence)> {
        let absent = answer.absent.iter();
        absent.map(|absent| (absent.index, absent.why())).collect()
    }

    #[test]
    fn an_entry_of_another_identity_is_not_given() {
        let wanted = [1, 4, 5, 8, 11].map(|index| identity(&entry(index)));
        let answer = give(&Fake, &exact(wanted.to_vec())).unwrap();
        // Entry 8 is not committed, and it is the one that is wanted.
        assert_eq!(given(&answer), [4, 8]);
        assert_eq!(
            lacking(&answer),
            [
                (1, Absence::Purged),
                (5, Absence::Damaged),
                (11, Absence::BeyondEnd)
            ]
        );
        let whole = identity(&entry(4));
        let id = whole.id.unwrap();
        let others = [
            peer::EntryIdentity {
                payload_crc: whole.payload_crc ^ 1,
                ..whole
            },
            peer::EntryIdentity {
                payload_size: whole.payload_size + 1,
                ..whole
            },
            peer::EntryIdentity { kind: 1, ..whole },
            peer::EntryIdentity {
                id: Some(peer::EntryId { term: 3, ..id }),
                ..whole
            },
            peer::EntryIdentity {
                id: Some(peer::EntryId { node: 3, ..id }),
                ..whole
            },
        ];
        for other in others {
            let answer = give(&Fake, &exact(vec![other])).unwrap();
            assert_eq!(lacking(&answer), [(4, Absence::Other)], "{other:?}");
        }
    }

    #[test]
    fn of_a_range_only_what_is_committed_or_of_the_same_log_is_given() {
        let answer = give(&Fake, &range(3, 8, 999)).unwrap();
        assert_eq!(given(&answer), [3, 4, 6]);
        assert_eq!(
            lacking(&answer),
            [
                (5, Absence::Damaged),
                (7, Absence::Uncommitted),
                (8, Absence::Uncommitted)
            ]
        );
        assert_eq!(given(&give(&Fake, &range(6, 8, 8)).unwrap()), [6, 7, 8]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        give(&Fake, &exact(Vec::new())).unwrap_err();
        give(&Fake, &range(4, 3, 0)).unwrap_err();
        let twice = vec![identity(&entry(4)); 2];
        give(&Fake, &exact(twice.clone())).unwrap_err();
        let mut both = range(3, 4, 0);
        both.exact.push(twice[0]);
        give(&Fake, &both).unwrap_err();
        give(&Fake, &exact(vec![peer::EntryIdentity::default()])).unwrap_err();
        let many = (0..1_025).map(|index| identity(&entry(index)));
        give(&Fake, &exact(many.collect())).unwrap_err();
    }

    #[test]
    fn a_page_ends_and_says_nothing_of_the_rest() {
        let answer = give(&Fake, &range(20, u64::MAX, 0)).unwrap();
        assert_eq!(answer.absent.len(), ENTRIES_MAX);
    }
}

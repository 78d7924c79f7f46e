//! The asker's side: the entries of damaged places, from whichever peer has them.
//!
//! Promises: at most a page and what waits to be written is in memory; a peer that is down costs one timeout a page;
//! what comes is checked against what was asked for. Must not know: files.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use inkstone_proto::{peer_v1 as peer, v1};
use inkstone_storage::error::{EntryIdentity, FaultyRange, Known};
use inkstone_storage::limits::REPLICATION_SIZE_MAX;
use inkstone_storage::types::Entry;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::give::{ENTRIES_MAX, is_identical};
use crate::raft::wire::{self, Malformed};
use crate::raft::{Peers, Purpose};

/// How long a peer may take for one page: it may read a segment's headers for it first.
const PAGE_TIMEOUT: Duration = Duration::from_secs(5);
/// Entries that are fetched and not yet written.
const WAITING_MAX: usize = 2;

/// Asks other nodes for entries. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Fetcher {
    peers: Peers,
    node_id: u64,
    nodes: Arc<Mutex<BTreeMap<u64, v1::NodeInfo>>>,
    /// Whom to ask first: another one each time, so that one that gives what is refused is not asked for ever.
    turn: Arc<AtomicUsize>,
}

/// What could not be had, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lacking {
    /// The first index.
    pub(crate) index: Option<u64>,
    /// What each peer said of it.
    pub(crate) answers: Vec<String>,
    /// How many of them said that they have purged it.
    purged: usize,
}

/// What a peer said of an entry that it did not give.
enum Said {
    Absent(peer::Absence),
    /// Nothing that says why.
    Else(String),
}

impl Lacking {
    fn note(&mut self, index: u64, node: u64, said: Said) {
        // Of the first one alone: for the others it will be the same.
        if *self.index.get_or_insert(index) != index {
            return;
        }
        let answer = match said {
            Said::Absent(why) => {
                self.purged += usize::from(why == peer::Absence::Purged);
                absence(why).to_owned()
            }
            Said::Else(answer) => answer,
        };
        self.answers.push(format!("node {node}: {answer}"));
    }

    /// Whether every peer has answered, and has purged it: nobody will ever give it.
    pub(crate) fn is_purged(&self) -> bool {
        self.purged > 0 && self.purged == self.answers.len()
    }
}

impl std::fmt::Display for Lacking {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.index {
            None => out.write_str("no other node is known"),
            Some(index) => write!(out, "entry {index} ({})", self.answers.join(", ")),
        }
    }
}

/// One request's answer, checked.
pub(super) struct Page {
    pub(super) entries: Vec<Entry>,
    pub(super) absent: Vec<(u64, peer::Absence)>,
    /// The last entry that the one who answers knows to be committed.
    pub(super) committed_index: Option<u64>,
}

impl Fetcher {
    /// Knows nobody yet.
    pub(crate) fn new(peers: Peers, node_id: u64) -> Self {
        Self {
            peers,
            node_id,
            nodes: Arc::default(),
            turn: Arc::default(),
        }
    }

    /// This node.
    pub(super) fn node_id(&self) -> u64 {
        self.node_id
    }

    /// These are nodes of the cluster, as they are reached now.
    pub(crate) fn learn(&self, nodes: impl IntoIterator<Item = v1::NodeInfo>) {
        let mut known = self.nodes.lock();
        let others = nodes.into_iter().filter(|node| node.id != self.node_id);
        known.extend(others.map(|node| (node.id, node)));
    }

    /// Everybody that is known, but this node.
    pub(crate) fn nodes(&self) -> Vec<v1::NodeInfo> {
        self.nodes.lock().values().cloned().collect()
    }

    /// Fetches the entries of these faults, in the order of their indexes, into the channel that it returns. What nobody
    /// gives is left out, and named when the channel has ended. A range that must be written back together and is not to be
    /// had as a whole ends the stream in its middle.
    pub(crate) fn fetch(
        &self,
        faults: Vec<FaultyRange>,
    ) -> (mpsc::Receiver<Entry>, tokio::task::JoinHandle<Lacking>) {
        let (entries, fetched) = mpsc::channel(WAITING_MAX);
        let fetcher = self.clone();
        let fetching = tokio::spawn(async move {
            let mut lacking = Lacking::default();
            for fault in &faults {
                let goes_on = match &fault.known {
                    Known::Identity(known) => {
                        fetcher.fetch_exact(known, &entries, &mut lacking).await
                    }
                    Known::Chain { after, .. } => {
                        let range = (fault.first, fault.last, *after);
                        fetcher.fetch_range(range, &entries, &mut lacking).await
                    }
                    Known::Nothing => true,
                };
                if !goes_on {
                    break;
                }
            }
            lacking
        });
        (fetched, fetching)
    }

    /// Whom to ask, in turn.
    pub(super) fn in_turn(&self) -> Vec<v1::NodeInfo> {
        let mut nodes = self.nodes();
        if !nodes.is_empty() {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % nodes.len();
            nodes.rotate_left(turn);
        }
        nodes
    }

    /// Fetches entries with known identities; those that nobody has are left out. False: nobody takes any more.
    async fn fetch_exact(
        &self,
        known: &[EntryIdentity],
        entries: &mpsc::Sender<Entry>,
        lacking: &mut Lacking,
    ) -> bool {
        let mut rest = known;
        while !rest.is_empty() {
            let (asked, behind) = rest.split_at(page_length(rest));
            rest = behind;
            for entry in self.exact_page(asked, lacking).await.into_values() {
                if entries.send(entry).await.is_err() {
                    return false;
                }
            }
        }
        true
    }

    /// One page's worth of entries, each from whoever has it.
    async fn exact_page(
        &self,
        asked: &[EntryIdentity],
        lacking: &mut Lacking,
    ) -> BTreeMap<u64, Entry> {
        let mut found = BTreeMap::new();
        let mut said: Vec<(u64, u64, Said)> = Vec::new();
        for node in self.in_turn() {
            let mut absent = BTreeMap::new();
            loop {
                let wanted = asked.iter().filter(|known| {
                    let index = &known.id.index;
                    !found.contains_key(index) && !absent.contains_key(index)
                });
                let wanted: Vec<_> = wanted.map(identity_to_wire).collect();
                if wanted.is_empty() {
                    break;
                }
                let first = wanted.first().and_then(|wanted| wanted.id);
                let first = first.map_or(0, |id| id.index);
                let request = peer::FetchEntriesRequest {
                    exact: wanted.clone(),
                    ..peer::FetchEntriesRequest::default()
                };
                match self.ask(&node, request).await {
                    Ok(page) => {
                        let before = found.len() + absent.len();
                        let entries = page.entries.into_iter().filter(|entry| {
                            wanted.iter().any(|wanted| is_identical(wanted, entry))
                        });
                        found.extend(entries.map(|entry| (entry.id.index, entry)));
                        absent.extend(page.absent);
                        if found.len() + absent.len() == before {
                            let answer = "its answer is not what was asked for";
                            said.push((first, node.id, Said::Else(answer.to_owned())));
                            break;
                        }
                    }
                    Err(answer) => {
                        said.push((first, node.id, Said::Else(answer)));
                        break;
                    }
                }
            }
            for (index, why) in absent {
                said.push((index, node.id, Said::Absent(why)));
            }
            if found.len() == asked.len() {
                break;
            }
        }
        // What one node lacks another one may have given since.
        said.retain(|(index, ..)| !found.contains_key(index));
        for (index, node, answer) in said {
            lacking.note(index, node, answer);
        }
        found
    }

    /// Fetches a range as a whole. False: it cannot be had, or nobody takes any more.
    async fn fetch_range(
        &self,
        (first, last, chain_crc_after): (u64, u64, u32),
        entries: &mpsc::Sender<Entry>,
        lacking: &mut Lacking,
    ) -> bool {
        let mut next = first;
        while next <= last {
            let mut page = Vec::new();
            for node in self.in_turn() {
                let range = Some(peer::FetchRange {
                    first: next,
                    last,
                    chain_crc_after,
                });
                let request = peer::FetchEntriesRequest {
                    range,
                    ..peer::FetchEntriesRequest::default()
                };
                match self.ask(&node, request).await {
                    Ok(answer) => {
                        // As far as they are neighbours, from the next one on.
                        let neighbours = answer.entries.into_iter().zip(next..=last);
                        page = neighbours
                            .take_while(|(entry, index)| entry.id.index == *index)
                            .map(|(entry, _)| entry)
                            .collect();
                        if !page.is_empty() {
                            break;
                        }
                        let why = answer.absent.first().map(|(_, why)| Said::Absent(*why));
                        let unasked =
                            || Said::Else("its answer is not what was asked for".to_owned());
                        lacking.note(next, node.id, why.unwrap_or_else(unasked));
                    }
                    Err(answer) => lacking.note(next, node.id, Said::Else(answer)),
                }
            }
            if page.is_empty() {
                return false;
            }
            for entry in page {
                next = entry.id.index + 1;
                if entries.send(entry).await.is_err() {
                    return false;
                }
            }
        }
        true
    }

    /// Asks one node for one page.
    pub(super) async fn ask(
        &self,
        node: &v1::NodeInfo,
        request: peer::FetchEntriesRequest,
    ) -> Result<Page, String> {
        let request = peer::FetchEntriesRequest {
            header: Some(self.peers.header(node.id)),
            ..request
        };
        let mut client = self.peers.client(&node.peer_address, Purpose::Repair);
        let answer = timeout(PAGE_TIMEOUT, client.fetch_entries(request))
            .await
            .map_err(|_| "no answer in time".to_owned())?
            .map_err(|status| format!("no answer: {}", status.message()))?
            .into_inner();
        let entries = answer.entries.into_iter().map(entry_from_wire);
        let absent = answer.absent.iter();
        Ok(Page {
            entries: entries
                .collect::<Result<_, _>>()
                .map_err(|error| error.to_string())?,
            absent: absent.map(|absent| (absent.index, absent.why())).collect(),
            committed_index: answer.committed_index,
        })
    }
}

/// How many of the first entries make about a page.
fn page_length(known: &[EntryIdentity]) -> usize {
    let mut size = 0;
    let fits = known.iter().take(ENTRIES_MAX).take_while(|known| {
        let fits = size < REPLICATION_SIZE_MAX;
        size += known.payload_size as usize;
        fits
    });
    fits.count()
}

pub(super) fn identity_to_wire(known: &EntryIdentity) -> peer::EntryIdentity {
    peer::EntryIdentity {
        id: Some(wire::id_to_wire(known.id)),
        kind: u32::from(known.kind as u8),
        payload_size: known.payload_size,
        payload_crc: known.payload_crc,
    }
}

pub(super) fn absence(why: peer::Absence) -> &'static str {
    match why {
        peer::Absence::Unspecified => "does not give it",
        peer::Absence::BeyondEnd => "does not have it",
        peer::Absence::Purged => "has purged it",
        peer::Absence::Damaged => "it is damaged there, too",
        peer::Absence::Other => "another entry stands there",
        peer::Absence::Uncommitted => "does not know it to be committed",
    }
}

/// An entry with its payload byte for byte, its crc verified.
fn entry_from_wire(fetched: peer::FetchedEntry) -> Result<Entry, Malformed> {
    let missing = || Malformed("the field `entry` is missing".to_owned());
    wire::store_entry_from_wire(fetched.entry.ok_or_else(missing)?)
}

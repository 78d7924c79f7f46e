//! Repair of sealed segments while the node takes part: what is damaged is fetched from the other members and written
//! back.
//!
//! Promises: one segment at a time, with a few entries in memory; what is written is proven by the store to be what was
//! there; damage is tried again until it is gone. Raft never hears of damage in a sealed segment: its readers wait here.
//! Must not know: how damage is found, gRPC services.
//!
//! What Raft's readers do when nobody gives the entry, from openraft's source: an error of a reader is fatal to it, and
//! the process would end, find nothing at its start (a sealed segment is not read then), and end again. A replication
//! reader may return nothing, which openraft takes for a heartbeat and asks again; the task stands for one follower alone,
//! and is joined elsewhere when the leader steps down. So that reader waits a while and returns nothing: that follower
//! stays behind, the others do not notice. Leadership is handed to the follower that is furthest only where that helps:
//! when this node cannot write back what others gave. (Where nobody has the entry, leaders would hand it around in vain.)
//! Apply has nobody else to go on: it waits, and what was applied stays readable; a leader hands over.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use inkstone_proto::v1;
use inkstone_storage::error::{Damage, Faults, ReadError};
use inkstone_storage::log::{Fault, Log, Lost};
use inkstone_storage::types::Entry;
use openraft::ServerState;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::blocking::Blocking;
use crate::clock::Clock;
use crate::raft::fetch::Fetcher;
use crate::raft::look::look;
use crate::raft::types::{Raft, RaftLogId};
use crate::raft::{Holders, Peers, Repairs, snapshot, wire};
use crate::scrub::Scrub;

/// Segments that readers have found damaged and that wait for repair; the scrubber finds the rest again.
const SUSPECTS_MAX: usize = 64;
/// Before what could not be repaired is tried again: at first, and at most.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long a reader waits for a repair before it does without.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries to hand leadership over.
const HAND_OVER_PAUSE: Duration = Duration::from_secs(10);

/// Repairs sealed segments of a log that runs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Repairer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    log: Log,
    fetcher: Fetcher,
    repairs: Repairs,
    clock: Clock,
    /// Reads and writes whole segments, beside everybody else's reads.
    blocking: Blocking,
    turn: tokio::sync::Mutex<()>,
    suspects: mpsc::Sender<u64>,
    /// Taken by the task that repairs them.
    suspected: Mutex<Option<mpsc::Receiver<u64>>>,
    raft: OnceLock<Raft>,
    handed_over: Mutex<Option<Instant>>,
    closing: watch::Sender<bool>,
}

/// Who of Raft's needs an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// It reads for one follower: it returns nothing after a while, and is asked again.
    Replication,
    /// It reads for this node's own state: it waits as long as it takes.
    Apply,
}

/// What a repair of one segment came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Entries that were written back.
    pub entries: u64,
    /// What is still damaged, and why, for people.
    pub lacking: Option<String>,
    /// Whether it is for something else than that nobody gave it.
    pub failed_here: bool,
}

impl Repairer {
    /// For this log. Until Raft runs, the members are those of its checkpoint.
    pub(super) fn new(
        log: Log,
        peers: Peers,
        node_id: u64,
        repairs: Repairs,
        clock: Clock,
    ) -> Self {
        let fetcher = Fetcher::new(peers, node_id);
        if let Some(Ok(known)) = log.checkpoint().as_ref().map(snapshot::membership) {
            fetcher.learn(known.nodes);
        }
        let (suspects, suspected) = mpsc::channel(SUSPECTS_MAX);
        Self {
            inner: Arc::new(Inner {
                log,
                fetcher,
                repairs,
                clock,
                blocking: Blocking::new(1, SUSPECTS_MAX),
                turn: tokio::sync::Mutex::default(),
                suspects,
                suspected: Mutex::new(Some(suspected)),
                raft: OnceLock::new(),
                handed_over: Mutex::new(None),
                closing: watch::Sender::new(false),
            }),
        }
    }

    /// Raft runs: it knows the members from here on.
    pub(super) fn set_raft(&self, raft: Raft) {
        assert!(self.inner.raft.set(raft).is_ok(), "a group has one raft");
    }

    /// Nobody waits any more: the node stops.
    pub(super) fn close(&self) {
        self.inner.closing.send_replace(true);
    }

    /// A reader has found damage, in the entry with that index if it is known: the status says so from here on, and it is
    /// looked at soon.
    pub fn suspect(&self, error: &ReadError, index: Option<u64>) {
        let ReadError::Damaged(damage) = error else {
            return;
        };
        self.inner.repairs.meet(damage, index);
        if let Some(index) = segment_of(&damage.file)
            && self.inner.suspects.try_send(index).is_err()
        {
            tracing::debug!(%damage, "too much is suspected already; it is found again");
        }
    }

    /// Whether another member still has the entry of these records.
    pub async fn look_for(&self, lost: &Lost) -> Holders {
        let members = self.members();
        self.inner.fetcher.who_has(&lost.entry, &members).await
    }

    /// Repairs the sealed segment that holds the entry at `index`, as far as the other members have what it lacks. One at
    /// a time: the others wait. A caller that goes away does not end it, nor its turn: what is being written is written.
    pub async fn repair(&self, index: u64) -> Repaired {
        let repairer = self.clone();
        let work = tokio::spawn(async move { repairer.repair_in_turn(index).await });
        work.await.unwrap_or_else(|lost| Repaired {
            entries: 0,
            lacking: Some(lost.to_string()),
            failed_here: true,
        })
    }

    async fn repair_in_turn(&self, index: u64) -> Repaired {
        let _turn = self.inner.turn.lock().await;
        let repaired = self.repair_alone(index).await;
        let repaired = repaired.unwrap_or_else(|why| Repaired {
            entries: 0,
            lacking: Some(why),
            failed_here: true,
        });
        let waits_for = repaired.lacking.clone().unwrap_or_default();
        self.inner.repairs.wait_for(waits_for);
        repaired
    }

    async fn repair_alone(&self, index: u64) -> Result<Repaired, String> {
        let inner = &self.inner;
        self.learn_members();
        let log = inner.log.clone();
        let look = move || look_at(&log, index);
        let found = inner.blocking.run(look).await;
        let found = found.map_err(|busy| busy.to_string())?;
        let Some((file, faults)) = found.map_err(|error| error.to_string())? else {
            return Err("it is in no sealed segment: a restart repairs it".to_owned());
        };
        inner.repairs.set_segment(file.clone(), &faults);
        if faults.is_empty() {
            return Ok(Repaired::default());
        }
        let (mut fetched, fetching) = inner.fetcher.fetch(faults.list);
        let given = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&given);
        let (done, durable) = oneshot::channel();
        let log = inner.log.clone();
        let written = inner.blocking.run(move || {
            let entries = std::iter::from_fn(|| -> Option<Entry> {
                let entry = fetched.blocking_recv()?;
                counted.fetch_add(1, Ordering::Relaxed);
                Some(entry)
            });
            // Nobody is left to tell when the receiver is gone: the node stops.
            log.repair_sealed(
                index,
                entries,
                Box::new(move |result| drop(done.send(result))),
            )
        });
        let written = written.await.map_err(|busy| busy.to_string())?;
        let lacking = fetching.await.ok().filter(|it| it.index.is_some());
        let lacking = lacking.map(|it| it.to_string());
        if let Err(error) = written {
            return match lacking {
                None => Err(error.to_string()),
                lacking => Ok(Repaired {
                    lacking,
                    ..Repaired::default()
                }),
            };
        }
        match durable.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("the log has stopped".to_owned()),
        }
        if lacking.is_none() {
            inner.repairs.set_segment(file, &Faults::default());
        }
        let entries = given.load(Ordering::Relaxed);
        inner.repairs.note(entries, inner.clock.unix_nanos());
        tracing::info!(
            index,
            entries,
            "a sealed segment was repaired from other nodes"
        );
        Ok(Repaired {
            entries,
            lacking,
            failed_here: false,
        })
    }

    fn learn_members(&self) {
        self.inner.fetcher.learn(self.members());
    }

    /// As Raft knows them; none before it runs.
    fn members(&self) -> Vec<v1::NodeInfo> {
        let Some(raft) = self.inner.raft.get() else {
            return Vec::new();
        };
        look(&raft.server_metrics(), |metrics| {
            let members = metrics.membership_config.membership().nodes();
            members
                .map(|(id, member)| wire::node_to_wire(*id, member))
                .collect()
        })
    }

    /// Starts the task that repairs what the scrubber and readers find, until `stop` says so.
    ///
    /// # Panics
    /// When called twice.
    pub fn start(&self, scrub: Scrub, stop: watch::Receiver<bool>) -> JoinHandle<()> {
        let suspected = self.inner.suspected.lock().take();
        let suspected = suspected.expect("a node repairs in one task");
        tokio::spawn(self.clone().run(scrub, suspected, stop))
    }

    async fn run(
        self,
        scrub: Scrub,
        mut suspected: mpsc::Receiver<u64>,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut pause = PAUSE_FIRST;
        let mut one = None;
        let mut found = scrub.subscribe();
        loop {
            found.borrow_and_update();
            let damaged = damaged_segments(&scrub.status().faults);
            let repairs = &self.inner.repairs;
            let mut wanted: Vec<u64> = damaged.iter().map(|(_, index, _)| *index).collect();
            repairs.set_scrubbed(damaged.into_iter().map(|(file, _, count)| (file, count)));
            repairs.forget(|file| {
                segment_of(file).is_none_or(|base| !self.inner.log.holds_segment(base))
            });
            let met = repairs.met();
            let met = met.iter().filter_map(|file| segment_of(file));
            wanted.extend(
                met.filter(|index| !wanted.contains(index))
                    .collect::<Vec<_>>(),
            );
            let is_damaged = !wanted.is_empty();
            while let Ok(index) = suspected.try_recv() {
                if !wanted.contains(&index) {
                    wanted.push(index);
                }
            }
            wanted.extend(one.take().filter(|index| !wanted.contains(index)));
            if self.repair_all(&wanted, &scrub).await {
                pause = PAUSE_FIRST;
            }
            tokio::select! {
                changed = found.changed() => if changed.is_err() { return },
                index = suspected.recv() => one = index,
                () = sleep(pause), if is_damaged => pause = (pause * 2).min(PAUSE_MAX),
                // A sender that is gone is a node that is gone.
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Repairs these segments, one after the other: whether anything was written back.
    async fn repair_all(&self, indexes: &[u64], scrub: &Scrub) -> bool {
        let mut any = false;
        for index in indexes {
            let repaired = self.repair(*index).await;
            any |= repaired.entries > 0;
            if let Some(lacking) = repaired.lacking {
                tracing::warn!(
                    index,
                    lacking,
                    "a sealed segment stays damaged; it is tried again"
                );
            }
        }
        if any {
            scrub.look_again();
        }
        any
    }

    /// For a reader that cannot go on without what is damaged: returns when it was tried to repair it.
    pub async fn repair_for_reader(&self, error: &ReadError) {
        if let ReadError::Damaged(damage) = error
            && let Some(index) = segment_of(&damage.file)
        {
            self.repair(index).await;
        }
    }

    /// For a reader of Raft's that met this damage: whether it was repaired, so that it is worth reading again. An error
    /// when it is in no sealed segment: nothing can be repaired before a restart.
    ///
    /// `reader`: apply cannot go on without; then leadership is handed over in any case, for another
    /// node may have applied the entry before it rotted there.
    pub(super) async fn repair_for_raft(
        &self,
        damage: &Damage,
        reader: Reader,
    ) -> Result<bool, String> {
        let index = segment_of(&damage.file).ok_or_else(|| damage.to_string())?;
        let log = self.inner.log.clone();
        if !log.is_sealed(index) {
            return Err(damage.to_string());
        }
        let known = self.inner.repairs.status().waits_for;
        let mut closing = self.inner.closing.subscribe();
        let repaired = tokio::select! {
            repaired = timeout(PATIENCE, self.repair(index)) => repaired,
            _ = closing.wait_for(|closing| *closing) => return Err("the node stops".to_owned()),
        };
        let (lacking, failed_here) = match repaired {
            Ok(Repaired { lacking: None, .. }) => return Ok(true),
            Ok(repaired) => (repaired.lacking.unwrap_or_default(), repaired.failed_here),
            Err(_) => ("its end: it takes longer than usual".to_owned(), true),
        };
        if lacking != known {
            tracing::error!(
                %damage,
                lacking,
                "raft needs an entry of a damaged sealed segment; its repair is tried again and again"
            );
        }
        // Where nobody gave it another leader would lack it as well.
        if reader == Reader::Apply || failed_here {
            self.hand_over().await;
        }
        tokio::select! {
            () = sleep(PAUSE_FIRST) => Ok(false),
            _ = closing.wait_for(|closing| *closing) => Err("the node stops".to_owned()),
        }
    }

    /// Gives leadership to the follower that is furthest: a leader that cannot read its log serves neither followers that
    /// are behind nor, once its apply waits, anybody.
    async fn hand_over(&self) {
        let Some(raft) = self.inner.raft.get() else {
            return;
        };
        let now = self.inner.clock.instant();
        let furthest = look(&raft.metrics(), |metrics| {
            if metrics.state != ServerState::Leader {
                return None;
            }
            let own = metrics.id;
            let voters: Vec<u64> = metrics.membership_config.membership().voter_ids().collect();
            let followers = metrics.replication.iter().flatten();
            followers
                .filter(|(id, _)| **id != own && voters.contains(*id))
                .max_by_key(|(_, matched)| matched.as_ref().map(RaftLogId::index))
                .map(|(id, _)| *id)
        });
        let Some(to) = furthest else { return };
        {
            let mut last = self.inner.handed_over.lock();
            if last.is_some_and(|last| now < last + HAND_OVER_PAUSE) {
                return;
            }
            *last = Some(now);
        }
        tracing::warn!(
            to,
            "this node leads and cannot read its log: leadership is handed over"
        );
        if let Err(fatal) = raft.trigger().transfer_leader(to).await {
            tracing::warn!(%fatal, "raft has stopped");
        }
    }
}

/// The damaged entries of the sealed segment that holds the entry at `index`, and that segment's file.
fn look_at(log: &Log, index: u64) -> Result<Option<(PathBuf, Faults)>, ReadError> {
    let file = log.sealed_file(index);
    Ok(file.zip(log.faulty_sealed(index)?))
}

/// The first entry of a segment: its file's name.
fn segment_of(file: &Path) -> Option<u64> {
    file.file_stem()
        .and_then(|stem| stem.to_str())
        .and_then(|stem| stem.parse().ok())
}

/// The segments with damaged entries: the file, an entry of each, and how many are damaged.
fn damaged_segments(faults: &[Fault]) -> Vec<(PathBuf, u64, u64)> {
    let mut segments: Vec<(&Path, u64, u64)> = Vec::new();
    for fault in faults {
        let Some(entries) = &fault.entries else {
            continue;
        };
        let count = entries.end() - entries.start() + 1;
        match segments
            .iter_mut()
            .find(|(file, ..)| *file == fault.damage.file)
        {
            Some((_, _, known)) => *known += count,
            None => segments.push((&fault.damage.file, *entries.start(), count)),
        }
    }
    segments
        .into_iter()
        .map(|(file, index, count)| (file.to_owned(), index, count))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(file: &str, entries: Option<std::ops::RangeInclusive<u64>>) -> Fault {
        Fault {
            damage: Damage {
                file: file.into(),
                position: 0,
                what: String::new(),
            },
            entries,
        }
    }

    #[test]
    fn each_segment_with_damaged_entries_is_named_once_by_one_of_them() {
        let faults = [
            fault("log/00000000000000000000.seg", Some(4..=4)),
            fault("log/00000000000000000000.seg", Some(7..=9)),
            // Bad rows of a footer are built again without anybody's help.
            fault("log/00000000000000000020.seg", None),
            fault("log/00000000000000000040.seg", Some(41..=41)),
        ];
        let first = "log/00000000000000000000.seg".into();
        let other = "log/00000000000000000040.seg".into();
        assert_eq!(damaged_segments(&faults), [(first, 4, 4), (other, 41, 1)]);
    }

    #[test]
    fn a_segment_is_told_by_its_file() {
        let damage = fault("data/group-1/log/00000000000000000040.seg", None).damage;
        assert_eq!(segment_of(&damage.file), Some(40));
        assert_eq!(
            segment_of(&fault("data/group-1/hard-state", None).damage.file),
            None
        );
    }
}

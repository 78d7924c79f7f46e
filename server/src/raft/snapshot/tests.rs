//! What a crash between a snapshot and its purge leaves, and what an install leaves of a log that is shorter, longer, or of
//! another history: reopened, and by the real store.

use std::path::Path;

use inkstone_storage::log::{LogOptions, Spare};
use inkstone_storage::types::{BatchHeader, Codec, Entry, EntryKind, Identity, Producer};

use super::*;
use crate::blocking::Blocking;
use crate::raft::state_machine::StateMachine;

fn open(dir: &Path) -> Log {
    Log::open(LogOptions {
        dir: dir.join("group-1"),
        identity: Identity {
            cluster_id: [7; 16],
            node_id: 1,
        },
        group: 1,
        segment_size: 64 << 10,
        tail_size: 1 << 20,
        queue_size: 1 << 20,
        free_size_min: 0,
        spare: Spare::Never,
    })
    .expect("it opens")
}

fn id(term: u64, index: u64) -> EntryId {
    EntryId {
        term,
        node: 1,
        index,
    }
}

async fn append(log: &Log, term: u64, indexes: std::ops::Range<u64>) {
    let entries = indexes.map(|index| Entry {
        id: id(term, index),
        kind: EntryKind::Blank,
        payload: Bytes::new(),
    });
    let entries = entries.collect();
    durably(|done| log.append(entries, done)).await.unwrap();
}

const CHAIN: u32 = 0xfeed;
const LAST: u64 = 40;

/// The snapshot of a leader of term 2, as of entry 40.
fn from_leader() -> Checkpoint {
    let mut state = State::default();
    state.create_log("a", 5, Retention::default()).unwrap();
    let checkpoint = encode(id(2, LAST), &StoredMembership::default(), &state);
    with_chain(&checkpoint, Some(CHAIN))
}

/// After a crash between the two steps of an install, over a log of these entries.
async fn crashed_between(term: u64, entries: u64) -> (tempfile::TempDir, Log) {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    append(&log, term, 0..entries).await;
    log.save_snapshot(&from_leader()).unwrap();
    drop(log);
    let log = open(dir.path());
    complete_at_open(&log).await.unwrap();
    (dir, log)
}

#[tokio::test]
async fn after_a_crash_before_the_purge_a_shorter_log_goes_on_behind_the_snapshot_with_its_chain() {
    let (_dir, log) = crashed_between(1, 10).await;
    let state = log.state();
    assert_eq!(
        (state.purged, state.last),
        (Some(id(2, LAST)), Some(id(2, LAST)))
    );
    assert_eq!((state.first_index, state.chain_crc), (LAST + 1, CHAIN));
    let machine = StateMachine::open(log.clone(), Blocking::new(1, 4)).unwrap();
    assert_eq!(machine.applied().index(), LAST);
    assert!(machine.shared().read().log_named("a").is_some());
    append(&log, 2, LAST + 1..LAST + 3).await;
}

#[tokio::test]
async fn after_a_crash_before_the_purge_a_longer_log_keeps_what_is_behind_the_snapshot() {
    let (dir, log) = crashed_between(2, 60).await;
    assert_eq!(log.state().purged, Some(id(2, LAST)));
    assert_eq!(log.state().last, Some(id(2, 59)));
    let chain = log.state().chain_crc;
    drop(log);
    let log = open(dir.path());
    assert_eq!(log.state().first_index, LAST + 1);
    assert_eq!(log.state().chain_crc, chain);
}

#[tokio::test]
async fn after_a_crash_before_the_purge_nothing_of_another_history_is_left() {
    let (dir, log) = crashed_between(1, 60).await;
    assert_eq!(log.state().last, Some(id(2, LAST)));
    assert_eq!(log.state().chain_crc, CHAIN);
    drop(log);
    let log = open(dir.path());
    assert_eq!(log.state().last, Some(id(2, LAST)));
    assert_eq!(log.state().chain_crc, CHAIN, "kept");
    append(&log, 3, LAST + 1..LAST + 2).await;
}

#[tokio::test]
async fn an_older_snapshot_never_takes_a_newer_ones_place() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    append(&log, 2, 0..60).await;
    log.save_snapshot(&from_leader()).unwrap();
    let older = encode(id(2, 20), &StoredMembership::default(), &State::default());
    log.save_snapshot(&older).unwrap();
    assert_eq!(log.snapshot(), Some(from_leader()));
    drop(log);
    assert_eq!(open(dir.path()).snapshot(), Some(from_leader()));
}

/// Entries of several segments, applied, with a checkpoint at each boundary.
async fn fill(log: &Log) {
    let mut state = State::default();
    state.create_log("a", 5, Retention::default()).unwrap();
    for index in 0..4_000 {
        append(log, 2, index..index + 1).await;
        if log.is_boundary(index) {
            let applied = id(2, index - 1);
            log.seal(index, encode(applied, &StoredMembership::default(), &state));
        }
        log.note_applied(index, &[]).unwrap();
    }
    durably(|done| log.append(Vec::new(), done)).await.unwrap();
}

#[tokio::test]
async fn a_lost_snapshot_is_had_from_its_boundary_and_nothing_more_is_purged() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log).await;
    let boundaries = log.boundaries();
    assert!(boundaries.len() > 2);
    let first = boundaries[0];
    let found = log.checkpoint_at(first).unwrap().unwrap();
    let snapshot = with_chain(&found, log.chain_crc_at(first));
    log.save_snapshot(&snapshot).unwrap();
    durably(|done| log.purge(snapshot.applied, done))
        .await
        .unwrap();
    let purged = log.state();
    drop(log);
    let file = dir.path().join("group-1/snapshot");
    let rots: [fn(&Path); 2] = [
        |file| std::fs::write(file, []).unwrap(),
        |file| std::fs::write(file, vec![0; 100]).unwrap(),
    ];
    for rot in rots {
        rot(&file);
        for _ in 0..2 {
            let log = open(dir.path());
            settle_at_open(&log, &Blocking::new(1, 4)).await.unwrap();
            assert_eq!(log.snapshot(), Some(snapshot.clone()));
            assert_eq!(log.state(), purged);
        }
    }
    // With that boundary's checkpoint lost as well the next one is taken, and what is behind the purge stays.
    rot_both(
        &file,
        &dir.path().join(format!("group-1/log/{first:020}.ckpt")),
    );
    let log = open(dir.path());
    settle_at_open(&log, &Blocking::new(1, 4)).await.unwrap();
    assert_eq!(log.snapshot().unwrap().applied.index + 1, boundaries[1]);
    assert_eq!(log.state(), purged);
}

fn rot_both(snapshot: &Path, checkpoint: &Path) {
    std::fs::write(snapshot, vec![0; 100]).unwrap();
    std::fs::write(checkpoint, vec![0; 100]).unwrap();
}

#[test]
fn a_checkpoint_gives_back_the_state_with_its_receipts() {
    let mut state = State::default();
    let bounded = Retention::of(Some(7), Some(8));
    state.create_log("a", 5, Retention::default()).unwrap();
    state.create_log("b/c", 6, bounded).unwrap();
    for sequence in 0..20 {
        let header = BatchHeader {
            log: LogId(2),
            records: 3,
            producer: Some(Producer {
                id: 9,
                epoch: 1,
                sequence,
            }),
            expected_offset: None,
            append_time: 100,
            timestamp_min: 0,
            timestamp_max: 0,
            codec: Codec::Plain,
            encoded_size: 0,
            plain_size: 0,
            crc: 0,
        };
        state.apply_batch(&header).unwrap();
    }
    let applied = EntryId {
        term: 3,
        node: 1,
        index: 40,
    };
    let checkpoint = encode(applied, &StoredMembership::default(), &state);
    assert_eq!(chain_of(&checkpoint).unwrap(), None);
    let sent = with_chain(&checkpoint, Some(0xfeed));
    assert_eq!(chain_of(&sent).unwrap(), Some(0xfeed));
    for checkpoint in [checkpoint, sent] {
        let decoded = decode(&checkpoint).unwrap();
        assert_eq!(decoded, (StoredMembership::default(), state.clone()));
    }
}

#[test]
fn the_largest_state_is_a_snapshot_that_can_be_sent() {
    use inkstone_storage::limits::{
        LOG_NAME_SIZE_MAX, LOGS_MAX, PRODUCER_RECEIPTS_MAX, PRODUCERS_TOTAL_MAX, SNAPSHOT_SIZE_MAX,
    };
    let log = peer::LogState {
        id: u64::MAX,
        name: "x".repeat(LOG_NAME_SIZE_MAX),
        first_offset: u64::MAX,
        next_offset: u64::MAX,
        created_time: -1,
        last_append_time: -1,
        retention: Some(peer::Retention {
            max_age_ms: Some(u64::MAX),
            max_bytes: Some(u64::MAX),
        }),
    };
    let receipt = peer::Receipt {
        sequence: u64::MAX,
        first_offset: u64::MAX,
        next_offset: u64::MAX,
        append_time: -1,
    };
    let producer = peer::ProducerState {
        log_id: u64::MAX,
        producer_id: u64::MAX,
        epoch: u32::MAX,
        receipts: vec![receipt; PRODUCER_RECEIPTS_MAX],
        last_append_time: -1,
    };
    let size = |checkpoint: peer::Checkpoint| checkpoint.encoded_len();
    let of_log = size(peer::Checkpoint {
        logs: vec![log],
        ..peer::Checkpoint::default()
    });
    let of_producer = size(peer::Checkpoint {
        producers: vec![producer],
        ..peer::Checkpoint::default()
    });
    // Members are a few; a mebibyte is plenty for them and the single fields.
    let largest = LOGS_MAX * of_log + PRODUCERS_TOTAL_MAX * of_producer + (1 << 20);
    assert!(largest <= SNAPSHOT_SIZE_MAX, "{largest} bytes");
}

#[test]
fn a_body_of_another_entry_is_refused() {
    let applied = EntryId {
        term: 3,
        node: 1,
        index: 40,
    };
    let checkpoint = encode(applied, &StoredMembership::default(), &State::default());
    let other = EntryId {
        index: 41,
        ..applied
    };
    let moved = Checkpoint {
        applied: other,
        ..checkpoint
    };
    assert!(decode(&moved).unwrap_err().0.contains("another entry"));
}

//! The log engine as its callers see it: order, durability across reopening, rolling, sealing, truncating, purging.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use crate::support::*;
use inkstone_storage::error::{OpenError, ReadError};
use inkstone_storage::log::Log;
use inkstone_storage::types::{BatchOutcome, EntryId, LogId, Vote};

const LOG: LogId = LogId(4);
const OTHER: LogId = LogId(9);

fn taken(base_offset: u64) -> BatchOutcome {
    BatchOutcome::Taken { base_offset }
}

/// Appends `count` entries of one batch of two records each, applied as they are appended; sealed at boundaries.
fn fill(log: &Log, first: u64, count: u64) {
    for index in first..first + count {
        let bodies = vec![noise(index, 700), format!("record of {index}").into_bytes()];
        append(log, vec![batches(index, &[(LOG, bodies)])]);
        if log.is_boundary(index) {
            log.seal(index, checkpoint(index - 1));
        }
        log.note_applied(index, &[taken(2 * index)])
            .expect("readable");
    }
    barrier(log);
}

#[test]
fn entries_survive_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let entries: Vec<_> = (0..50_u64)
        .map(|index| command(index, vec![b'x'; (index * 37 % 900) as usize]))
        .collect();
    let log = open(dir.path());
    append(&log, entries[..20].to_vec());
    append(&log, entries[20..].to_vec());
    assert_eq!(all(&log), entries);
    let state = log.state();
    assert_eq!(state.durable, Some(id(49)));
    drop(log);
    let log = open(dir.path());
    assert_eq!(all(&log), entries);
    assert_eq!(log.state(), state);
    assert!(segments(dir.path()).len() > 1, "the log has rolled");
    assert_eq!(log.terms(), vec![id(0)]);
}

#[test]
fn an_entry_larger_than_a_segment_gets_one_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let entries = vec![
        command(0, "small"),
        command(1, vec![7; 100_000]),
        command(2, "small"),
    ];
    let log = open(dir.path());
    append(&log, entries.clone());
    drop(log);
    assert_eq!(all(&open(dir.path())), entries);
    assert_eq!(segments(dir.path()).len(), 3);
}

#[test]
fn callbacks_come_in_the_order_of_the_calls() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let order = Arc::new(Mutex::new(Vec::new()));
    for index in 0..200 {
        let noted = Arc::clone(&order);
        let seen = log.clone();
        let done = Box::new(move |outcome: Result<(), _>| {
            outcome.unwrap();
            assert!(seen.state().durable >= Some(id(index)));
            noted.lock().unwrap().push(index);
        });
        log.append(vec![command(index, vec![0; 300])], done)
            .unwrap();
        assert_eq!(log.state().last, Some(id(index)));
    }
    barrier(&log);
    assert_eq!(*order.lock().unwrap(), (0..200).collect::<Vec<_>>());
    assert!(log.has_room());
}

#[test]
fn the_tail_serves_what_is_recent_and_says_when_it_cannot() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(inkstone_storage::log::LogOptions {
        tail_size: 1500,
        ..options(dir.path())
    })
    .unwrap();
    append(
        &log,
        (0..10).map(|index| command(index, vec![1; 400])).collect(),
    );
    assert!(log.entries_in_tail(0, 10, 1 << 20).is_none());
    assert_eq!(log.entries_in_tail(9, 10, 0).unwrap().len(), 1);
    assert_eq!(log.entries_in_tail(10, 20, 0), Some(Vec::new()));
    assert_eq!(log.entries(0, 10, 900).unwrap().len(), 2);
    assert_eq!(all(&log).len(), 10);
}

#[test]
fn sealed_records_are_read_by_offset_before_and_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, 0, 100);
    let check = |log: &Log, end: u64| {
        let mut next = 0;
        while next < end {
            let chunk = log.read(LOG, next, u64::MAX, 3000).unwrap();
            for record in &chunk.records {
                assert_eq!(record.offset, next);
                if next % 2 == 1 {
                    let body = format!("record of {}", next / 2);
                    assert_eq!(record.body, body.as_bytes());
                }
                next += 1;
            }
            assert_eq!(chunk.next_offset, next);
        }
        assert!(log.read(LOG, end, u64::MAX, 1).unwrap().records.is_empty());
        assert!(log.read(OTHER, 0, u64::MAX, 1).unwrap().records.is_empty());
    };
    check(&log, 200);
    log.verify().unwrap();
    let before = log.state();
    drop(log);
    let log = open(dir.path());
    assert_eq!(log.state(), before);
    let found = log.checkpoint().unwrap();
    assert!(found.applied.index > 50);
    assert_eq!(found, checkpoint(found.applied.index));
    check(&log, 2 * (found.applied.index + 1));
    for index in found.applied.index + 1..100 {
        log.note_applied(index, &[taken(2 * index)]).unwrap();
    }
    check(&log, 200);
    assert_eq!(log.offset_at_time(LOG, 0, 30).unwrap(), Some(60));
    assert_eq!(log.offset_at_time(LOG, 61, 30).unwrap(), Some(61));
    assert_eq!(log.offset_at_time(LOG, 0, 99).unwrap(), Some(198));
    assert_eq!(log.offset_at_time(LOG, 0, 100).unwrap(), None);
    let entries = log.read_entries(0, 100, usize::MAX).unwrap();
    assert_eq!(entries.len(), 100);
    assert!(
        entries
            .iter()
            .all(|entry| entry.batches[0].1[0].offset == 2 * entry.index)
    );
}

#[test]
fn records_of_refused_batches_are_never_seen() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let body = |text: &str| vec![text.as_bytes().to_vec()];
    let parts = [
        (LOG, body("one")),
        (LOG, body("refused")),
        (OTHER, body("else")),
        (LOG, body("two")),
    ];
    append(&log, vec![batches(0, &parts)]);
    assert!(
        log.read(LOG, 0, 9, 99).unwrap().records.is_empty(),
        "not applied yet"
    );
    assert!(log.read_entries(0, 1, 99).unwrap()[0].batches.is_empty());
    log.note_applied(0, &[taken(0), BatchOutcome::Refused, taken(0), taken(1)])
        .unwrap();
    let check = |log: &Log| {
        let chunk = log.read(LOG, 0, u64::MAX, 1 << 20).unwrap();
        let bodies: Vec<_> = chunk
            .records
            .iter()
            .map(|record| &record.body[..])
            .collect();
        assert_eq!(bodies, [b"one", b"two"]);
        assert_eq!(log.read(OTHER, 0, 9, 99).unwrap().records.len(), 1);
        let entry = &log.read_entries(0, 1, 1 << 20).unwrap()[0];
        let offsets: Vec<_> = entry
            .batches
            .iter()
            .map(|(log, records)| (*log, records[0].offset))
            .collect();
        assert_eq!(offsets, [(LOG, 0), (OTHER, 0), (LOG, 1)]);
    };
    check(&log);
    let mut next = 1;
    while !log.is_boundary(next - 1) {
        append(&log, vec![command(next, vec![0; 3000])]);
        next += 1;
    }
    log.seal(next - 1, checkpoint(next - 2));
    barrier(&log);
    check(&log);
    drop(log);
    check(&open(dir.path()));
}

#[test]
fn a_read_stops_at_its_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, 0, 5);
    assert_eq!(log.read(LOG, 3, 6, usize::MAX).unwrap().records.len(), 3);
    assert_eq!(log.read(LOG, 3, 6, 0).unwrap().records.len(), 1);
    assert_eq!(log.read(LOG, 0, 10, 700).unwrap().records.len(), 1);
    assert_eq!(log.read(LOG, 0, 10, 900).unwrap().records.len(), 2);
}

#[test]
fn truncated_entries_do_not_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    append(
        &log,
        (0..60).map(|index| command(index, vec![1; 900])).collect(),
    );
    let files = segments(dir.path()).len();
    truncate(&log, Some(20));
    assert_eq!(log.state().last, Some(id(20)));
    assert_eq!(log.state().durable, Some(id(20)));
    assert!(segments(dir.path()).len() < files);
    drop(log);
    let log = open(dir.path());
    assert_eq!(all(&log).len(), 21);
    let other = EntryId {
        term: 2,
        node: 1,
        index: 21,
    };
    let entry = inkstone_storage::types::Entry {
        id: other,
        ..command(21, "another history")
    };
    append(&log, vec![entry.clone()]);
    drop(log);
    let log = open(dir.path());
    assert_eq!(all(&log).len(), 22);
    assert_eq!(all(&log).last(), Some(&entry));
    assert_eq!(log.terms(), vec![id(0), other]);
    assert_eq!(log.entry_id(21).unwrap(), Some(other));
    assert_eq!(log.entry_id(22).unwrap(), None);
}

#[test]
fn truncating_overtakes_what_is_not_written_yet() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    for round in 1..30_u64 {
        let ids = |index| EntryId {
            term: round,
            node: 1,
            index,
        };
        for index in 0..10 {
            let entry = inkstone_storage::types::Entry {
                id: ids(index),
                ..command(index, vec![3; 500])
            };
            log.append(vec![entry], Box::new(|_| ())).unwrap();
        }
        assert_eq!(log.entries(0, 10, usize::MAX).unwrap().len(), 10);
        if round < 29 {
            log.truncate_after(None, Box::new(|_| ())).unwrap();
            assert_eq!(log.state().last, None);
        }
    }
    barrier(&log);
    assert_eq!(
        log.state().durable.map(|last| (last.term, last.index)),
        Some((29, 9))
    );
    drop(log);
    let found = all(&open(dir.path()));
    assert_eq!(found.len(), 10);
    assert!(found.iter().all(|entry| entry.id.term == 29));
}

#[test]
fn purging_in_the_middle_keeps_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, 0, 100);
    let files = segments(dir.path()).len();
    purge(&log, id(45));
    let check = |log: &Log| {
        assert_eq!(log.state().purged, Some(id(45)));
        assert_eq!(log.entry_id(45).unwrap(), Some(id(45)));
        assert_eq!(log.entry_id(44).unwrap(), None);
        assert_eq!(all(log).first().unwrap().id, id(46));
        assert!(matches!(
            log.entries(45, 50, 1),
            Err(ReadError::Purged { at: 45, first: 46 })
        ));
        assert!(matches!(
            log.read(LOG, 91, 100, 1),
            Err(ReadError::Purged { at: 91, first: 92 })
        ));
        assert_eq!(log.read(LOG, 92, 94, 9999).unwrap().records.len(), 2);
        assert_eq!(log.terms(), vec![id(46)]);
    };
    check(&log);
    assert!(segments(dir.path()).len() < files);
    drop(log);
    let log = open(dir.path());
    check(&log);
    append(&log, vec![command(100, "on it goes")]);
}

#[test]
fn purging_behind_the_end_restarts_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, 0, 40);
    log.save_snapshot(&checkpoint(1000)).unwrap();
    purge(&log, id(1000));
    assert!(segments(dir.path()).is_empty());
    assert_eq!(log.state().last, Some(id(1000)));
    append(&log, vec![command(1001, "next")]);
    assert_eq!(log.state().durable, Some(id(1001)));
    let state = log.state();
    drop(log);
    let log = open(dir.path());
    assert_eq!(log.state(), state);
    assert_eq!(all(&log).len(), 1);
    assert_eq!(log.snapshot(), Some(checkpoint(1000)));
    assert_eq!(log.checkpoint(), Some(checkpoint(1000)));
}

#[test]
fn purging_everything_survives_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, 0, 40);
    log.save_snapshot(&checkpoint(39)).unwrap();
    purge(&log, id(39));
    drop(log);
    let log = open(dir.path());
    assert_eq!(log.state().last, Some(id(39)));
    append(&log, vec![command(40, "next")]);
    drop(log);
    assert_eq!(all(&open(dir.path())).len(), 1);
}

#[test]
fn a_log_may_begin_anywhere_and_notices_when_its_first_segment_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    append(
        &log,
        (7..60).map(|index| command(index, vec![1; 900])).collect(),
    );
    drop(log);
    drop(open(dir.path()));
    remove(&segments(dir.path())[0]);
    let OpenError::Faulty(faults) = open_error(dir.path()) else {
        panic!("damage expected");
    };
    assert_eq!(faults.list[0].first, 7);
}

#[test]
fn a_vote_survives_the_loss_of_either_slot_and_not_of_both() {
    let dir = tempfile::tempdir().unwrap();
    let vote = Vote {
        term: 3,
        node: 8,
        committed: true,
    };
    let log = open(dir.path());
    wait(|done| log.save_vote(Vote { term: 2, ..vote }, done)).unwrap();
    wait(|done| log.save_vote(vote, done)).unwrap();
    drop(log);
    let path = dir.path().join("group-1/hard-state");
    for slot in [0, 4096] {
        flip(&path, slot + 60);
        assert_eq!(open(dir.path()).vote(), Some(vote), "slot at {slot}");
    }
    flip(&path, 60);
    flip(&path, 4096 + 60);
    let before = std::fs::read(&path).unwrap();
    let OpenError::Damaged(damage) = open_error(dir.path()) else {
        panic!("damage expected");
    };
    assert_eq!(damage.file, path);
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_lost_hard_state_is_not_taken_for_a_new_log() {
    let dir = tempfile::tempdir().unwrap();
    append(&open(dir.path()), vec![command(0, "x")]);
    remove(&dir.path().join("group-1/hard-state"));
    assert!(matches!(open_error(dir.path()), OpenError::Damaged(_)));
}

#[test]
fn files_of_another_cluster_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    append(&open(dir.path()), vec![command(0, "x")]);
    let mut options = options(dir.path());
    options.identity.cluster_id = [6; 16];
    assert!(matches!(Log::open(options), Err(OpenError::Foreign { .. })));
}

#[test]
fn whatever_write_or_sync_fails_everybody_is_answered_and_the_log_stops() {
    // A run of this length needs more operations than are tried here.
    for allowed in 0..60 {
        let dir = tempfile::tempdir().unwrap();
        let (disk, left) = FailingDisk::new();
        let log = Log::open_on(disk, options(dir.path())).unwrap();
        left.store(allowed, Ordering::SeqCst);
        let mut waiting = Vec::new();
        for index in 0..80 {
            let (done, outcome) = callback();
            if log.append(vec![command(index, vec![0; 900])], done).is_ok() {
                waiting.push(outcome);
            }
            if index % 10 == 9 {
                // Lets the writer go on, so that groups differ in size.
                if let Some(outcome) = waiting.pop() {
                    drop(outcome.recv().expect("answered"));
                }
            }
        }
        let outcomes: Vec<_> = waiting
            .into_iter()
            .map(|outcome| outcome.recv().expect("answered").is_ok())
            .collect();
        let acknowledged = outcomes.iter().take_while(|ok| **ok).count();
        assert!(
            outcomes[acknowledged..].iter().all(|ok| !ok),
            "nothing succeeds behind a failure"
        );
        assert!(
            log.failure().is_some(),
            "{allowed} operations suffice for the run"
        );
        let durable = log.state().durable;
        assert!(log.append(vec![], Box::new(|_| ())).is_err());
        assert!(log.save_snapshot(&checkpoint(1)).is_err());
        log.wait_for_room();
        drop(log);
        let log = open(dir.path());
        assert!(log.state().last >= durable, "what was durable is there");
    }
}

#[test]
fn the_checkpoint_at_open_is_never_ahead_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, 0, 40);
    drop(log);
    let newest = open(dir.path()).checkpoint().unwrap();
    let path = dir
        .path()
        .join(format!("group-1/log/{:020}.ckpt", newest.applied.index + 1));
    flip(&path, 80);
    let older = open(dir.path()).checkpoint().unwrap();
    assert!(older.applied < newest.applied);
    let log = open(dir.path());
    log.save_snapshot(&checkpoint(30)).unwrap();
    drop(log);
    let found = open(dir.path()).checkpoint().unwrap();
    assert_eq!(found.applied.index, older.applied.index.max(30));
}

#[test]
fn a_stopped_log_refuses_every_change() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, left) = FailingDisk::new();
    let log = Log::open_on(disk, options(dir.path())).unwrap();
    append(&log, (0..9).map(|index| command(index, "x")).collect());
    left.store(0, Ordering::SeqCst);
    let vote = Vote {
        term: 3,
        node: 8,
        committed: true,
    };
    assert!(wait(|done| log.save_vote(vote, done)).is_err());
    assert_eq!(log.vote(), None);
    assert!(wait(|done| log.truncate_after(Some(3), done)).is_err());
    assert!(wait(|done| log.purge(id(2), done)).is_err());
    assert!(wait(|done| log.append(vec![command(4, "y")], done)).is_err());
    drop(log);
    assert_eq!(all(&open(dir.path())).len(), 9);
}

/// Puts back what a purge or truncation deleted, as a crash before the deletions were durable does.
fn put_back(dir: &Path, kept: &[(std::path::PathBuf, Vec<u8>)]) {
    for (path, bytes) in kept {
        if !path.exists() {
            std::fs::write(path, bytes).expect("readable and writable");
        }
    }
    assert_eq!(
        std::fs::read_dir(dir.join("group-1/log"))
            .expect("readable and writable")
            .count(),
        kept.len()
    );
}

#[test]
fn a_purge_that_a_crash_interrupted_is_completed() {
    for restart in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path());
        fill(&log, 0, 100);
        let kept: Vec<_> = std::fs::read_dir(dir.path().join("group-1/log"))
            .unwrap()
            .map(|item| item.unwrap().path())
            .map(|path| (path.clone(), std::fs::read(&path).unwrap()))
            .collect();
        let purged = id(if restart { 200 } else { 60 });
        log.save_snapshot(&checkpoint(purged.index)).unwrap();
        purge(&log, purged);
        let (state, files) = (log.state(), segments(dir.path()));
        assert!(files.len() < kept.len());
        drop(log);
        put_back(dir.path(), &kept);
        let log = open(dir.path());
        assert_eq!(log.state(), state);
        assert_eq!(segments(dir.path()), files);
        append(
            &log,
            vec![command(state.last.unwrap().index + 1, "on it goes")],
        );
    }
}

#[test]
fn a_truncation_that_a_crash_interrupted_leaves_a_longer_log_and_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    append(
        &log,
        (0..60).map(|index| command(index, vec![1; 900])).collect(),
    );
    let kept: Vec<_> = segments(dir.path())
        .into_iter()
        .map(|path| (path.clone(), std::fs::read(&path).unwrap()))
        .collect();
    truncate(&log, Some(20));
    drop(log);
    let last = kept.len() - 1;
    // Newest first: whatever number of deletions reached the disk, what is left is a prefix.
    for deleted in (0..last).rev() {
        for (path, bytes) in &kept[..=last - deleted] {
            std::fs::write(path, bytes).unwrap();
        }
        let log = open(dir.path());
        let found = all(&log).len();
        assert!(found > 21, "{found} entries");
        truncate(&log, Some(20));
        assert_eq!(all(&log).len(), 21);
    }
}

#[test]
fn the_checkpoint_of_every_boundary_can_be_had_until_it_is_purged() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, 0, 100);
    let check = |log: &Log| {
        for boundary in log.boundaries() {
            let found = log.checkpoint_at(boundary).unwrap();
            assert_eq!(found, Some(checkpoint(boundary - 1)));
        }
        log.boundaries()
    };
    let boundaries = check(&log);
    assert!(boundaries.len() > 3);
    purge(&log, id(boundaries[1] - 1));
    assert_eq!(check(&log), boundaries[1..]);
    assert_eq!(log.checkpoint_at(boundaries[0]).unwrap(), None);
    drop(log);
    assert_eq!(check(&open(dir.path())), boundaries[1..]);
}

#[test]
fn a_segment_whose_first_terms_are_purged_is_sealed_with_those_that_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let of_term = |index: u64| inkstone_storage::types::Entry {
        id: EntryId {
            term: 1 + index / 3,
            ..id(index)
        },
        ..command(index, vec![1; 900])
    };
    append(&log, (0..20).map(of_term).collect());
    log.save_snapshot(&checkpoint(4)).unwrap();
    purge(&log, of_term(4).id);
    let boundary = (1..20).find(|index| log.is_boundary(*index)).unwrap();
    log.seal(boundary, checkpoint(boundary - 1));
    barrier(&log);
    let terms = log.terms();
    assert_eq!(terms[0], of_term(5).id);
    drop(log);
    let log = open(dir.path());
    log.verify().unwrap();
    assert_eq!(log.terms(), terms);
}

#[test]
fn a_segment_on_its_way_to_be_sealed_is_neither_cut_nor_appended_to() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path());
        append(
            &log,
            (0..17).map(|index| command(index, vec![1; 700])).collect(),
        );
        let boundary = (1..17).find(|index| log.is_boundary(*index)).unwrap();
        log.seal(boundary, checkpoint(boundary - 1));
        log.truncate_after(Some(boundary - 1), Box::new(|_| ()))
            .unwrap();
        append(&log, vec![command(boundary, "small enough to fit before")]);
        log.verify().unwrap();
        assert!(log.is_boundary(boundary));
        let state = log.state();
        drop(log);
        let log = open(dir.path());
        log.verify().unwrap();
        assert_eq!(log.state(), state);
        assert_eq!(log.checkpoint(), Some(checkpoint(boundary - 1)));
    }
}

/// Opened again in a process that may have fewer files open than the log has.
#[test]
fn a_log_of_more_segments_than_a_process_may_have_files_opens() {
    const DIR: &str = "INKSTONE_LOG_OF_MANY_SEGMENTS";
    if let Some(dir) = std::env::var_os(DIR) {
        let log = open(Path::new(&dir));
        assert!(log.recovery().is_clean(), "{:?}", log.recovery());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    for index in 0..1200 {
        append(&log, vec![command(index, vec![1; 900])]);
        if log.is_boundary(index) {
            log.seal(index, checkpoint(index - 1));
        }
    }
    drop(log);
    assert!(segments(dir.path()).len() > 80);
    let itself = std::env::current_exe().unwrap();
    let again = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 40 && exec \"$0\" \"$@\""])
        .arg(itself)
        .args([
            "--exact",
            "engine::a_log_of_more_segments_than_a_process_may_have_files_opens",
        ])
        .env(DIR, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&again.stdout);
    assert!(
        again.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

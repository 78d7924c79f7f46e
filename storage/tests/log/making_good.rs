//! What an earlier process or disk left half done or lost: made good at open, or refused, and never taken for nothing.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::*;
use inkstone_storage::error::{OpenError, ReadError};
use inkstone_storage::log::{Log, LogOptions};
use inkstone_storage::types::{BatchOutcome, LogId, Vote};

const LOG: LogId = LogId(1);
const VOTE: Vote = Vote {
    term: 3,
    node: 8,
    committed: true,
};

fn taken(base_offset: u64) -> BatchOutcome {
    BatchOutcome::Taken { base_offset }
}

/// Entries of one record each, applied and sealed as a node does: record n is entry n.
fn fill(log: &Log, first: u64, count: u64) {
    for index in first..first + count {
        append(log, vec![batches(index, &[(LOG, vec![noise(index, 900)])])]);
    }
    apply(log, first, count);
}

fn apply(log: &Log, first: u64, count: u64) {
    for index in first..first + count {
        if log.is_boundary(index) {
            log.seal(index, checkpoint(index - 1));
        }
        log.note_applied(index, &[taken(index)]).expect("readable");
    }
    barrier(log);
}

fn read_all(log: &Log, count: u64) {
    for offset in 0..count {
        let chunk = log.read(LOG, offset, offset + 1, 1).expect("readable");
        assert_eq!(chunk.records[0].body, noise(offset, 900));
    }
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir.join("group-1/log"))
        .expect("the log's directory")
        .map(|item| item.expect("an item").path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> String {
    let name = path.file_name().expect("a file");
    name.to_string_lossy().into_owned()
}

fn is_damage(dir: &Path) -> bool {
    matches!(
        open_error(dir),
        OpenError::Damaged(_) | OpenError::Faulty(_)
    )
}

#[test]
fn outcomes_of_an_entry_that_is_damaged_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    append(&log, vec![batches(0, &[(LOG, vec![noise(0, 900)])])]);
    append(&log, vec![batches(1, &[(LOG, vec![noise(1, 900)])])]);
    flip(&segments(dir.path())[0], HEADER + 70);
    let noted = log.note_applied(0, &[taken(0)]);
    assert!(matches!(noted, Err(ReadError::Damaged(_))), "{noted:?}");
    log.note_applied(1, &[taken(1)]).unwrap();
}

#[test]
fn without_any_checkpoint_everything_is_applied_again_over_sealed_segments() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, 0, 40);
    drop(log);
    let checkpoints = files(dir.path(), "ckpt");
    for path in &checkpoints {
        remove(path);
    }
    let log = open(dir.path());
    assert_eq!(log.checkpoint(), None);
    apply(&log, 0, 40);
    read_all(&log, 40);
    assert_eq!(files(dir.path(), "ckpt"), checkpoints);
    drop(log);
    assert!(open(dir.path()).checkpoint().is_some());
}

#[test]
fn what_is_noted_while_it_is_in_the_tail_reads_nothing_from_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, _) = FailingDisk::new();
    let options = LogOptions {
        tail_size: 1 << 20,
        ..options(dir.path())
    };
    let log = Log::open_on(disk.clone(), options).unwrap();
    fill(&log, 0, 60);
    let asked = disk.operations();
    let segment_read = |asked: &&String| asked.starts_with("read") && asked.contains(".seg");
    assert!(asked.iter().find(segment_read).is_none(), "{asked:?}");
}

#[test]
fn a_footer_that_no_checkpoint_vouches_for_is_written_again_and_synced_at_open() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, 0, 40);
    drop(log);
    let checkpoints = files(dir.path(), "ckpt");
    assert!(checkpoints.len() > 1);
    let newest = checkpoints.last().unwrap();
    remove(newest);
    let sealed = &segments(dir.path())[checkpoints.len() - 1];
    let before = fs::read(sealed).unwrap();
    let (disk, _) = FailingDisk::new();
    let log = Log::open_on(disk.clone(), options(dir.path())).unwrap();
    let asked = disk.operations();
    let wrote = asked
        .iter()
        .rposition(|asked| asked.starts_with(&format!("write {} at ", name(sealed))));
    let synced = asked
        .iter()
        .rposition(|asked| *asked == format!("sync {}", name(sealed)));
    assert!(
        wrote.is_some() && wrote < synced,
        "the footer may be in the page cache alone: {asked:?}"
    );
    assert_eq!(fs::read(sealed).unwrap(), before);
    let older = &segments(dir.path())[0];
    assert!(
        !asked.contains(&format!("sync {}", name(older))),
        "an older one is vouched for"
    );
    apply(&log, 0, 40);
    read_all(&log, 40);
}

#[test]
fn a_purged_log_without_a_checkpoint_or_snapshot_that_reaches_it_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, 0, 60);
    let boundary = log.boundaries()[1];
    purge(&log, id(boundary - 1));
    drop(log);
    for path in files(dir.path(), "ckpt").iter().skip(1) {
        remove(path);
    }
    let last = files(dir.path(), "ckpt");
    assert_eq!(
        open(dir.path()).checkpoint(),
        Some(checkpoint(boundary - 1)),
        "the one that reaches there is enough"
    );
    for path in &last {
        remove(path);
    }
    assert!(is_damage(dir.path()));
}

#[test]
fn a_lost_watermark_is_not_taken_for_a_new_one() {
    for lost in [None, Some(vec![0; 8192])] {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path());
        append(&log, vec![command(0, noise(0, 100))]);
        append(&log, vec![command(1, noise(1, 100))]);
        drop(log);
        let watermark = dir.path().join("group-1/watermark");
        let lose = || match &lost {
            None => remove(&watermark),
            Some(bytes) => fs::write(&watermark, bytes).unwrap(),
        };
        lose();
        assert_eq!(all(&open(dir.path())).len(), 2, "an intact log needs none");
        lose();
        let file = segments(dir.path()).remove(0);
        let before = fs::read(&file).unwrap();
        flip(&file, HEADER + frame_size(100) + 70);
        assert!(is_damage(dir.path()), "nothing is cut");
        fs::write(&file, before).unwrap();
    }
}

#[test]
fn a_lost_log_directory_is_damage_when_the_watermark_is_lost_too() {
    let lose_log = |dir: &Path| fs::remove_dir_all(dir.join("group-1/log")).unwrap();
    let lost: [fn(&Path); 3] = [
        |path| remove(path),
        |path| fs::write(path, vec![0; 8192]).unwrap(),
        |path| {
            flip(path, 40);
            flip(path, 4096 + 40);
        },
    ];
    for lose_watermark in lost {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path());
        wait(|done| log.save_vote(VOTE, done)).unwrap();
        append(&log, vec![command(0, "x")]);
        drop(log);
        lose_log(dir.path());
        lose_watermark(&dir.path().join("group-1/watermark"));
        assert!(is_damage(dir.path()));
    }
}

#[test]
fn a_first_start_that_a_crash_interrupted_is_gone_through_again() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let watermark = dir.path().join("group-1/watermark");
    for content in [Vec::new(), vec![0; 8192], vec![1; 100]] {
        fs::write(&watermark, content).unwrap();
        drop(open(dir.path()));
    }
    remove(&watermark);
    append(&open(dir.path()), vec![command(0, "x")]);
}

#[test]
fn each_file_s_removal_by_a_purge_is_durable_before_the_next_one_s() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, _) = FailingDisk::new();
    let log = Log::open_on(disk.clone(), options(dir.path())).unwrap();
    append(
        &log,
        (0..60).map(|index| command(index, vec![1; 900])).collect(),
    );
    log.save_snapshot(&checkpoint(59)).unwrap();
    let removed = segments(dir.path());
    assert!(removed.len() > 2);
    disk.operations();
    purge(&log, id(59));
    let asked = disk.operations();
    let mut next = 0;
    for path in &removed {
        let at = asked
            .iter()
            .position(|asked| *asked == format!("remove {}", name(path)))
            .unwrap();
        assert!(at >= next, "oldest first: {asked:?}");
        let synced = asked
            .iter()
            .skip(at)
            .position(|asked| asked == "sync_dir log");
        let removed = asked
            .iter()
            .skip(at + 1)
            .position(|asked| asked.starts_with("remove") && asked.contains(".seg"));
        next = at + synced.unwrap();
        assert!(
            removed.is_none_or(|removed| at + 1 + removed > next),
            "{asked:?}"
        );
    }
}

#[test]
fn whatever_a_purge_left_of_unsealed_segments_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    append(
        &log,
        (0..60).map(|index| command(index, vec![1; 900])).collect(),
    );
    let kept: Vec<_> = segments(dir.path())
        .into_iter()
        .map(|path| (path.clone(), fs::read(&path).unwrap()))
        .collect();
    log.save_snapshot(&checkpoint(59)).unwrap();
    purge(&log, id(59));
    drop(log);
    for (path, bytes) in &kept {
        fs::write(path, bytes).unwrap();
        let log = open(dir.path());
        assert_eq!(log.state().last, Some(id(59)));
        assert!(segments(dir.path()).is_empty());
    }
}

#[test]
fn repairing_the_hard_state_writes_the_bad_slot_first() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    wait(|done| log.save_vote(VOTE, done)).unwrap();
    drop(log);
    for slot in [0, 4096] {
        flip(&dir.path().join("group-1/hard-state"), slot + 60);
        let (disk, _) = FailingDisk::new();
        let log = Log::open_on(disk.clone(), options(dir.path())).unwrap();
        assert_eq!(log.vote(), Some(VOTE));
        let asked: Vec<_> = disk
            .operations()
            .into_iter()
            .filter(|asked| asked.contains("hard-state") && !asked.starts_with("read"))
            .collect();
        let expected = [
            format!("write hard-state at {slot}"),
            "sync hard-state".to_owned(),
        ];
        assert_eq!(asked.get(..2), Some(&expected[..]), "{asked:?}");
    }
}

#[test]
fn entries_before_a_damaged_one_are_returned() {
    for sealed in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path());
        append(
            &log,
            (0..30)
                .map(|index| batches(index, &[(LOG, vec![noise(index, 900)])]))
                .collect(),
        );
        if sealed {
            apply(&log, 0, 30);
        }
        let size = frame_size(batches(0, &[(LOG, vec![noise(0, 900)])]).payload.len());
        flip(&segments(dir.path())[0], HEADER + 3 * size + 500);
        let found = log.entries(0, 10, usize::MAX).unwrap();
        assert_eq!(found.len(), 3);
        assert!(matches!(
            log.entries(3, 10, usize::MAX),
            Err(ReadError::Damaged(_))
        ));
        assert!(!log.entries(4, 10, usize::MAX).unwrap().is_empty());
    }
}

#[test]
fn a_segment_size_that_the_format_cannot_hold_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions {
        segment_size: (32 << 30) + 1,
        ..options(dir.path())
    };
    assert!(matches!(Log::open(options), Err(OpenError::Io { .. })));
}

#[test]
fn what_an_interrupted_sealing_left_is_cut_when_its_segment_is_the_last_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    append(
        &log,
        (0..17).map(|index| command(index, vec![1; 900])).collect(),
    );
    drop(log);
    let [file, last] = &segments(dir.path())[..] else {
        panic!("two segments expected");
    };
    let count = open(dir.path()).state().last.unwrap().index + 1;
    let boundary: u64 = name(last).trim_end_matches(".seg").parse().unwrap();
    truncate(&open(dir.path()), Some(boundary - 1));
    assert!(boundary < count);
    assert_eq!(segments(dir.path()).len(), 1);
    let log = open(dir.path());
    append(&log, vec![command(boundary, vec![1; 900])]);
    drop(log);
    // A part of a footer behind the first segment's frames, and a last segment that holds nothing.
    let end = HEADER + place(boundary) * frame_size(900);
    let mut bytes = fs::read(file).unwrap();
    bytes.truncate(end);
    bytes.extend([7; 300]);
    fs::write(file, bytes).unwrap();
    let mut empty = fs::read(last).unwrap();
    empty[HEADER..].fill(0);
    fs::write(last, empty).unwrap();
    remove(&dir.path().join("group-1/watermark"));
    let log = open(dir.path());
    assert_eq!(all(&log).len() as u64, boundary);
    assert_eq!(segments(dir.path()).len(), 1);
    let bytes = fs::read(file).unwrap();
    assert!(bytes[end..].iter().all(|byte| *byte == 0));
    assert_eq!(bytes.len(), 16 << 10);
}

#[test]
fn a_truncation_back_to_what_is_purged_leaves_nothing_to_be_made_good() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    append(
        &log,
        (0..30).map(|index| command(index, vec![1; 900])).collect(),
    );
    log.save_snapshot(&checkpoint(5)).unwrap();
    purge(&log, id(5));
    truncate(&log, Some(5));
    drop(log);
    assert_eq!(segments(dir.path()), Vec::<PathBuf>::new());
    let log = open(dir.path());
    assert!(log.recovery().is_clean(), "{:?}", log.recovery());
    append(&log, vec![command(6, vec![2; 900])]);
    drop(log);
    assert_eq!(all(&open(dir.path())), [command(6, vec![2; 900])]);
}

#[test]
fn a_purge_below_the_first_entry_keeps_the_chain_s_start() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    append(
        &log,
        (7..60).map(|index| command(index, vec![1; 900])).collect(),
    );
    for index in 7..60 {
        if log.is_boundary(index) {
            log.seal(index, checkpoint(index - 1));
        }
    }
    purge(&log, id(3));
    drop(log);
    let bytes = fs::read(dir.path().join("group-1/hard-state")).unwrap();
    assert_eq!(bytes[88..96], 7_u64.to_le_bytes());
    assert_eq!(bytes[96..100], [0; 4], "a log that begins starts with 0");
    assert_eq!(
        open(dir.path()).entries(7, 60, usize::MAX).unwrap().len(),
        53
    );
}

#[test]
fn a_record_that_ends_as_a_sealed_segment_does_is_no_footer() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, 0, 20);
    drop(log);
    let sealed = fs::read(&segments(dir.path())[0]).unwrap();
    let other = tempfile::tempdir().unwrap();
    let mut payload = vec![7; 20_000];
    payload.extend(&sealed);
    payload.drain(..payload.len() % 8);
    let log = open(other.path());
    append(&log, vec![command(0, payload.clone())]);
    drop(log);
    let bytes = fs::read(&segments(other.path())[0]).unwrap();
    assert!(
        bytes[bytes.len() - 128..].iter().all(|byte| *byte == 0),
        "where a trailer would stand, no unsealed segment has a frame"
    );
    let found = all(&open(other.path()));
    assert_eq!(found, [command(0, payload)]);
}

#[test]
fn a_read_is_bounded_by_attributes_and_by_the_number_of_records_too() {
    use inkstone_storage::format::batch::{EncodedBatch, join};
    use inkstone_storage::types::{Entry, EntryKind, NewRecord};
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let heavy = NewRecord {
        timestamp: 0,
        attributes: vec![("key".to_owned(), "v".repeat(2000))],
        body: bytes::Bytes::new(),
    };
    let light = record(0, "");
    for (index, records) in [(0, vec![heavy; 20]), (1, vec![light; 5000])] {
        let batch = EncodedBatch::encode(LOG, None, None, &records);
        let entry = Entry {
            kind: EntryKind::Batches,
            payload: join(&[batch], 0),
            ..command(index, "")
        };
        append(&log, vec![entry]);
        log.note_applied(index, &[taken(20 * index)]).unwrap();
    }
    let attributes = log.read(LOG, 0, u64::MAX, 10_000).unwrap();
    assert!((2..=5).contains(&attributes.records.len()));
    let empty = log.read(LOG, 20, u64::MAX, 10_000).unwrap();
    assert!((50..1000).contains(&empty.records.len()));
}

//! What a crash leaves is set right; what rots is named and never served.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::*;
use inkstone_storage::error::{Damage, ReadError, Verdict};
use inkstone_storage::log::Log;
use inkstone_storage::types::{BatchOutcome, Entry, EntryId, EntryKind, LogId};

const LOG: LogId = LogId(1);

fn watermark(dir: &Path) -> PathBuf {
    dir.join("group-1/watermark")
}

fn damaged(dir: &Path) -> Damage {
    damage_of(open_error(dir))
}

/// Entries of 100 bytes, each in a sync group of its own, in one segment; the watermark is the one before the last.
fn five_groups(dir: &Path) -> PathBuf {
    let log = open(dir);
    let mut before = Vec::new();
    for index in 0..5 {
        before = fs::read(watermark(dir)).expect("readable and writable");
        append(&log, vec![command(index, noise(index, 100))]);
    }
    drop(log);
    fs::write(watermark(dir), before).expect("readable and writable");
    segments(dir).remove(0)
}

const FRAME: usize = 168;

fn position(number: usize) -> usize {
    assert_eq!(frame_size(100), FRAME);
    HEADER + number * FRAME
}

#[test]
fn a_last_frame_torn_at_any_byte_is_cut_and_the_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let file = five_groups(dir.path());
    let intact = fs::read(&file).unwrap();
    let mark = fs::read(watermark(dir.path())).unwrap();
    let first = position(4);
    // The padding is zeros: torn off, the frame is still whole.
    for torn in first..first + 164 {
        let mut bytes = intact.clone();
        bytes[torn..].fill(0);
        fs::write(&file, &bytes).unwrap();
        fs::write(watermark(dir.path()), &mark).unwrap();
        let log = open(dir.path());
        let kept = all(&log).len();
        let whole = bytes == intact;
        assert_eq!(kept, if whole { 5 } else { 4 }, "torn at byte {torn}");
        append(&log, vec![command(kept as u64, "on it goes")]);
        drop(log);
        assert_eq!(all(&open(dir.path())).len(), kept + 1);
    }
    for flipped in first..first + FRAME {
        fs::write(&file, &intact).unwrap();
        fs::write(watermark(dir.path()), &mark).unwrap();
        flip(&file, flipped);
        assert_ok_or_wrong(dir.path(), flipped - first);
    }
}

/// A flipped byte in the last frame, that nothing vouches for, is a torn write.
fn assert_ok_or_wrong(dir: &Path, at: usize) {
    let log = open(dir);
    assert_eq!(all(&log).len(), 4, "byte {at} of the frame");
}

#[test]
fn a_file_cut_short_in_its_last_frame_is_a_torn_write() {
    let dir = tempfile::tempdir().unwrap();
    let file = five_groups(dir.path());
    let intact = fs::read(&file).unwrap();
    for size in [
        position(4),
        position(4) + 1,
        position(4) + 64,
        position(5) - 1,
    ] {
        fs::write(&file, &intact[..size]).unwrap();
        let log = open(dir.path());
        assert_eq!(all(&log).len(), 4);
        drop(log);
    }
}

#[test]
fn a_bad_last_frame_that_the_watermark_vouches_for_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let file = five_groups(dir.path());
    // Writes the watermark of all five.
    drop(open(dir.path()));
    for at in [0, 30, 50, 70] {
        flip(&file, position(4) + at);
        let before = fs::read(&file).unwrap();
        let damage = damaged(dir.path());
        assert_eq!(damage.file, file);
        assert!(
            (position(4)..position(5)).contains(&place(damage.position)),
            "{damage}"
        );
        assert_eq!(fs::read(&file).unwrap(), before, "nothing is cut");
        flip(&file, position(4) + at);
    }
    let mut bytes = fs::read(&file).unwrap();
    bytes[position(4)..].fill(0);
    fs::write(&file, bytes).unwrap();
    assert_eq!(place(damaged(dir.path()).position), position(4));
}

#[test]
fn a_bad_frame_before_a_later_sync_group_is_damage_without_any_watermark() {
    let dir = tempfile::tempdir().unwrap();
    let file = five_groups(dir.path());
    for number in 0..4 {
        for at in 0..FRAME {
            fs::write(watermark(dir.path()), vec![0; 8192]).unwrap();
            flip(&file, position(number) + at);
            let before = fs::read(&file).unwrap();
            let damage = damaged(dir.path());
            assert_eq!(damage.file, file);
            let found = place(damage.position);
            assert!(
                (position(number)..position(number + 1)).contains(&found),
                "byte {at} of frame {number}: {damage}"
            );
            assert_eq!(fs::read(&file).unwrap(), before, "nothing is cut");
            flip(&file, position(number) + at);
        }
    }
    assert_eq!(all(&open(dir.path())).len(), 5);
}

#[test]
fn a_bad_frame_in_the_last_sync_group_is_cut_with_what_follows_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    append(&log, vec![command(0, noise(0, 100))]);
    let mark = fs::read(watermark(dir.path())).unwrap();
    append(
        &log,
        (1..5)
            .map(|index| command(index, noise(index, 100)))
            .collect(),
    );
    drop(log);
    fs::write(watermark(dir.path()), mark).unwrap();
    flip(&segments(dir.path())[0], position(2) + 3);
    let log = open(dir.path());
    assert_eq!(all(&log).len(), 2);
    append(&log, vec![command(2, "on it goes")]);
    drop(log);
    assert_eq!(all(&open(dir.path())).len(), 3);
}

#[test]
fn a_bad_tail_is_not_cut_when_the_watermark_is_bad_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = five_groups(dir.path());
    flip(&watermark(dir.path()), 40);
    flip(&watermark(dir.path()), 4096 + 40);
    assert_eq!(
        all(&open(dir.path())).len(),
        5,
        "an intact log needs no watermark"
    );
    flip(&watermark(dir.path()), 40);
    flip(&watermark(dir.path()), 4096 + 40);
    flip(&file, position(4) + 70);
    assert_eq!(damaged(dir.path()).file, file);
}

#[test]
fn a_missing_segment_is_damage_wherever_it_was() {
    for missing in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path());
        append(
            &log,
            (0..45).map(|index| command(index, vec![1; 900])).collect(),
        );
        drop(log);
        let files = segments(dir.path());
        assert_eq!(files.len(), 4);
        remove(&files[missing]);
        damaged(dir.path());
    }
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    append(
        &log,
        (0..45).map(|index| command(index, vec![1; 900])).collect(),
    );
    drop(log);
    remove(segments(dir.path()).last().unwrap());
    damaged(dir.path());
}

#[test]
fn a_segment_that_a_crash_left_without_a_header_is_made_again() {
    for content in [Vec::new(), vec![0; 16 << 10], vec![1; 100]] {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path());
        append(
            &log,
            (0..20).map(|index| command(index, vec![1; 900])).collect(),
        );
        drop(log);
        let path = dir.path().join(format!("group-1/log/{:020}.seg", 20));
        fs::write(&path, &content).unwrap();
        let log = open(dir.path());
        assert_eq!(all(&log).len(), 20);
        append(
            &log,
            (20..40).map(|index| command(index, vec![1; 900])).collect(),
        );
        drop(log);
        assert_eq!(all(&open(dir.path())).len(), 40);
    }
}

#[test]
fn a_bad_segment_header_is_written_again_when_the_first_frame_confirms_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = five_groups(dir.path());
    let whole = fs::read(&file).unwrap();
    for at in [0, 9, 20, 33, 41, 3000, 4095] {
        flip(&file, at);
        let log = open(dir.path());
        let found = log.recovery().find(Verdict::LostHeader).expect("found");
        assert_eq!(found.file, file, "byte {at}");
        assert_eq!(all(&log).len(), 5);
        drop(log);
        assert_eq!(fs::read(&file).unwrap(), whole, "byte {at}");
    }
    for at in [0, 9, 4095] {
        flip(&file, at);
        flip(&file, HEADER + 20);
        let before = fs::read(&file).unwrap();
        assert_eq!(damaged(dir.path()).file, file, "byte {at}");
        assert_eq!(fs::read(&file).unwrap(), before, "nothing is changed");
        fs::write(&file, &whole).unwrap();
    }
}

/// Three sealed segments and more: entry n has one record of 900 bytes, at offset n.
fn sealed(dir: &Path) -> (Log, u64) {
    let log = open(dir);
    for index in 0..70 {
        append(
            &log,
            vec![batches(index, &[(LOG, vec![noise(index, 900)])])],
        );
        if log.is_boundary(index) {
            log.seal(index, checkpoint(index - 1));
        }
        log.note_applied(index, &[BatchOutcome::Taken { base_offset: index }])
            .expect("readable");
    }
    barrier(&log);
    drop(log);
    let log = open(dir);
    let last = log
        .checkpoint()
        .expect("readable and writable")
        .applied
        .index;
    assert!(segments(dir).len() > 3);
    (log, last)
}

#[test]
fn rot_in_a_sealed_segment_is_an_error_and_its_neighbours_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let (log, last) = sealed(dir.path());
    let file = segments(dir.path()).remove(1);
    drop(log);
    let size = fs::read(&file).unwrap().len();
    let whole: Vec<_> = segments(dir.path())
        .into_iter()
        .map(|path| (path.clone(), fs::read(&path).unwrap()))
        .collect();
    let mut hit = 0;
    for at in (HEADER..size).step_by(211) {
        flip(&file, at);
        match Log::open(options(dir.path())) {
            // Footers are checked at open.
            Err(error) => assert_eq!(damage_of(error).file, file),
            Ok(log) => {
                if log.recovery().find(Verdict::LostFooter).is_some() {
                    assert!(log.checkpoint().expect("an older one").applied.index < last);
                    apply_again(&log, last + 1);
                }
                let verdict = log.verify();
                let mut bad = 0;
                for offset in 0..=last {
                    match log.read(LOG, offset, offset + 1, 1) {
                        Ok(chunk) => assert_eq!(chunk.records[0].body, noise(offset, 900)),
                        Err(ReadError::Damaged(damage)) => {
                            assert_eq!(damage.file, file);
                            bad += 1;
                        }
                        Err(other) => panic!("{other}"),
                    }
                    match log.entries(offset, offset + 1, 1) {
                        Ok(entries) => {
                            let expected = batches(offset, &[(LOG, vec![noise(offset, 900)])]);
                            assert_eq!(entries, [expected]);
                        }
                        Err(ReadError::Damaged(damage)) => assert_eq!(damage.file, file),
                        Err(other) => panic!("{other}"),
                    }
                }
                assert!(bad <= 2, "byte {at} spoils {bad} records");
                hit += bad;
                // The stamp of a sealed frame means nothing any more, nor does padding.
                assert!(verdict.is_err() || bad == 0, "byte {at}");
            }
        }
        for (path, bytes) in &whole {
            fs::write(path, bytes).unwrap();
        }
    }
    assert!(hit > 25, "most of a segment is records");
}

/// What a node does behind the checkpoint that it starts from.
fn apply_again(log: &Log, until: u64) {
    let first = log
        .checkpoint()
        .map_or(0, |checkpoint| checkpoint.applied.index + 1);
    for index in first..until {
        if log.is_boundary(index) {
            log.seal(index, checkpoint(index - 1));
        }
        log.note_applied(index, &[BatchOutcome::Taken { base_offset: index }])
            .expect("readable");
    }
    barrier(log);
}

/// Blank entries have the same payload, so the index and the payload's crc do not tell them apart.
#[test]
fn a_truncated_entry_that_a_lost_write_brings_back_into_a_sealed_segment_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let blank = |index, term| Entry {
        id: EntryId { term, ..id(index) },
        kind: EntryKind::Blank,
        payload: Vec::new().into(),
    };
    append(&log, vec![blank(0, 1), blank(1, 1)]);
    let file = segments(dir.path()).remove(0);
    let before = fs::read(&file).unwrap();
    truncate(&log, Some(0));
    append(&log, vec![blank(1, 2)]);
    let later = |index| Entry {
        id: EntryId {
            term: 2,
            ..id(index)
        },
        ..command(index, noise(index, 900))
    };
    append(&log, (2..30).map(later).collect());
    let boundary = (2..30).find(|index| log.is_boundary(*index)).unwrap();
    log.seal(boundary, checkpoint(boundary - 1));
    barrier(&log);
    drop(log);
    let mut bytes = fs::read(&file).unwrap();
    let frame = HEADER + 64..HEADER + 128;
    bytes[frame.clone()].copy_from_slice(&before[frame]);
    fs::write(&file, bytes).unwrap();
    let log = open(dir.path());
    assert_eq!(log.entries(0, 1, 1000).unwrap(), [blank(0, 1)]);
    let found = log.entries(1, 2, 1000);
    assert!(matches!(found, Err(ReadError::Damaged(_))), "{found:?}");
    assert_eq!(log.entries(2, 3, 1000).unwrap(), [later(2)]);
}

#[test]
fn rot_in_one_batch_leaves_the_others_of_its_entry_readable() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let parts: Vec<_> = (0..3)
        .map(|number| (LOG, vec![noise(number, 500)]))
        .collect();
    let entry = batches(0, &parts);
    let size = entry.payload.len();
    append(&log, vec![entry]);
    let taken = |base_offset| BatchOutcome::Taken { base_offset };
    log.note_applied(0, &[taken(0), taken(1), taken(2)])
        .unwrap();
    let file = segments(dir.path()).remove(0);
    flip(&file, HEADER + 64 + size - 700);
    let read = |offset| log.read(LOG, offset, offset + 1, 1);
    assert_eq!(read(0).unwrap().records[0].body, noise(0, 500));
    assert!(matches!(read(1), Err(ReadError::Damaged(_))));
    assert_eq!(read(2).unwrap().records[0].body, noise(2, 500));
    let upto = log.read(LOG, 0, 3, 9999).unwrap();
    assert_eq!((upto.records.len(), upto.next_offset), (1, 1));
    assert!(matches!(log.entries(0, 1, 1), Err(ReadError::Damaged(_))));
}

#[test]
fn a_sealing_that_a_crash_interrupted_is_done_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    for index in 0..30 {
        append(
            &log,
            vec![batches(index, &[(LOG, vec![noise(index, 900)])])],
        );
    }
    drop(log);
    let file = segments(dir.path()).remove(0);
    let log = open(dir.path());
    let boundary = (1..30).find(|index| log.is_boundary(*index)).unwrap();
    for index in 0..boundary {
        log.note_applied(index, &[BatchOutcome::Taken { base_offset: index }])
            .unwrap();
    }
    log.seal(boundary, checkpoint(boundary - 1));
    barrier(&log);
    drop(log);
    let whole = fs::read(&file).unwrap();
    let path = dir.path().join(format!("group-1/log/{boundary:020}.ckpt"));
    let kept = fs::read(&path).unwrap();
    let frames_end = HEADER + usize::try_from(boundary).unwrap() * frame_size(900 + 88 + 6);
    for size in [
        whole.len() - 1,
        whole.len() - 128,
        whole.len() - 300,
        frames_end + 9,
    ] {
        fs::write(&file, &whole[..size]).unwrap();
        fs::write(&path, &kept).unwrap();
        let log = open(dir.path());
        let found = log.recovery().find(Verdict::LostFooter).expect("found");
        assert_eq!(found.file, file, "the checkpoint says it was sealed");
        drop(log);
        remove(&path);
        let log = open(dir.path());
        let found = log.recovery().find(Verdict::UnfinishedSealing);
        assert_eq!(found.map(|found| &found.file), Some(&file));
        assert_eq!(all(&log).len(), 30);
        for index in 0..boundary {
            log.note_applied(index, &[BatchOutcome::Taken { base_offset: index }])
                .unwrap();
        }
        log.seal(boundary, checkpoint(boundary - 1));
        barrier(&log);
        log.verify().unwrap();
        drop(log);
        assert_eq!(
            open(dir.path()).checkpoint(),
            Some(checkpoint(boundary - 1))
        );
        // The sync group alone may differ.
        assert_eq!(fs::read(&file).unwrap().len(), whole.len());
    }
}

#[test]
fn records_that_look_like_frames_do_not_turn_a_torn_write_into_damage() {
    let dir = tempfile::tempdir().unwrap();
    let file = five_groups(dir.path());
    let frames = fs::read(&file).unwrap()[position(0)..position(5)].to_vec();
    let log = open(dir.path());
    let mark = fs::read(watermark(dir.path())).unwrap();
    append(&log, vec![command(5, frames)]);
    drop(log);
    fs::write(watermark(dir.path()), mark).unwrap();
    flip(&file, position(5) + 64 + 5 * FRAME - 1);
    assert_eq!(all(&open(dir.path())).len(), 5);
}

//! Each row of the first table in FORMAT.md, "Recovery", is made to happen: what open says it found is that row and
//! nothing else, the log is whole, and the next open finds nothing.

use std::fs;
use std::path::{Path, PathBuf};

use crate::repair::{apply, batch, read_all, sealed};
use crate::support::*;
use inkstone_storage::error::Verdict;
use inkstone_storage::format::segment_header::SegmentHeader;
use inkstone_storage::log::Log;

/// What is done to a stopped log: the file that the finding must name, and what of the log is left.
type Harm = fn(&Path) -> (PathBuf, u64);

fn group(dir: &Path, name: &str) -> PathBuf {
    dir.join("group-1").join(name)
}

fn checkpoints(dir: &Path) -> Vec<PathBuf> {
    let log = fs::read_dir(dir.join("group-1/log")).expect("the log's directory");
    let mut found: Vec<PathBuf> = log
        .map(|item| item.expect("an item").path())
        .filter(|path| path.extension().is_some_and(|found| found == "ckpt"))
        .collect();
    found.sort();
    found
}

fn segment(dir: &Path, base: u64) -> PathBuf {
    dir.join(format!("group-1/log/{base:020}.seg"))
}

/// Appends an entry whose write is then torn, as far as anything on the disk says.
fn torn(dir: &Path, at: usize) -> (PathBuf, u64) {
    let log = open(dir);
    let mark = fs::read(group(dir, "watermark")).expect("the watermark");
    append(&log, vec![batch(60)]);
    drop(log);
    fs::write(group(dir, "watermark"), mark).expect("written");
    let file = segments(dir).pop().expect("a segment");
    let bytes = fs::read(&file).expect("the segment");
    let size = frame_size(batch(60).payload.len());
    let frames = (0..).take_while(|number| bytes[HEADER + number * size] != 0);
    flip(&file, HEADER + (frames.count() - 1) * size + at);
    (file, 60)
}

const ROWS: &[(Verdict, Harm)] = &[
    (Verdict::Leftover, |dir| {
        let file = group(dir, "log/spare.tmp");
        fs::write(&file, [1; 5000]).expect("written");
        (file, 60)
    }),
    (Verdict::SlotBehind, |dir| {
        let file = group(dir, "hard-state");
        flip(&file, 4096 + 60);
        (file, 60)
    }),
    (Verdict::WatermarkLost, |dir| {
        let file = group(dir, "watermark");
        flip(&file, 60);
        flip(&file, 4096 + 60);
        (file, 60)
    }),
    (Verdict::WatermarkLost, |dir| {
        let file = group(dir, "watermark");
        remove(&file);
        (file, 60)
    }),
    (Verdict::UnbornSegment, |dir| {
        let file = segment(dir, 60);
        fs::write(&file, vec![0; 16 << 10]).expect("written");
        (file, 60)
    }),
    (Verdict::EmptySegment, |dir| {
        let log = open(dir);
        let chain_start = log.state().chain_crc;
        drop(log);
        let header = SegmentHeader {
            group: 1,
            cluster_id: [5; 16],
            base: 60,
            chain_start,
        };
        let mut bytes = header.encode();
        bytes.resize(16 << 10, 0);
        let file = segment(dir, 60);
        fs::write(&file, bytes).expect("written");
        (file, 60)
    }),
    (Verdict::TornTail, |dir| torn(dir, 20)),
    (Verdict::TornTail, |dir| torn(dir, 50)),
    (Verdict::TornTail, |dir| torn(dir, 300)),
    (Verdict::UnfinishedSealing, |dir| {
        remove(&checkpoints(dir).pop().expect("a checkpoint"));
        let file = segments(dir).into_iter().rev().nth(1).expect("sealed");
        let mut bytes = fs::read(&file).expect("the segment");
        bytes.truncate(bytes.len() - 40);
        fs::write(&file, bytes).expect("written");
        (file, 60)
    }),
    (Verdict::UnprovenFooter, |dir| {
        remove(&checkpoints(dir).pop().expect("a checkpoint"));
        let sealed = segments(dir).into_iter().rev().nth(1);
        (sealed.expect("sealed"), 60)
    }),
    (Verdict::LostFooter, |dir| {
        let file = segments(dir).remove(1);
        let size = fs::read(&file).expect("the segment").len();
        flip(&file, size - 100);
        (file, 60)
    }),
    (Verdict::LostFooter, |dir| {
        let file = segments(dir).remove(0);
        let mut bytes = fs::read(&file).expect("the segment");
        let size = bytes.len();
        bytes[size - 400..].fill(0);
        fs::write(&file, bytes).expect("written");
        (file, 60)
    }),
    (Verdict::LostHeader, |dir| {
        let file = segments(dir).remove(1);
        flip(&file, 40);
        (file, 60)
    }),
    (Verdict::LostHeader, |dir| {
        let file = segments(dir).pop().expect("a segment");
        let mut bytes = fs::read(&file).expect("the segment");
        bytes[..HEADER].fill(0);
        fs::write(&file, bytes).expect("written");
        (file, 60)
    }),
    (Verdict::LostCheckpoint, |dir| {
        let file = checkpoints(dir).pop().expect("a checkpoint");
        flip(&file, 80);
        (file, 60)
    }),
];

fn verdicts(log: &Log) -> Vec<Verdict> {
    let findings = log.recovery().findings.iter();
    findings.map(|finding| finding.verdict).collect()
}

#[test]
fn what_a_crash_or_rot_left_is_reported_as_its_row_and_made_good() {
    for (number, (verdict, harm)) in ROWS.iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        drop(sealed(dir.path()));
        let (file, entries) = harm(dir.path());
        let what = format!("row {number}, {verdict:?}");
        let log = open(dir.path());
        assert_eq!(verdicts(&log), [*verdict], "{what}");
        assert!(verdict.is_made_good());
        let finding = log.recovery().find(*verdict).unwrap();
        assert_eq!(finding.file, file, "{what}");
        assert_eq!(log.state().last, Some(id(entries - 1)), "{what}");
        let from = log.checkpoint().map_or(0, |found| found.applied.index + 1);
        apply(&log, from);
        read_all(&log);
        log.verify().unwrap();
        let boundaries = log.boundaries();
        for boundary in &boundaries {
            let kept = log.checkpoint_at(*boundary).unwrap();
            assert_eq!(kept, Some(checkpoint(boundary - 1)), "{what}");
        }
        append(&log, vec![batch(60)]);
        drop(log);
        let log = open(dir.path());
        assert!(log.recovery().is_clean(), "{what}: {:?}", log.recovery());
        assert_eq!(log.boundaries(), boundaries, "{what}");
        let newest = boundaries.last().map(|boundary| checkpoint(boundary - 1));
        assert_eq!(log.checkpoint(), newest, "{what}");
        assert_eq!(all(&log).len() as u64, 61, "{what}");
    }
}

#[test]
fn a_first_start_is_a_new_log_and_a_second_one_is_clean() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(verdicts(&open(dir.path())), [Verdict::NewLog]);
    assert!(open(dir.path()).recovery().is_clean());
}

#[test]
fn what_an_interrupted_purge_left_is_reported_file_by_file() {
    let dir = tempfile::tempdir().unwrap();
    let log = sealed(dir.path());
    let boundary = log.boundaries()[1];
    let kept: Vec<_> = segments(dir.path())
        .into_iter()
        .take(2)
        .map(|path| (path.clone(), fs::read(&path).unwrap()))
        .collect();
    purge(&log, id(boundary - 1));
    drop(log);
    for (path, bytes) in &kept {
        fs::write(path, bytes).unwrap();
    }
    let log = open(dir.path());
    assert_eq!(verdicts(&log), [Verdict::PurgedFile; 2]);
    for (finding, (path, _)) in log.recovery().findings.iter().zip(&kept) {
        assert_eq!(finding.file, *path);
        assert!(!path.exists());
    }
    assert_eq!(log.state().first_index, boundary);
    drop(log);
    assert!(open(dir.path()).recovery().is_clean());
}

#[test]
fn a_footer_that_was_lost_is_the_same_when_it_is_written_again() {
    let dir = tempfile::tempdir().unwrap();
    drop(sealed(dir.path()));
    let files = segments(dir.path());
    let whole: Vec<_> = files.iter().map(|path| fs::read(path).unwrap()).collect();
    for lost in 0..files.len() - 1 {
        let size = whole[lost].len();
        flip(&files[lost], size - 90);
        // The process ends before anything is applied, and again while it is.
        for until in [0, 15, 35, 60] {
            let log = open(dir.path());
            let from = log.checkpoint().map_or(0, |found| found.applied.index + 1);
            if until < 60 {
                assert!(log.recovery().find(Verdict::LostFooter).is_some() || until > 15);
            }
            for index in from..until {
                if log.is_boundary(index) {
                    log.seal(index, checkpoint(index - 1));
                }
                let outcome = inkstone_storage::types::BatchOutcome::Taken { base_offset: index };
                log.note_applied(index, &[outcome]).unwrap();
            }
            barrier(&log);
        }
        let log = open(dir.path());
        assert!(log.recovery().is_clean(), "{:?}", log.recovery());
        apply(&log, log.checkpoint().unwrap().applied.index + 1);
        read_all(&log);
        drop(log);
        for (file, whole) in files.iter().zip(&whole).take(files.len() - 1) {
            let found = fs::read(file).unwrap();
            assert_eq!(found.len(), whole.len());
            // The trailer's sync group, and with it the crc, may be a later one.
            let same = found.len() - 128;
            assert!(found[..same] == whole[..same], "{}", file.display());
        }
    }
}

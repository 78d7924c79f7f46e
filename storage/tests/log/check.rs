//! A check of a directory whose node is stopped: a verdict for every file, whatever became of it.

use std::collections::BTreeMap;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::support::*;
use inkstone_storage::error::OpenError;
use inkstone_storage::io::{Disk as _, RealDisk};
use inkstone_storage::log::check::{CheckError, FileKind, FileReport, State, check};
use inkstone_storage::log::{DirLock, Log};
use inkstone_storage::types::{Identity, LogId, NO_CLUSTER, Vote};

const LOG: LogId = LogId(4);

/// A data directory as a node leaves it: identity, a vote, sealed segments with checkpoints, one that is not sealed.
fn data(dir: &Path) {
    let lock = DirLock::acquire(dir).expect("a new directory");
    lock.set_identity(options(dir).identity).expect("writable");
    let log = open(dir);
    let vote = Vote {
        term: 1,
        node: 9,
        committed: true,
    };
    wait(|done| log.save_vote(vote, done)).expect("saved");
    fill(&log, LOG, 0, 50);
}

fn reports(dir: &Path) -> Vec<FileReport> {
    let mut last = None;
    let reports = check(&RealDisk, dir, &mut |progress| last = Some(progress));
    if let Some(last) = last {
        assert_eq!(last.verified, last.total, "the progress ends at its end");
    }
    reports.expect("a data directory")
}

/// What was said of the file of that name: there is one verdict.
fn of<'a>(reports: &'a [FileReport], file: &Path) -> &'a FileReport {
    let found: Vec<&FileReport> = reports
        .iter()
        .filter(|report| file.ends_with(&report.file))
        .collect();
    assert_eq!(found.len(), 1, "{}: {reports:#?}", file.display());
    found[0]
}

/// The files that are not good, with their verdicts.
fn bad(dir: &Path) -> BTreeMap<PathBuf, State> {
    reports(dir)
        .into_iter()
        .filter(|report| !report.state.is_good())
        .map(|report| (report.file, report.state))
        .collect()
}

fn only(file: &Path, dir: &Path, state: State) -> BTreeMap<PathBuf, State> {
    let file = file.strip_prefix(dir).expect("below").to_owned();
    BTreeMap::from([(file, state)])
}

fn group(dir: &Path, name: &str) -> PathBuf {
    dir.join("group-1").join(name)
}

fn base(file: &Path) -> u64 {
    let stem = file.file_stem().expect("a name").to_string_lossy();
    stem.parse().expect("a number")
}

/// The entries of all damaged places of a file.
fn entries(report: &FileReport) -> Vec<RangeInclusive<u64>> {
    let faults = report.faults.iter();
    faults.filter_map(|fault| fault.entries.clone()).collect()
}

/// Every file below a directory, with its bytes.
fn bytes(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for item in fs::read_dir(dir).expect("a directory") {
        let path = item.expect("an item").path();
        if path.is_dir() {
            found.extend(bytes(&path));
        } else {
            let content = fs::read(&path).expect("readable");
            found.insert(path, content);
        }
    }
    found
}

#[test]
fn a_whole_directory_has_a_good_verdict_for_every_file_and_is_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let before = bytes(dir.path());
    let reports = reports(dir.path());
    assert_eq!(bytes(dir.path()), before, "nothing was written");
    let (disk, _) = FailingDisk::new();
    check(disk.as_ref(), dir.path(), &mut |_| ()).unwrap();
    let asked = disk.operations();
    assert!(!asked.is_empty() && asked.iter().all(|asked| asked.starts_with("read ")));
    let mut files: Vec<PathBuf> = before.keys().cloned().collect();
    files.sort();
    let checked: Vec<PathBuf> = reports
        .iter()
        .map(|report| dir.path().join(&report.file))
        .collect();
    let mut sorted = checked.clone();
    sorted.sort();
    assert_eq!(sorted, files, "one verdict for every file");
    for report in &reports {
        assert_eq!(report.state, State::Whole, "{report:#?}");
        assert_eq!(report.faults_count, 0);
    }
    let segments = segments(dir.path());
    let mut next = 0;
    for (number, file) in segments.iter().enumerate() {
        let report = of(&reports, file);
        let sealed = number + 1 < segments.len();
        let kind = if sealed {
            FileKind::SealedSegment
        } else {
            FileKind::Segment
        };
        assert_eq!(report.kind, kind);
        let range = report.entries.clone().unwrap();
        assert_eq!(*range.start(), next);
        next = range.end() + 1;
    }
    assert_eq!(next, 50);
    let hard_state = of(&reports, &group(dir.path(), "hard-state"));
    assert!(
        hard_state.notes[0].contains("vote for node 9 in term 1, committed"),
        "{hard_state:?}"
    );
}

#[test]
fn every_wrong_byte_of_a_segment_is_damage_and_names_the_entry() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let segments = segments(dir.path());
    let mut images = 0;
    for file in &segments {
        let report = of(&reports(dir.path()), file).clone();
        let range = report.entries.unwrap();
        // The unsealed one is preallocated: behind its frames stand zeros.
        let whole = fs::read(file).unwrap();
        let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        for position in (0..end).step_by(397).chain([0, 9, 4096, 4110, end - 1]) {
            flip(file, position);
            let reports = reports(dir.path());
            let report = of(&reports, file);
            assert_eq!(
                report.state,
                State::Damaged,
                "byte {position} of {}: {report:#?}",
                file.display()
            );
            for named in entries(report) {
                assert!(range.contains(named.start()) && range.contains(named.end()));
                assert_eq!(named.start(), named.end(), "byte {position}: {report:#?}");
            }
            let others = reports.iter().filter(|other| other.file != report.file);
            assert!(others.map(|other| other.state).all(State::is_good));
            images += 1;
            fs::write(file, &whole).unwrap();
        }
    }
    assert!(images > 100, "{images}");
}

#[test]
fn a_torn_tail_is_torn_and_one_that_the_watermark_covers_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let log = open(dir.path());
    let watermark = group(dir.path(), "watermark");
    let before = fs::read(&watermark).unwrap();
    append(
        &log,
        vec![command(50, noise(1, 300)), command(51, noise(2, 300))],
    );
    drop(log);
    let after = fs::read(&watermark).unwrap();
    let last = segments(dir.path()).pop().unwrap();
    let whole = fs::read(&last).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap();
    flip(&last, end - 10);
    let found = reports(dir.path());
    let report = of(&found, &last);
    assert_eq!(report.state, State::Damaged, "{report:#?}");
    assert_eq!(entries(report), [51..=51]);

    fs::write(&watermark, before).unwrap();
    let found = reports(dir.path());
    let report = of(&found, &last);
    assert_eq!(report.state, State::Torn, "{report:#?}");
    assert_eq!(report.entries.clone().unwrap().end(), &50);
    assert!(report.notes.iter().any(|note| note.contains("is cut")));
    assert!(bad(dir.path()).is_empty());

    // The end is gone altogether.
    fs::write(&watermark, after).unwrap();
    let mut cut = whole.clone();
    cut[end - 700..].fill(0);
    fs::write(&last, cut).unwrap();
    let found = reports(dir.path());
    let report = of(&found, &last);
    assert_eq!(report.state, State::Damaged, "{report:#?}");
    assert_eq!(entries(report), [50..=51]);
}

#[test]
fn missing_segments_are_named_with_their_entries() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let segments = segments(dir.path());
    for (number, file) in segments.iter().enumerate() {
        let aside = dir.path().join("aside.tmp");
        RealDisk.rename(file, &aside).unwrap();
        let reports = reports(dir.path());
        let report = of(&reports, file);
        assert_eq!(report.state, State::Missing, "{report:#?}");
        let next = segments.get(number + 1).map_or(50, |next| base(next));
        assert_eq!(entries(report), [base(file)..=next - 1]);
        assert_eq!(
            bad(dir.path()),
            only(file, dir.path(), State::Missing),
            "nothing else is wrong"
        );
        RealDisk.rename(&aside, file).unwrap();
    }
}

#[test]
fn one_bad_slot_of_the_hard_state_is_torn_and_one_of_the_watermark_or_two_are_damaged() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    for (name, alone) in [("hard-state", State::Torn), ("watermark", State::Damaged)] {
        let file = group(dir.path(), name);
        let whole = fs::read(&file).unwrap();
        for position in [0, 9, 40, 127] {
            flip(&file, position);
            assert_eq!(of(&reports(dir.path()), &file).state, alone);
            flip(&file, 4096 + position);
            let found = reports(dir.path());
            let report = of(&found, &file);
            assert_eq!(report.state, State::Damaged, "{report:#?}");
            assert_eq!(report.faults_count, 2);
            fs::write(&file, &whole).unwrap();
        }
        fs::write(&file, &whole[..100]).unwrap();
        assert_eq!(bad(dir.path()), only(&file, dir.path(), State::Damaged));
        remove(&file);
        assert_eq!(bad(dir.path()), only(&file, dir.path(), State::Missing));
        fs::write(&file, &whole).unwrap();
    }
}

#[test]
fn a_damaged_checkpoint_snapshot_or_identity_is_damaged_alone() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let log = open(dir.path());
    log.save_snapshot(&checkpoint(7)).unwrap();
    drop(log);
    let boundary = base(&segments(dir.path())[1]);
    let files = [
        group(dir.path(), "snapshot"),
        group(dir.path(), &format!("log/{boundary:020}.ckpt")),
        dir.path().join("identity"),
    ];
    for file in files {
        let size = fs::read(&file).unwrap().len();
        for position in 0..size {
            flip(&file, position);
            assert_eq!(
                bad(dir.path()),
                only(&file, dir.path(), State::Damaged),
                "byte {position}"
            );
            flip(&file, position);
        }
        let whole = fs::read(&file).unwrap();
        for size in [0, 1, size - 1] {
            fs::write(&file, &whole[..size]).unwrap();
            assert_eq!(bad(dir.path()), only(&file, dir.path(), State::Damaged));
        }
        fs::write(&file, &whole).unwrap();
    }
}

#[test]
fn a_purge_without_a_checkpoint_that_reaches_it_lacks_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let boundary = base(&segments(dir.path())[2]);
    let log = open(dir.path());
    purge(&log, id(boundary - 1));
    drop(log);
    assert!(bad(dir.path()).is_empty());
    let first = segments(dir.path())[0].clone();
    assert_eq!(base(&first), boundary);
    for item in fs::read_dir(group(dir.path(), "log")).unwrap() {
        let path = item.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "ckpt")
        {
            remove(&path);
        }
    }
    let snapshot = group(dir.path(), "snapshot");
    assert_eq!(bad(dir.path()), only(&snapshot, dir.path(), State::Missing));
}

#[test]
fn what_a_purge_or_a_crash_leaves_is_a_leftover_and_what_is_unknown_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let purged: Vec<(PathBuf, Vec<u8>)> = segments(dir.path())[..2]
        .iter()
        .map(|file| (file.clone(), fs::read(file).unwrap()))
        .collect();
    let log = open(dir.path());
    purge(&log, id(base(&segments(dir.path())[2]) - 1));
    drop(log);
    for (file, whole) in &purged {
        fs::write(file, whole).unwrap();
    }
    let tmp = group(dir.path(), "log/00000000000000000040.tmp");
    fs::write(&tmp, b"half").unwrap();
    let unknown = group(dir.path(), "log/notes.txt");
    fs::write(&unknown, b"mine").unwrap();
    fs::create_dir(group(dir.path(), "search")).unwrap();
    let found = reports(dir.path());
    for (file, _) in &purged {
        assert_eq!(of(&found, file).state, State::Leftover);
    }
    assert_eq!(of(&found, &tmp).state, State::Leftover);
    assert_eq!(of(&found, &unknown).state, State::Unknown);
    let search = of(&found, &group(dir.path(), "search"));
    assert_eq!(
        (search.kind, search.state),
        (FileKind::Search, State::NotChecked)
    );
    assert!(bad(dir.path()).is_empty());
}

#[test]
fn files_of_another_cluster_or_node_are_foreign() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    data(dir.path());
    let mut theirs = options(other.path());
    theirs.identity = Identity {
        cluster_id: [6; 16],
        node_id: 77,
    };
    let log = Log::open(theirs).unwrap();
    fill(&log, LOG, 0, 50);
    log.save_snapshot(&checkpoint(7)).unwrap();
    drop(log);
    fs::copy(
        group(other.path(), "snapshot"),
        group(dir.path(), "snapshot"),
    )
    .unwrap();
    let ours = segments(dir.path());
    let theirs = segments(other.path());
    for (file, found) in [
        (
            group(dir.path(), "snapshot"),
            group(other.path(), "snapshot"),
        ),
        (
            group(dir.path(), "hard-state"),
            group(other.path(), "hard-state"),
        ),
        (
            group(dir.path(), "watermark"),
            group(other.path(), "watermark"),
        ),
        (ours[1].clone(), theirs[1].clone()),
    ] {
        let whole = fs::read(&file).unwrap();
        fs::copy(found, &file).unwrap();
        assert_eq!(of(&reports(dir.path()), &file).state, State::Foreign);
        fs::write(&file, whole).unwrap();
    }
    // A vote of another node of the same cluster does not count here.
    let other = tempfile::tempdir().unwrap();
    let mut theirs = options(other.path());
    theirs.identity.node_id += 1;
    drop(Log::open(theirs).unwrap());
    let hard_state = group(dir.path(), "hard-state");
    fs::copy(group(other.path(), "hard-state"), &hard_state).unwrap();
    assert_eq!(of(&reports(dir.path()), &hard_state).state, State::Foreign);
}

#[test]
fn a_footer_that_is_gone_is_damage_when_a_later_one_is_there() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    for item in fs::read_dir(group(dir.path(), "log")).unwrap() {
        let path = item.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "ckpt")
        {
            remove(&path);
        }
    }
    let files = segments(dir.path());
    let sealed = files.len() - 1;
    for (number, file) in files[..sealed].iter().enumerate() {
        let whole = fs::read(file).unwrap();
        flip(file, whole.len() - 100);
        let found = reports(dir.path());
        let report = of(&found, file);
        // Behind the last one a crash may have interrupted the sealing: its frames are all there.
        let expected = if number + 1 < sealed {
            State::Damaged
        } else {
            State::Whole
        };
        assert_eq!(report.state, expected, "{report:#?}");
        assert_eq!(entries(report), []);
        fs::write(file, whole).unwrap();
    }
}

#[test]
fn a_segment_in_another_one_s_place_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let files = segments(dir.path());
    let whole = fs::read(&files[1]).unwrap();
    fs::copy(&files[0], &files[1]).unwrap();
    assert_eq!(bad(dir.path()), only(&files[1], dir.path(), State::Damaged));
    fs::write(&files[1], whole).unwrap();
    assert!(bad(dir.path()).is_empty());
}

#[test]
fn an_interrupted_first_start_and_a_directory_without_a_group_are_good() {
    let dir = tempfile::tempdir().unwrap();
    let lock = DirLock::acquire(dir.path()).unwrap();
    assert!(matches!(
        check(&RealDisk, dir.path(), &mut |_| ()),
        Err(CheckError::NoData { .. })
    ));
    let identity = options(dir.path()).identity;
    let alone = Identity {
        cluster_id: NO_CLUSTER,
        ..identity
    };
    lock.set_identity(alone).unwrap();
    assert!(bad(dir.path()).is_empty());
    drop(open(dir.path()));
    lock.set_identity(identity).unwrap();
    assert!(bad(dir.path()).is_empty());
    fs::write(group(dir.path(), "watermark"), []).unwrap();
    assert!(bad(dir.path()).is_empty());
    remove(&group(dir.path(), "watermark"));
    assert!(bad(dir.path()).is_empty());
    drop(open(dir.path()));
    remove(&group(dir.path(), "hard-state"));
    let hard_state = group(dir.path(), "hard-state");
    assert_eq!(
        bad(dir.path()),
        only(&hard_state, dir.path(), State::Missing)
    );
    let nothing = dir.path().join("nothing");
    assert!(matches!(
        check(&RealDisk, &nothing, &mut |_| ()),
        Err(CheckError::Unlistable { .. })
    ));
}

#[test]
fn a_node_of_a_cluster_without_its_group_has_lost_its_hard_state() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let hard_state = group(dir.path(), "hard-state");
    let missing = only(&hard_state, dir.path(), State::Missing);
    let group = hard_state.parent().unwrap();
    fs::remove_dir_all(group).unwrap();
    assert_eq!(bad(dir.path()), missing);
    fs::create_dir(group).unwrap();
    let found = reports(dir.path());
    assert_eq!(of(&found, &hard_state).state, State::Missing);
}

#[test]
fn an_emptied_last_segment_names_the_entries_that_it_took() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let last = segments(dir.path()).pop().unwrap();
    fs::write(&last, []).unwrap();
    let found = reports(dir.path());
    let report = of(&found, &last);
    assert_eq!(report.state, State::Damaged, "{report:#?}");
    assert_eq!(entries(report), [base(&last)..=49]);
}

#[test]
fn the_lock_of_a_directory_is_taken_without_making_one() {
    let dir = tempfile::tempdir().unwrap();
    assert!(DirLock::acquire_existing(dir.path()).unwrap().is_none());
    assert!(bytes(dir.path()).is_empty(), "no LOCK was made");
    let held = DirLock::acquire(dir.path()).unwrap();
    let refused = DirLock::acquire_existing(dir.path()).unwrap_err();
    assert!(matches!(refused, OpenError::Locked { .. }), "{refused}");
    drop(held);
    let held = DirLock::acquire_existing(dir.path()).unwrap();
    assert!(held.is_some());
    assert!(
        DirLock::acquire(dir.path()).is_err(),
        "no node starts meanwhile"
    );
}

#[test]
fn no_bytes_make_a_check_panic() {
    let dir = tempfile::tempdir().unwrap();
    data(dir.path());
    let files: Vec<PathBuf> = bytes(dir.path()).into_keys().collect();
    let mut images = 0;
    for (number, file) in files.iter().enumerate() {
        let whole = fs::read(file).unwrap();
        for seed in 0..12_u64 {
            let mut image = whole.clone();
            let random = noise(seed * 100 + number as u64, 64);
            let at = usize::from(u16::from_le_bytes([random[0], random[1]])) % (image.len() + 1);
            match seed % 4 {
                0 => image.truncate(at),
                1 => image[at..].fill(random[2]),
                2 => {
                    let end = image.len().min(at + random.len());
                    let size = end - at;
                    image[at..end].copy_from_slice(&random[..size]);
                }
                _ => image.extend_from_slice(&random),
            }
            fs::write(file, &image).unwrap();
            reports(dir.path());
            images += 1;
        }
        fs::write(file, whole).unwrap();
    }
    assert!(images >= 12 * 8, "{images}");
}

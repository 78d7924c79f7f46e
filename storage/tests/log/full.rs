//! A disk without room: appends are refused before it comes to that, what is written all the same fails cleanly, and what
//! was acknowledged is there when there is room again.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::hooked::{Fault, HookedDisk, QuotaDisk};
use crate::support::*;
use crate::tell::tell;
use inkstone_storage::error::WriteErrorKind;
use inkstone_storage::io::{Disk, RealDisk};
use inkstone_storage::log::{Log, LogOptions, Spare};
use inkstone_storage::types::Vote;

const SEGMENT: u64 = 256 << 10;
/// Bytes of the small disk, and of what lies on it beside the log and is removed to make room.
const DISK: u64 = 4 << 20;
const BALLAST: u64 = 1 << 20;
/// The small disk in a child of this test.
const TMPFS: &str = "INKSTONE_TEST_TMPFS";

fn small(dir: &Path, free_size_min: u64) -> LogOptions {
    LogOptions {
        segment_size: SEGMENT,
        free_size_min,
        ..options(dir)
    }
}

fn vote(term: u64) -> Vote {
    Vote {
        term,
        node: 8,
        committed: true,
    }
}

/// Appends in groups of up to 8 until one is not acknowledged, or until the low-water mark: how many were.
fn append_until_full(log: &Log) -> u64 {
    let mut acknowledged = log.state().last.map_or(0, |last| last.index + 1);
    loop {
        let mut outcomes = Vec::new();
        let next = log.state().last.map_or(0, |last| last.index + 1);
        for index in next..next + 8 {
            if log.check_space().is_err() {
                break;
            }
            let (done, outcome) = callback();
            let size = 3_000 + place(index % 7) * 1_000;
            match log.append(vec![command(index, noise(index, size))], done) {
                Ok(()) => outcomes.push(outcome),
                Err(_) => break,
            }
        }
        if outcomes.is_empty() {
            return acknowledged;
        }
        for outcome in outcomes {
            if outcome.recv().expect("answered").is_ok() {
                acknowledged += 1;
            }
        }
    }
}

/// Everything that was acknowledged is there, byte for byte.
fn check(log: &Log, acknowledged: u64) {
    let found = all(log);
    assert!(
        found.len() as u64 >= acknowledged,
        "{} of {acknowledged}",
        found.len()
    );
    for (index, entry) in (0..).zip(found) {
        let size = 3_000 + place(index % 7) * 1_000;
        assert_eq!(
            (entry.id, &entry.payload[..]),
            (id(index), &noise(index, size)[..])
        );
    }
}

/// Without a mark: the disk fills up, the log stops, opens again on the full disk, and goes on when there is room.
fn fill_to_the_brim(disk: &Arc<dyn Disk>, dir: &Path, make_room: impl FnOnce()) {
    let log = Log::open_on(Arc::clone(disk), small(dir, 0)).expect("readable and writable");
    let acknowledged = append_until_full(&log);
    assert!(acknowledged > 300, "{acknowledged}");
    let failure = log.failure().expect("the disk is full");
    assert_eq!(failure.kind, WriteErrorKind::Full, "{failure}");
    assert!(
        failure.to_string().contains("the disk is full"),
        "{failure}"
    );
    check(&log, acknowledged);
    drop(log);
    // What stands in the way of a start is in the way of a vote, and votes need no space.
    for term in 1..20 {
        let log = Log::open_on(Arc::clone(disk), small(dir, 0)).expect("readable and writable");
        check(&log, acknowledged);
        wait(|done| log.save_vote(vote(term), done)).expect("readable and writable");
        assert_eq!(log.vote(), Some(vote(term)));
    }
    make_room();
    let log = Log::open_on(Arc::clone(disk), small(dir, 0)).expect("readable and writable");
    assert_eq!(log.vote(), Some(vote(19)));
    check(&log, acknowledged);
    let more = append_until_full(&log);
    assert!(more > acknowledged + 50, "{acknowledged}, then {more}");
    drop(log);
    let log = Log::open(small(dir, 0)).expect("readable and writable");
    check(&log, more);
}

/// With a mark: appends are refused while there is room for all else, nothing fails, and it goes on when there is room.
fn stop_at_the_mark(disk: &Arc<dyn Disk>, dir: &Path, make_room: impl FnOnce()) {
    const MARK: u64 = 4 * SEGMENT;
    let log = Log::open_on(Arc::clone(disk), small(dir, MARK)).expect("readable and writable");
    let acknowledged = append_until_full(&log);
    assert!(acknowledged > 100, "{acknowledged}");
    let low = log.check_space().expect_err("readable and writable");
    assert_eq!((&low.dir, low.free_size_min), (&dir.join("group-1"), MARK));
    assert!(low.free_size < MARK && low.free_size > MARK / 2, "{low}");
    // What Raft writes itself still fits, and votes, snapshots and reads do.
    let mut next = acknowledged;
    for term in 1..20 {
        wait(|done| log.save_vote(vote(term), done)).expect("readable and writable");
        let size = 3_000 + place(next % 7) * 1_000;
        append(&log, vec![command(next, noise(next, size))]);
        log.save_snapshot(&checkpoint(3))
            .expect("readable and writable");
        next += 1;
    }
    check(&log, next);
    assert!(log.check_space().is_err());
    assert!(log.failure().is_none());
    make_room();
    log.check_space().expect("readable and writable");
    let more = append_until_full(&log);
    assert!(more > next + 50, "{next}, then {more}");
    assert!(log.failure().is_none());
    drop(log);
    check(
        &Log::open(small(dir, MARK)).expect("readable and writable"),
        more,
    );
}

#[test]
fn nothing_acknowledged_is_lost_on_a_disk_that_fills_up() {
    let dir = tempfile::tempdir().unwrap();
    let disk = QuotaDisk::new(DISK - BALLAST);
    let grow = Arc::clone(&disk);
    let disk: Arc<dyn Disk> = disk;
    fill_to_the_brim(&disk, dir.path(), || grow.grow(BALLAST));
}

#[test]
fn the_low_water_mark_refuses_before_anything_fails() {
    let dir = tempfile::tempdir().unwrap();
    let disk = QuotaDisk::new(DISK - BALLAST);
    let grow = Arc::clone(&disk);
    let disk: Arc<dyn Disk> = disk;
    stop_at_the_mark(&disk, dir.path(), || grow.grow(BALLAST));
}

/// The same on the system's own full disk: a tmpfs of a few megabytes, mounted in a namespace of a child process, which
/// takes no privilege where user namespaces are allowed. Where they are not, this says so, and the two tests above, whose
/// disk only counts, are all that is shown.
#[test]
fn nothing_acknowledged_is_lost_on_a_small_tmpfs_that_fills_up() {
    const NAME: &str = "full::nothing_acknowledged_is_lost_on_a_small_tmpfs_that_fills_up";
    if let Some(tmpfs) = env::var_os(TMPFS) {
        println!("{}", on_the_tmpfs(Path::new(&tmpfs)));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size={DISK} none {:?}", dir.path());
    let unshare = |script: &str| {
        Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
            .env(TMPFS, dir.path())
            .output()
    };
    let refused = match unshare(&mount) {
        Ok(tried) if tried.status.success() => None,
        Ok(tried) => Some(String::from_utf8_lossy(&tried.stderr).trim().to_owned()),
        Err(error) => Some(format!("unshare: {error}")),
    };
    if let Some(why) = refused {
        tell(&format!(
            "NOT RUN on a tmpfs: this process may not mount one ({why}); only the counting disk was filled"
        ));
        return;
    }
    let program = env::current_exe().unwrap();
    let script = format!("{mount} && exec {program:?} --exact {NAME} --nocapture");
    let child = unshare(&script).unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("filled a tmpfs"),
        "{said}\n{}",
        String::from_utf8_lossy(&child.stderr)
    );
    let said = said.lines().find(|line| line.starts_with("filled"));
    println!(
        "in a user and mount namespace: {}",
        said.unwrap_or_default()
    );
}

/// Fills the small disk to the brim and to the mark: what it says about it.
fn on_the_tmpfs(tmpfs: &Path) -> String {
    let free = || RealDisk.free_size(tmpfs).expect("mounted");
    assert!(
        free() <= DISK,
        "{} bytes are free: not the small disk",
        free()
    );
    let ballast = tmpfs.join("ballast");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (brim, mark) = (tmpfs.join("brim"), tmpfs.join("mark"));
    let lay = || fs::write(&ballast, vec![1; place(BALLAST)]).expect("there is room");
    lay();
    fill_to_the_brim(&disk, &brim, || remove(&ballast));
    let left = free();
    fs::remove_dir_all(&brim).expect("removed");
    lay();
    stop_at_the_mark(&disk, &mark, || remove(&ballast));
    format!(
        "filled a tmpfs to the brim ({left} bytes were left) and to the mark ({} bytes)",
        free()
    )
}

/// Fails the `nth` write (from 0) to a file of frames in that way.
fn failing_write(nth: u32, fault: Fault) -> Arc<HookedDisk> {
    let writes = AtomicU32::new(0);
    HookedDisk::new(move |verb, name| {
        // The handle keeps the name that the file was created with; its first write is the header.
        let frames = verb == "write" && name.starts_with("000");
        (frames && writes.fetch_add(1, Ordering::SeqCst) == nth + 1).then_some(fault)
    })
}

#[test]
fn a_write_that_found_no_room_is_undone_and_one_that_failed_is_recognised() {
    for (fault, kind) in [
        (Fault::HalfFull, WriteErrorKind::Full),
        (Fault::HalfBroken, WriteErrorKind::Disk),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions {
            spare: Spare::Never,
            ..options(dir.path())
        };
        let log = Log::open_on(failing_write(3, fault), options).unwrap();
        for index in 0..3 {
            append(&log, vec![command(index, noise(index, 500))]);
        }
        let entries = (3..6).map(|index| command(index, noise(index, 500)));
        let failed = wait(|done| log.append(entries.collect(), done)).unwrap_err();
        assert_eq!(failed.kind, kind);
        assert_eq!(log.state().durable, Some(id(2)));
        drop(log);
        let segment = fs::read(&segments(dir.path())[0]).unwrap();
        let durable = HEADER + 3 * frame_size(500);
        let rest = &segment[durable..];
        if kind == WriteErrorKind::Full {
            assert!(rest.is_empty(), "{} bytes are left", rest.len());
        } else {
            assert!(
                rest.iter().any(|byte| *byte != 0),
                "nothing touches a failed disk"
            );
        }
        let log = open(dir.path());
        let found = all(&log);
        assert!((3..6).contains(&found.len()), "{}", found.len());
        let next = found.len() as u64;
        append(&log, vec![command(next, noise(next, 500))]);
        drop(log);
        assert_eq!(all(&open(dir.path())).len() as u64, next + 1);
    }
}

#[test]
fn a_segment_for_which_there_is_no_room_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let disk = HookedDisk::new(|verb, name| {
        (verb == "allocate" && name.starts_with("000")).then_some(Fault::Full)
    });
    let log = Log::open_on(disk, options(dir.path())).unwrap();
    let failed = wait(|done| log.append(vec![command(0, "x")], done)).unwrap_err();
    assert_eq!(failed.kind, WriteErrorKind::Full);
    assert!(
        failed.cause.contains("00000000000000000000.seg"),
        "{failed}"
    );
    let left = fs::read_dir(dir.path().join("group-1/log"))
        .unwrap()
        .count();
    assert_eq!(left, 0);
}

#[test]
fn truncating_on_a_full_disk_needs_no_space() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    append(&log, (0..9).map(|index| command(index, "x")).collect());
    drop(log);
    let disk = HookedDisk::new(|verb, name| {
        (verb == "allocate" && has_extension(name, "seg")).then_some(Fault::Full)
    });
    let log = Log::open_on(disk, options(dir.path())).unwrap();
    truncate(&log, Some(4));
    append(&log, vec![command(5, "y")]);
    drop(log);
    assert_eq!(all(&open(dir.path())).len(), 6);
}

#[test]
fn a_log_without_a_mark_asks_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let disk = QuotaDisk::new(1 << 20);
    let log = Log::open_on(disk, options(dir.path())).unwrap();
    log.check_space().unwrap();
    drop(log);
    let options = LogOptions {
        free_size_min: u64::MAX,
        ..options(dir.path())
    };
    let log = Log::open(options).unwrap();
    assert!(log.check_space().is_err());
    append(
        &log,
        vec![command(0, "Raft's own entries are written all the same")],
    );
}

#[test]
fn votes_and_watermarks_have_their_blocks_before_they_need_them() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    for name in ["hard-state", "watermark"] {
        let file = fs::metadata(dir.path().join("group-1").join(name)).unwrap();
        assert_eq!(file.len(), 8_192, "{name}");
        assert!(
            file.blocks() * 512 >= 8_192,
            "{name}: {} blocks",
            file.blocks()
        );
    }
}

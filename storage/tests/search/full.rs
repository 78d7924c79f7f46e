//! A disk that fills up while it indexes: what was committed is found, and it goes on when there is room.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use inkstone_storage::search::{Feeder, IndexError};

use crate::index::{LOG, find, open_at, record};
use crate::tell::tell;

/// The small disk in a child of this test.
const TMPFS: &str = "INKSTONE_TEST_TMPFS";
const DISK: usize = 8 << 20;
const BALLAST: usize = 6 << 20;

/// Where a namespace of its own is not allowed, this says that it did not run.
#[test]
fn an_index_whose_disk_filled_up_goes_on_where_it_was_committed() {
    const NAME: &str = "full::an_index_whose_disk_filled_up_goes_on_where_it_was_committed";
    if let Some(tmpfs) = env::var_os(TMPFS) {
        println!("{}", fill(Path::new(&tmpfs)));
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
            "NOT RUN: this process may not mount a tmpfs ({why})"
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
}

/// Words that no other record has: an index of them is as large as it gets.
fn body(offset: u64) -> String {
    let words = (0..40).map(|word| {
        let mixed = (offset * 40 + word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!("{mixed:016x}")
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Feeds until there is no room, with a commit now and then: how many were committed, and what went wrong.
fn feed_until_full(feeder: &mut Feeder) -> (u64, IndexError) {
    let mut committed = feeder.next_index();
    for offset in committed.. {
        let records = vec![record(offset, &body(offset))];
        if let Err(error) = feeder.feed(offset, &[(LOG, records)]) {
            return (committed, error);
        }
        if offset % 500 == 499 {
            match feeder.commit() {
                Ok(()) => committed = offset + 1,
                Err(error) => return (committed, error),
            }
        }
    }
    unreachable!("the disk is small")
}

fn fill(tmpfs: &Path) -> String {
    let ballast = tmpfs.join("ballast");
    fs::write(&ballast, vec![1; BALLAST]).expect("there is room");
    let (mut feeder, searcher) = open_at(tmpfs, u64::MAX);
    let (committed, error) = feed_until_full(&mut feeder);
    assert!(matches!(error, IndexError::Full(_)), "{error}");
    drop((feeder, searcher));
    fs::write(&ballast, "").expect("it becomes shorter");
    let (mut feeder, searcher) = open_at(tmpfs, u64::MAX);
    assert!(
        feeder.next_index() >= committed,
        "what was committed is there"
    );
    let (more, _) = feed_until_full(&mut feeder);
    assert!(more > committed, "{committed}, then {more}");
    for offset in [0, committed.saturating_sub(1), more - 1] {
        let first_word = body(offset);
        let first_word = first_word.split(' ').next().unwrap_or_default();
        assert_eq!(find(&searcher, first_word), [offset]);
    }
    format!("filled a tmpfs: {committed} records, then {more}")
}

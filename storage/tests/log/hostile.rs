//! Numbers at the end of what their fields hold, under crcs that are right: refused or gone on with, never a panic.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::support::*;
use inkstone_storage::error::WriteErrorKind;
use inkstone_storage::log::{Log, Repair};
use inkstone_storage::types::Vote;

fn forge(path: &Path, at: usize, value: u64) {
    let mut bytes = fs::read(path).expect("readable");
    for slot in [0, 4096] {
        let field = slot + at..slot + at + 8;
        bytes[field].copy_from_slice(&value.to_le_bytes());
        let crc = crc32fast::hash(&bytes[slot..slot + 124]);
        bytes[slot + 124..slot + 128].copy_from_slice(&crc.to_le_bytes());
    }
    fs::write(path, bytes).expect("writable");
}

fn drive(dir: &Path) -> Option<String> {
    let looked = catch_unwind(AssertUnwindSafe(|| {
        drop(Repair::open(
            std::sync::Arc::new(inkstone_storage::io::RealDisk),
            options(dir),
        ));
        let log = Log::open(options(dir)).ok()?;
        let state = log.state();
        let next = state
            .last
            .map_or(0, |last| last.index + 1)
            .max(state.first_index);
        drop(log.entries(state.first_index, u64::MAX, usize::MAX));
        let vote = Vote {
            term: 9,
            node: 1,
            committed: false,
        };
        drop(wait(|done| log.save_vote(vote, done)));
        drop(wait(|done| {
            log.append(vec![command(next, vec![1; 900])], done)
        }));
        drop(wait(|done| log.truncate_after(Some(next), done)));
        let failure = log.failure()?;
        (failure.kind == WriteErrorKind::Panic).then(|| failure.to_string())
    }));
    match looked {
        Ok(found) => found,
        Err(panic) => Some(
            panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
                .unwrap_or_default(),
        ),
    }
}

#[test]
fn numbers_at_their_ends_never_panic() {
    let mut panics = Vec::new();
    for purged in [false, true] {
        for (name, fields) in [
            ("hard-state", &[40_usize, 48, 56, 64, 72, 80, 88][..]),
            ("watermark", &[32, 40, 48, 56, 64, 72, 80]),
        ] {
            for at in fields {
                for value in [u64::MAX, u64::MAX - 1, u64::MAX / 2, 1 << 32, 0] {
                    let dir = tempfile::tempdir().unwrap();
                    let log = open(dir.path());
                    append(
                        &log,
                        (0..30).map(|index| command(index, vec![1; 900])).collect(),
                    );
                    if purged {
                        log.save_snapshot(&checkpoint(20)).unwrap();
                        purge(&log, id(20));
                    }
                    drop(log);
                    forge(&dir.path().join("group-1").join(name), *at, value);
                    if let Some(panic) = drive(dir.path()) {
                        panics.push(format!("{name} {at} {value:x} purged {purged}: {panic}"));
                    }
                }
            }
        }
    }
    assert!(panics.is_empty(), "{}", panics.join("\n"));
}

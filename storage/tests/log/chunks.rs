//! A sync group that is larger than what is written with one call: whatever of its chunks reached the disk, in whatever
//! order, the log is a prefix, and nothing that was acknowledged is gone.

use std::path::Path;
use std::sync::Arc;

use crate::support::*;
use inkstone_storage::io::sim::{Call, Fault, Names, Policy, SimDisk, Unit, Unsynced};
use inkstone_storage::log::{Log, LogOptions, Spare, Verdict};
use inkstone_storage::types::Entry;

fn settings() -> LogOptions {
    LogOptions {
        segment_size: 2 << 20,
        queue_size: 16 << 20,
        spare: Spare::Never,
        ..options(Path::new("/data"))
    }
}

fn open_on(disk: &SimDisk) -> Log {
    let opened = Log::open_on(Arc::new(disk.clone()), settings());
    opened.expect("no crash is damage")
}

fn entries() -> Vec<Entry> {
    (1..7)
        .map(|index| command(index, noise(index, 220_000)))
        .collect()
}

fn policies() -> Vec<Policy> {
    let mut policies = Vec::new();
    for names in [Names::Kept, Names::Lost] {
        for unit in [Unit::Sector, Unit::Page] {
            let only = (0..4).map(Unsynced::Only);
            let random = (0..3).map(Unsynced::Random);
            for data in [Unsynced::All, Unsynced::None]
                .into_iter()
                .chain(only)
                .chain(random)
            {
                let names = names.clone();
                policies.push(Policy { data, unit, names });
            }
        }
    }
    policies
}

#[test]
fn chunks_of_a_sync_group_that_reach_the_disk_in_any_order_are_torn_off() {
    let disk = SimDisk::new();
    let log = open_on(&disk);
    append(&log, vec![command(0, noise(0, 100))]);
    let durable = disk.journal().operations().len();
    let before = disk.calls(Call::Write);
    append(&log, entries());
    let chunks = disk.calls(Call::Write) - before - 1;
    assert!(chunks > 1, "{chunks} chunks, and the watermark");
    drop(log);
    let journal = disk.journal();
    let (mut torn, mut parts) = (0, 0);
    for point in durable..=journal.operations().len() {
        let crash = journal.crash(point);
        for policy in policies() {
            let again = SimDisk::from_image(&crash.image(&policy));
            let log = open_on(&again);
            let found = all(&log);
            let written = [vec![command(0, noise(0, 100))], entries()].concat();
            assert!(
                !found.is_empty() && written.starts_with(&found),
                "{point}: {policy:?}"
            );
            torn += u64::from(log.recovery().find(Verdict::TornTail).is_some());
            parts += u64::from((2..7).contains(&found.len()));
            let next = found.len() as u64;
            append(&log, vec![command(next, noise(next, 100))]);
            drop(log);
            let found = all(&open_on(&again));
            assert_eq!(found.len() as u64, next + 1, "{point}: {policy:?}");
        }
    }
    assert!(torn > 10 && parts > 10, "{torn} torn, {parts} in part");
}

#[test]
fn a_chunk_that_finds_no_room_or_fails_leaves_what_was_acknowledged() {
    for after in 0..4 {
        for fault in [
            Fault::after(after, &[Call::Write]).once(),
            Fault::after(after, &[Call::Write]).once().partly(70_000),
            Fault::after(after, &[Call::Write])
                .once()
                .no_space()
                .partly(70_000),
        ] {
            let disk = SimDisk::new();
            let log = open_on(&disk);
            append(&log, vec![command(0, noise(0, 100))]);
            disk.plan(fault);
            let outcome = wait(|done| log.append(entries(), done));
            drop(log);
            disk.clear_faults();
            let log = open_on(&disk);
            let found = all(&log);
            let written = [vec![command(0, noise(0, 100))], entries()].concat();
            let least = if outcome.is_ok() { 7 } else { 1 };
            assert!(
                found.len() >= least && written.starts_with(&found),
                "{after}"
            );
            let next = found.len() as u64;
            append(&log, vec![command(next, noise(next, 100))]);
        }
    }
}

//! A writer without a thread: nothing becomes durable but in its turns.

use std::path::Path;
use std::sync::Arc;

use inkstone_storage::io::sim::{Call, Fault, SimDisk};
use inkstone_storage::log::{Driver, Log, LogOptions, Spare, Turn};

use crate::support::*;

fn open_driven(disk: &SimDisk) -> (Log, Driver) {
    let options = LogOptions {
        spare: Spare::InTurn,
        ..options(Path::new("data"))
    };
    Log::open_driven(Arc::new(disk.clone()), options).expect("the log opens")
}

fn durable(log: &Log) -> Option<u64> {
    log.state().durable.map(|id| id.index)
}

#[test]
fn nothing_is_written_or_answered_between_turns() {
    let disk = SimDisk::new();
    let (log, mut driver) = open_driven(&disk);
    assert_eq!(driver.turn(), Turn::Idle);
    let before = disk.journal().operations().len();
    let (done, answered) = callback();
    log.append(vec![command(1, "a"), command(2, "b")], done)
        .expect("the log goes on");
    assert_eq!(disk.journal().operations().len(), before);
    assert_eq!((durable(&log), answered.try_recv().is_err()), (None, true));
    assert_eq!(driver.turn(), Turn::Worked);
    assert_eq!(durable(&log), Some(2));
    assert!(answered.try_recv().expect("it was answered").is_ok());
    assert_eq!(driver.turn(), Turn::Idle);
}

#[test]
fn what_the_last_handle_left_is_durable_before_the_end() {
    let disk = SimDisk::new();
    let (log, mut driver) = open_driven(&disk);
    log.append(vec![command(1, "a")], Box::new(|_| ()))
        .expect("the log goes on");
    drop(log);
    assert_eq!(driver.turn(), Turn::Worked);
    assert_eq!((driver.turn(), driver.turn()), (Turn::Ended, Turn::Ended));
    let (log, _driver) = open_driven(&disk);
    assert_eq!(durable(&log), Some(1));
}

#[test]
fn a_failure_is_told_once_and_ends_the_turns() {
    let disk = SimDisk::new();
    let (log, mut driver) = open_driven(&disk);
    disk.plan(Fault::after(0, &[Call::Sync]));
    let (done, answered) = callback();
    log.append(vec![command(1, "a")], done)
        .expect("the log goes on");
    assert_eq!((driver.turn(), driver.turn()), (Turn::Failed, Turn::Failed));
    assert!(answered.try_recv().expect("it was answered").is_err());
    assert!(log.failure().is_some());
}

#[test]
fn a_snapshot_is_kept_in_a_turn() {
    let disk = SimDisk::new();
    let (log, mut driver) = open_driven(&disk);
    let (done, answered) = callback();
    log.keep_snapshot(checkpoint(7), done)
        .expect("the log goes on");
    assert!(answered.try_recv().is_err() && log.snapshot().is_none());
    assert_eq!(driver.turn(), Turn::Worked);
    assert!(answered.try_recv().expect("it was answered").is_ok());
    assert_eq!(log.snapshot(), Some(checkpoint(7)));
}

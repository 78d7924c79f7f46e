//! The first failure ends the log, whatever it is: everybody who waits is answered, in order, and nobody is let in again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use crate::hooked::{Fault, HookedDisk};
use crate::support::*;
use inkstone_storage::error::{WriteError, WriteErrorKind};
use inkstone_storage::log::{Done, Log, LogOptions, Spare};
use inkstone_storage::types::Vote;

const VOTE: Vote = Vote {
    term: 3,
    node: 8,
    committed: true,
};

/// Holds the writer in a callback until it is let go: what is asked for meanwhile is taken at once afterwards.
fn hold(log: &Log) -> Arc<Barrier> {
    let barrier = Arc::new(Barrier::new(2));
    let (entered, held) = (Arc::new(Barrier::new(2)), Arc::clone(&barrier));
    let inside = Arc::clone(&entered);
    let done: Done = Box::new(move |_| {
        inside.wait();
        held.wait();
    });
    log.append(Vec::new(), done).expect("the log goes on");
    entered.wait();
    barrier
}

/// The order in which callbacks came, and whether with success.
type Answers = Arc<Mutex<Vec<(u64, bool)>>>;

fn noting(answers: &Answers, number: u64) -> Done {
    let answers = Arc::clone(answers);
    Box::new(move |outcome| {
        let mut answers = answers.lock().expect("no panic");
        answers.push((number, outcome.is_ok()));
    })
}

type Change = fn(&Log, Done) -> Result<(), WriteError>;

/// The log takes nothing any more, and lets go of whoever comes.
fn is_stopped(log: &Log) -> WriteError {
    let failure = log.failure().expect("it has stopped");
    assert!(log.append(vec![], Box::new(|_| ())).is_err());
    assert!(log.save_vote(VOTE, Box::new(|_| ())).is_err());
    assert!(log.save_snapshot(&checkpoint(1)).is_err());
    log.wait_for_room();
    failure
}

#[test]
fn a_callback_that_panics_stops_the_log_and_the_others_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let answers = Answers::default();
    let held = hold(&log);
    for index in 0..6 {
        let done = if index == 2 {
            Box::new(|_| panic!("a bug in a callback"))
        } else {
            noting(&answers, index)
        };
        log.append(vec![command(index, "x")], done).unwrap();
    }
    log.save_vote(VOTE, noting(&answers, 6)).unwrap();
    let (last, told) = callback();
    log.append(Vec::new(), last).unwrap();
    held.wait();
    assert!(told.recv().expect("answered").is_err());
    let expected: Vec<(u64, bool)> = vec![
        (0, true),
        (1, true),
        (3, false),
        (4, false),
        (5, false),
        (6, false),
    ];
    assert_eq!(*answers.lock().unwrap(), expected);
    let failure = is_stopped(&log);
    assert_eq!(failure.kind, WriteErrorKind::Panic);
    assert!(
        failure.to_string().contains("a bug in a callback"),
        "{failure}"
    );
    drop(log);
    assert_eq!(
        all(&open(dir.path())).len(),
        6,
        "they were durable, and are there"
    );
}

#[test]
fn a_panic_of_the_writer_in_any_job_answers_whoever_waits_for_it() {
    let jobs: [(&str, Change); 5] = [
        ("write", |log, done| log.append(vec![command(5, "y")], done)),
        ("sync", |log, done| log.save_vote(VOTE, done)),
        ("set_size", |log, done| log.truncate_after(Some(2), done)),
        ("sync", |log, done| log.purge(id(2), done)),
        ("create", |log, done| {
            log.append(vec![command(5, noise(5, 16_000))], done)
        }),
    ];
    for (verb, job) in jobs {
        let dir = tempfile::tempdir().unwrap();
        let armed = Arc::new(AtomicBool::new(false));
        let is_armed = Arc::clone(&armed);
        let disk = HookedDisk::new(move |asked, _| {
            (asked == verb && is_armed.load(Ordering::SeqCst)).then_some(Fault::Panic)
        });
        let options = LogOptions {
            spare: Spare::Never,
            ..options(dir.path())
        };
        let log = Log::open_on(disk, options).unwrap();
        append(&log, (0..5).map(|index| command(index, "x")).collect());
        // Without it a purged log does not open.
        log.save_snapshot(&checkpoint(4)).unwrap();
        let answers = Answers::default();
        let held = hold(&log);
        armed.store(true, Ordering::SeqCst);
        job(&log, noting(&answers, 0)).unwrap();
        log.append(Vec::new(), noting(&answers, 1)).unwrap();
        let (last, told) = callback();
        log.append(Vec::new(), last).unwrap();
        held.wait();
        assert!(told.recv().expect("answered").is_err(), "{verb}");
        assert_eq!(*answers.lock().unwrap(), [(0, false), (1, false)], "{verb}");
        assert_eq!(is_stopped(&log).kind, WriteErrorKind::Panic, "{verb}");
        drop(log);
        armed.store(false, Ordering::SeqCst);
        open(dir.path());
    }
}

#[test]
fn whoever_waits_for_room_is_let_go_when_the_log_stops() {
    let dir = tempfile::tempdir().unwrap();
    let disk = HookedDisk::new(|verb, name| {
        (verb == "sync" && name.starts_with("00000") && name.ends_with("0.tmp"))
            .then_some(Fault::Broken)
    });
    let options = LogOptions {
        queue_size: 100,
        spare: Spare::Never,
        ..options(dir.path())
    };
    let log = Log::open_on(disk, options).unwrap();
    let held = hold(&log);
    let (done, told) = callback();
    log.append(vec![command(0, noise(0, 1_000))], done).unwrap();
    assert!(!log.has_room());
    let waiting = thread::spawn({
        let log = log.clone();
        move || log.wait_for_room()
    });
    held.wait();
    assert!(told.recv().unwrap().is_err());
    waiting.join().unwrap();
    assert_eq!(is_stopped(&log).kind, WriteErrorKind::Disk);
}

#[test]
fn every_callback_comes_after_the_fsync_of_its_file_and_the_watermark_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let happened: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = Arc::clone(&happened);
    let disk = HookedDisk::new(move |verb, name| {
        noted.lock().unwrap().push(format!("{verb} {name}"));
        None
    });
    let options = LogOptions {
        spare: Spare::Never,
        ..options(dir.path())
    };
    let log = Log::open_on(disk, options).unwrap();
    let held = hold(&log);
    happened.lock().unwrap().clear();
    for index in 0..40 {
        let happened = Arc::clone(&happened);
        let done = Box::new(move |outcome: Result<(), WriteError>| {
            outcome.expect("the disk is fine");
            happened.lock().unwrap().push(format!("done {index}"));
        });
        log.append(vec![command(index, noise(index, 1_000))], done)
            .unwrap();
    }
    held.wait();
    barrier(&log);
    let happened = happened.lock().unwrap().clone();
    let (mut next, mut is_synced, mut is_marked, mut files) = (0, true, true, 0);
    for (number, what) in happened.iter().enumerate() {
        let (verb, name) = what.split_once(' ').unwrap();
        match (verb, name) {
            ("write", "watermark") => {
                assert!(is_synced, "{number}: the watermark is never ahead");
                is_marked = true;
            }
            // The handle keeps the name that the file was created with.
            ("write", _) if has_extension(name, "tmp") => (is_synced, is_marked) = (false, false),
            ("sync", _) if has_extension(name, "tmp") => is_synced = true,
            ("create", _) => {
                assert!(is_synced, "{number}: the file before is not synced");
                files += 1;
            }
            ("done", _) => {
                assert!(is_synced && is_marked, "{number}: {what}");
                assert_eq!(name, next.to_string());
                next += 1;
            }
            _ => {}
        }
    }
    assert!(next == 40 && files > 3, "{next} answers, {files} files");
}

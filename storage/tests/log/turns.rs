//! Two repairs of one segment at once.

use std::sync::mpsc;
use std::time::Duration;

use crate::repair::{apply, batch, flip_in_place, read_all, sealed};
use crate::support::*;
use inkstone_storage::error::RepairError;

#[test]
fn a_repair_waits_until_the_one_before_it_has_taken_its_place() {
    let dir = tempfile::tempdir().unwrap();
    drop(sealed(dir.path()));
    let log = open(dir.path());
    apply(&log, log.checkpoint().unwrap().applied.index + 1);
    let file = segments(dir.path()).remove(0);
    let whole = std::fs::read(&file).unwrap();
    let size = frame_size(batch(0).payload.len());
    flip_in_place(&file, HEADER + 4 * size + 300);

    // The writer thread is held, so that the first repair is written and is not in its place yet.
    let (release, held) = mpsc::sync_channel::<()>(1);
    let blocking = Box::new(move |_| assert!(held.recv().is_err(), "it is let go"));
    log.append(vec![command(60, noise(60, 10))], blocking)
        .unwrap();
    let (done, first) = callback();
    log.repair_sealed(4, vec![batch(4)], done).unwrap();

    let (asked, is_asked) = mpsc::sync_channel(1);
    let other = log.clone();
    let second = std::thread::spawn(move || {
        let entries = std::iter::once_with(move || {
            asked.send(()).expect("the test waits for it");
            batch(4)
        });
        let (done, outcome) = callback();
        other.repair_sealed(4, entries, done)?;
        outcome.recv().expect("every change is answered")?;
        Ok::<(), RepairError>(())
    });
    // It must not so much as look at what it is to write.
    let began = is_asked.recv_timeout(Duration::from_millis(300));
    began.expect_err("two repairs write the same file");
    drop(release);
    first.recv().unwrap().unwrap();
    let refused = second
        .join()
        .unwrap()
        .expect_err("nothing is damaged any more");
    assert!(
        matches!(refused, RepairError::NotFaulty { index: 4 }),
        "{refused}"
    );
    assert!(std::fs::read(&file).unwrap() == whole);
    read_all(&log);
    append(&log, vec![command(61, noise(61, 10))]);
    assert!(log.failure().is_none());
}

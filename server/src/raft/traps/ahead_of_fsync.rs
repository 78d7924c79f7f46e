//! Apply ahead of the fsync: apply may outrun this node's own fsync. If what it then kept of its state survived a
//! crash that the log's end did not, openraft would take the difference for a hole, purge up to it, and the node would
//! lack what it claims to have.

use std::collections::BTreeMap;

use inkstone_storage::error::OpenError;
use inkstone_storage::io::sim::{Image, Names, Operation, Policy, SimDisk, Unit, Unsynced};
use openraft::storage::{RaftLogStorage as _, RaftSnapshotBuilder as _, StorageHelper};

use super::*;

/// Where the log is on the simulated disk.
const DIR: &str = "/data";
/// Entries of one append.
const TOGETHER: u64 = 5;
/// Entries of one round: more than three segments of them.
const ROUND: u64 = 40;

/// The state behind every entry, and what the log was answered to be durable.
#[derive(Debug, Default)]
struct Expected {
    states: BTreeMap<u64, Bytes>,
}

/// What a round does once it has applied what is not durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Nothing,
    /// openraft wants a snapshot, of all that is applied, and purges to it.
    Snapshot,
}

/// A node that applies before its disk has synced.
struct Ahead {
    disk: SimDisk,
    storage: Storage,
    expected: Expected,
    next: u64,
}

impl Ahead {
    async fn begin() -> Self {
        let disk = SimDisk::new();
        let storage = Storage::open(Arc::new(disk.clone()), Path::new(DIR)).await;
        storage.append(&[creation(1)]).await;
        let mut ahead = Self {
            disk,
            storage,
            expected: Expected::default(),
            next: 1,
        };
        ahead.apply_below(1).await;
        ahead
    }

    async fn apply_below(&mut self, end: u64) {
        let from = self.storage.applied().await.map_or(0, |last| last + 1);
        for next in from..end {
            self.storage.apply_below(next + 1).await;
            self.expected.states.insert(next, self.storage.state());
        }
    }

    /// Appends while the first sync of it is held, applies all of it, and only then lets the disk go on.
    async fn round(&mut self, then: Then) {
        let held = self.disk.hold_next_sync();
        let mut answers = Vec::new();
        for first in (self.next..self.next + ROUND).step_by(5) {
            let entries = appends(1, first..first + TOGETHER, "ahead");
            answers.push(self.append_noting(&entries));
            if answers.len() == 1 {
                held.wait();
            }
        }
        self.next += ROUND;
        self.apply_below(self.next).await;
        let durable = self.storage.log.state().durable.map(|id| id.index);
        assert!(
            durable < Some(self.next - TOGETHER),
            "apply is ahead of {durable:?}"
        );
        let boundaries = self.storage.log.boundaries();
        assert!(
            boundaries.iter().filter(|at| Some(**at) > durable).count() > 2,
            "and across the ends of segments: {boundaries:?}"
        );
        self.disk.note("applied");
        let snapshot = match then {
            Then::Nothing => None,
            Then::Snapshot => {
                let mut builder = self.storage.machine.get_snapshot_builder().await;
                let built = tokio::spawn(async move { builder.build_snapshot().await });
                // It has asked for all that it asks for, and waits for the disk.
                tokio::task::yield_now().await;
                Some(built)
            }
        };
        held.release();
        for answered in answers {
            answered.await.expect("answered");
        }
        // What was to be sealed is sealed: the writer keeps the order.
        self.storage.append(&[]).await;
        if let Some(built) = snapshot {
            let built = built.await.expect("no panic").expect("built");
            let last = built.meta.last_log_id.expect("of an entry");
            self.storage.store.purge(last).await.expect("purged");
        }
    }

    /// Appends, and notes in the disk's journal when that was answered.
    fn append_noting(&self, entries: &[RaftEntry]) -> tokio::sync::oneshot::Receiver<()> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        let disk = self.disk.clone();
        let last = index_of(entries.last().expect("some"));
        let done = move |result: Result<(), _>| {
            result.expect("the disk has no faults");
            disk.note(format!("durable {last}"));
            tx.send(()).expect("somebody waits");
        };
        let entries = entries.iter().cloned().map(wire::entry_to_store).collect();
        self.storage
            .log
            .append(entries, Box::new(done))
            .expect("the log goes on");
        rx
    }
}

/// The boundaries of the checkpoint files on a disk.
fn checkpoints(image: &Image) -> Vec<u64> {
    let files = image
        .paths()
        .filter(|path| path.extension() == Some("ckpt".as_ref()));
    files
        .filter_map(|path| path.file_stem()?.to_str()?.parse().ok())
        .collect()
}

/// A node that starts on what a crash left: it begins at or below what is durable, nothing is purged, and what it comes to
/// by applying the rest is what it was.
async fn start_on(image: &Image, expected: &Expected, answered: u64) -> Result<(), String> {
    let disk = Arc::new(SimDisk::from_image(image));
    let mut storage = Storage::open(disk, Path::new(DIR)).await;
    let before = storage.log.state();
    let durable = before.durable.ok_or("everything is gone")?.index;
    let snapshot = storage
        .log
        .snapshot()
        .map(|snapshot| snapshot.applied.index);
    if durable < answered {
        return Err(format!("{answered} was durable, {durable} is"));
    }
    if let Some(ahead) = checkpoints(image).iter().find(|at| **at > durable + 1) {
        return Err(format!(
            "a checkpoint of {ahead} was kept, {durable} is durable"
        ));
    }
    let applied = storage.applied().await;
    if applied > Some(durable) || applied < snapshot {
        return Err(format!(
            "{applied:?} is applied, {durable} durable, the snapshot {snapshot:?}"
        ));
    }
    let openraft = StorageHelper::new(&mut storage.store, &mut storage.machine);
    let started = openraft.with_id(NODE).get_initial_state().await;
    started.map_err(|error| format!("openraft does not start: {error}"))?;
    if storage.log.state() != before {
        let after = storage.log.state();
        return Err(format!("openraft's start changed {before:?} to {after:?}"));
    }
    storage.apply_below(durable + 1).await;
    if expected.states.get(&durable) != Some(&storage.state()) {
        return Err(format!("the state behind {durable} is another one"));
    }
    storage
        .append(&appends(1, durable + 1..durable + 3, "on"))
        .await;
    Ok(())
}

/// Everything that a crash at a place may leave: of a few kinds.
fn policies(place: u64) -> Vec<Policy> {
    let policy = |data, names| Policy {
        data,
        unit: Unit::Sector,
        names,
    };
    vec![
        policy(Unsynced::All, Names::Kept),
        policy(Unsynced::None, Names::Kept),
        policy(Unsynced::None, Names::Lost),
        policy(Unsynced::Random(place), Names::Random(place)),
    ]
}

#[tokio::test]
async fn whatever_crash_no_more_is_applied_than_is_durable_and_nothing_is_purged_as_a_hole() {
    let mut ahead = Ahead::begin().await;
    for then in [Then::Nothing, Then::Snapshot, Then::Nothing] {
        ahead.round(then).await;
    }
    let journal = ahead.disk.journal();
    let mut crash = journal.start();
    let (mut answered, mut images) = (None, 0);
    for (place, operation) in (1_u64..).zip(journal.operations()) {
        crash.advance(operation);
        if let Operation::Note(text) = operation
            && let Some(index) = text.strip_prefix("durable ")
        {
            answered = Some(index.parse().expect("as it was noted"));
        }
        let Some(answered) = answered else { continue };
        for policy in policies(place) {
            let image = crash.image(&policy);
            images += 1;
            if let Err(what) = start_on(&image, &ahead.expected, answered).await {
                panic!("a crash behind operation {place} ({operation}), {policy:?}: {what}");
            }
        }
    }
    println!("{images} crash images");
    assert!(images > 500, "only {images} images");
}

#[tokio::test]
async fn a_checkpoint_of_what_is_not_there_is_told_as_a_loss_and_never_begun_with() {
    let mut ahead = Ahead::begin().await;
    ahead.round(Then::Nothing).await;
    let journal = ahead.disk.journal();
    let applied =
        |operation: &Operation| matches!(operation, Operation::Note(text) if text == "applied");
    let place = journal.operations().iter().position(applied);
    let policy = Policy {
        data: Unsynced::None,
        unit: Unit::Sector,
        names: Names::Lost,
    };
    let mut image = journal.crash(place.expect("noted")).image(&policy);
    // As if they had reached the disk before the entries did: no crash of this node leaves that, a disk that lies may.
    let done = ahead.disk.image();
    for boundary in checkpoints(&done) {
        let path = Path::new(DIR).join(format!("group-1/log/{boundary:020}.ckpt"));
        image.put(&path, &done.read(&path).expect("it is there"));
    }
    let files: Vec<_> = image.paths().map(Path::to_owned).collect();
    let disk = SimDisk::from_image(&image);
    let opened = Log::open_on(Arc::new(disk.clone()), options(Path::new(DIR)));
    let Err(OpenError::Faulty(faults)) = opened else {
        panic!("it opens without what it claims to have, or says something else");
    };
    assert_eq!(faults.list[0].first, 1, "entry 0 was durable: {faults:?}");
    let after = disk.image();
    assert!(
        files.iter().all(|file| after.size(file).is_some()),
        "nothing is deleted"
    );
}

//! What the log's tests share: entries, waiting for callbacks, files, and a disk that fails.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use bytes::Bytes;
use inkstone_storage::error::{Damage, OpenError, WriteError};
use inkstone_storage::format::batch::{EncodedBatch, join};
use inkstone_storage::io::{Disk, DiskFile, Map, RealDisk};
use inkstone_storage::log::{Checkpoint, Done, Log, LogOptions, Spare};
use inkstone_storage::types::{
    BatchOutcome, Entry, EntryId, EntryKind, Identity, LogId, NewRecord,
};

pub(crate) const HEADER: usize = 4096;

pub(crate) fn options(dir: &Path) -> LogOptions {
    LogOptions {
        dir: dir.join("group-1"),
        identity: Identity {
            cluster_id: [5; 16],
            node_id: 77,
        },
        group: 1,
        segment_size: 16 << 10,
        tail_size: 0,
        queue_size: 1 << 20,
        free_size_min: 0,
        spare: Spare::Background,
    }
}

pub(crate) fn open(dir: &Path) -> Log {
    Log::open(options(dir)).expect("the log opens")
}

pub(crate) fn open_error(dir: &Path) -> OpenError {
    Log::open(options(dir)).expect_err("the log does not open")
}

/// The first damage that an error names.
pub(crate) fn damage_of(error: OpenError) -> Damage {
    match error {
        OpenError::Damaged(damage) => damage,
        OpenError::Faulty(faults) => faults.list[0].damage.clone(),
        other => panic!("damage expected, not {other}"),
    }
}

pub(crate) fn id(index: u64) -> EntryId {
    EntryId {
        term: 1,
        node: 9,
        index,
    }
}

pub(crate) fn command(index: u64, payload: impl Into<Bytes>) -> Entry {
    Entry {
        id: id(index),
        kind: EntryKind::Command,
        payload: payload.into(),
    }
}

pub(crate) fn record(timestamp: i64, body: impl Into<Bytes>) -> NewRecord {
    NewRecord {
        timestamp,
        attributes: Vec::new(),
        body: body.into(),
    }
}

/// An entry of one batch for each list of bodies, all to the given logs; the records' time is the entry's index.
pub(crate) fn batches(index: u64, batches: &[(LogId, Vec<Vec<u8>>)]) -> Entry {
    let encoded: Vec<EncodedBatch> = batches
        .iter()
        .map(|(log, bodies)| {
            let time = i64::try_from(index).expect("a small index");
            let records: Vec<NewRecord> = bodies
                .iter()
                .map(|body| record(time, body.clone()))
                .collect();
            EncodedBatch::encode(*log, None, None, &records)
        })
        .collect();
    Entry {
        id: id(index),
        kind: EntryKind::Batches,
        payload: join(&encoded, 0),
    }
}

/// Bytes that LZ4 cannot make smaller, the same for the same seed.
pub(crate) fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(size);
    for _ in 0..size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.push(state.to_le_bytes()[3]);
    }
    bytes
}

type Outcome = Result<(), WriteError>;

/// A callback, and where its outcome arrives.
pub(crate) fn callback() -> (Done, mpsc::Receiver<Outcome>) {
    let (tx, rx) = mpsc::sync_channel(1);
    let done = Box::new(move |outcome| drop(tx.send(outcome)));
    (done, rx)
}

pub(crate) fn wait(change: impl FnOnce(Done) -> Outcome) -> Outcome {
    let (done, rx) = callback();
    change(done)?;
    rx.recv().expect("every change is answered")
}

pub(crate) fn append(log: &Log, entries: Vec<Entry>) {
    wait(|done| log.append(entries, done)).expect("appended");
}

pub(crate) fn truncate(log: &Log, index: Option<u64>) {
    wait(|done| log.truncate_after(index, done)).expect("truncated");
}

pub(crate) fn purge(log: &Log, id: EntryId) {
    wait(|done| log.purge(id, done)).expect("purged");
}

/// Waits until the writer has done all that was asked of it.
pub(crate) fn barrier(log: &Log) {
    append(log, Vec::new());
}

/// Appends entries of one batch of two records each to a log, applies them, and seals at boundaries.
pub(crate) fn fill(log: &Log, to: LogId, first: u64, count: u64) {
    for index in first..first + count {
        let bodies = vec![noise(index, 700), format!("record of {index}").into_bytes()];
        append(log, vec![batches(index, &[(to, bodies)])]);
        if log.is_boundary(index) {
            log.seal(index, checkpoint(index - 1));
        }
        let base_offset = 2 * index;
        log.note_applied(index, &[BatchOutcome::Taken { base_offset }])
            .expect("readable");
    }
    barrier(log);
}

pub(crate) fn checkpoint(index: u64) -> Checkpoint {
    Checkpoint {
        applied: id(index),
        body: Bytes::from(format!("state as of {index}")),
    }
}

pub(crate) fn all(log: &Log) -> Vec<Entry> {
    let first = log.state().purged.map_or(0, |purged| purged.index + 1);
    let mut found: Vec<Entry> = Vec::new();
    loop {
        let next = found.last().map_or(first, |entry| entry.id.index + 1);
        let more = log.entries(next, u64::MAX, 1000).expect("readable");
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

pub(crate) fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir.join("group-1/log"))
        .expect("the log's directory")
        .map(|item| item.expect("an item").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .collect();
    paths.sort();
    paths
}

pub(crate) fn flip(path: &Path, position: usize) {
    let mut bytes = std::fs::read(path).expect("the file");
    bytes[position] ^= 1;
    std::fs::write(path, bytes).expect("written");
}

pub(crate) fn remove(path: &Path) {
    RealDisk.remove(path).expect("removed");
}

/// Whether a file's name has that extension.
pub(crate) fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|found| found == extension)
}

/// A position in a file as an index.
pub(crate) fn place(position: u64) -> usize {
    usize::try_from(position).expect("a small file")
}

/// Bytes of a frame with that much payload.
pub(crate) fn frame_size(payload: usize) -> usize {
    (64 + payload).next_multiple_of(8)
}

/// What was asked of a disk, in order: a verb, a file's name and, of reads and writes, where.
/// Ranges of files, by name, that cannot be read; and whether a file that is renamed is a healthy one.
type Unreadable = Arc<Mutex<(Vec<(String, Range<u64>)>, bool)>>;

type Operations = Arc<Mutex<Vec<String>>>;

/// A real disk that fails every write and sync once so many have succeeded, and notes what is asked of it.
#[derive(Debug)]
pub(crate) struct FailingDisk {
    left: Arc<AtomicI64>,
    operations: Operations,
    unreadable: Unreadable,
}

fn note(operations: &Operations, verb: &str, path: &Path, place: &str) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let operation = format!("{verb} {name}{place}");
    operations.lock().expect("no panic").push(operation);
}

impl FailingDisk {
    pub(crate) fn new() -> (Arc<Self>, Arc<AtomicI64>) {
        let left = Arc::new(AtomicI64::new(i64::MAX));
        let disk = Arc::new(Self {
            left: Arc::clone(&left),
            operations: Operations::default(),
            unreadable: Unreadable::default(),
        });
        (disk, left)
    }

    /// Every read of a file that touches a range fails from here on.
    pub(crate) fn cannot_read(&self, name: &str, range: Range<u64>) {
        let mut unreadable = self.unreadable.lock().expect("no panic");
        unreadable.0.push((name.to_owned(), range));
    }

    /// The next file that gets a name can be read.
    pub(crate) fn heal_when_replaced(&self) {
        self.unreadable.lock().expect("no panic").1 = true;
    }

    /// What was asked since the last call.
    pub(crate) fn operations(&self) -> Vec<String> {
        std::mem::take(&mut self.operations.lock().expect("no panic"))
    }

    fn wrap(&self, path: &Path, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(FailingFile {
            file,
            path: path.to_owned(),
            left: Arc::clone(&self.left),
            operations: Arc::clone(&self.operations),
            unreadable: Arc::clone(&self.unreadable),
        })
    }
}

fn spend(left: &AtomicI64) -> io::Result<()> {
    if left.fetch_sub(1, Ordering::SeqCst) > 0 {
        return Ok(());
    }
    Err(io::Error::other("the disk is broken"))
}

impl Disk for FailingDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(path, RealDisk.open(path)?))
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(path, RealDisk.create(path)?))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut unreadable = self.unreadable.lock().expect("no panic");
        if unreadable.1 {
            unreadable.0.clear();
        }
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        note(&self.operations, "remove", path, "");
        RealDisk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        note(&self.operations, "sync_dir", dir, "");
        spend(&self.left)?;
        RealDisk.sync_dir(dir)
    }
    fn free_size(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.free_size(dir)
    }
}

#[derive(Debug)]
struct FailingFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    left: Arc<AtomicI64>,
    operations: Operations,
    unreadable: Unreadable,
}

impl FailingFile {
    fn note(&self, verb: &str, place: &str) {
        note(&self.operations, verb, &self.path, place);
    }
}

impl DiskFile for FailingFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.note("read", &format!(" at {position}"));
        let end = position + buffer.len() as u64;
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let unreadable = self.unreadable.lock().expect("no panic");
        let touches = |(of, range): &(String, Range<u64>)| {
            **of == *name && range.start < end && position < range.end
        };
        if unreadable.0.iter().any(touches) {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.file.read_at(buffer, position)
    }
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        self.note("write", &format!(" at {position}"));
        spend(&self.left)?;
        self.file.write_at(parts, position)
    }
    fn begin_sync(&self, position: u64, size: u64) -> io::Result<()> {
        self.file.begin_sync(position, size)
    }
    fn sync(&self) -> io::Result<()> {
        self.note("sync", "");
        spend(&self.left)?;
        self.file.sync()
    }
    fn allocate(&self, size: u64) -> io::Result<()> {
        self.file.allocate(size)
    }
    fn set_size(&self, size: u64) -> io::Result<()> {
        self.file.set_size(size)
    }
    fn forget(&self, position: u64, size: u64) -> io::Result<()> {
        self.file.forget(position, size)
    }
    fn map(&self) -> io::Result<Map> {
        self.file.map()
    }
}

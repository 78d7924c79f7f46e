//! A disk that is nearly full stops the index and nothing else; what is damaged is left out until it is mended.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use inkstone_storage::format::batch::{Batches, EncodedBatch, join};
use inkstone_storage::io::{Disk, DiskFile, RealDisk};
use inkstone_storage::limits::SEARCH_GAPS_MAX;
use inkstone_storage::log::{LogOptions, Spare};
use inkstone_storage::types::{
    BatchOutcome, Entry, EntryId, EntryKind, Identity, LogId, NewRecord,
};
use tokio::time::timeout;

use super::*;

/// A real disk that has as much room as a test says.
#[derive(Debug)]
struct Gauge {
    free: Arc<AtomicU64>,
}

impl Disk for Gauge {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.open(path)
    }
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        RealDisk.create(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
    fn free_size(&self, _: &Path) -> io::Result<u64> {
        Ok(self.free.load(Ordering::SeqCst))
    }
}

fn nobody_has_it() -> Mender {
    Box::new(|_| async { Verdict::Lost }.boxed())
}

const ROOM: u64 = 1_000;
/// Longer than any test runs.
const PATIENCE: Duration = Duration::from_secs(60);

fn open_log(dir: &Path, free: &Arc<AtomicU64>) -> Log {
    let disk = Gauge {
        free: Arc::clone(free),
    };
    let options = LogOptions {
        dir: dir.join("group-1"),
        identity: Identity {
            cluster_id: [7; 16],
            node_id: 1,
        },
        group: 1,
        segment_size: 1 << 20,
        // Entries are read from the disk.
        tail_size: 1,
        queue_size: 1 << 20,
        free_size_min: 0,
        spare: Spare::Never,
    };
    Log::open_on(Arc::new(disk), options).expect("a new log")
}

/// Appends an entry of one record and applies it.
fn append(log: &Log, applied: &Applied, index: u64) {
    append_to(log, applied, index, 1);
}

/// The same with a record for each of so many logs, the first of which has one in every entry.
fn append_to(log: &Log, applied: &Applied, index: u64, logs: u32) {
    let record = NewRecord {
        timestamp: 0,
        attributes: Vec::new(),
        body: format!("record {index}").into(),
    };
    let batch =
        |id: u64| EncodedBatch::encode(LogId(id), None, None, std::slice::from_ref(&record));
    let batches: Vec<EncodedBatch> = (1..=u64::from(logs)).map(batch).collect();
    let payload = join(&batches, 0);
    let batches = Batches::parse(payload.clone()).expect("just encoded");
    let entry = Entry {
        id: EntryId {
            term: 1,
            node: 1,
            index,
        },
        kind: EntryKind::Batches,
        payload,
    };
    log.append(vec![entry], Box::new(|_| ()))
        .expect("the log goes on");
    let taken = |log| BatchOutcome::Taken {
        base_offset: if log == 0 { index - 1 } else { 0 },
    };
    let outcomes: Vec<BatchOutcome> = (0..logs).map(taken).collect();
    log.note_batches(index, &batches, &outcomes);
    applied.publish(index);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn indexing_stops_while_the_disk_is_nearly_full_and_then_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(ROOM));
    let log = open_log(dir.path(), &free);
    let applied = Applied::new(0);
    append(&log, &applied, 1);
    let wanted = watch::Sender::new(true);
    let options = IndexerOptions {
        dir: dir.path().join("search"),
        writer_memory: 32 << 20,
        free_size_min: ROOM,
        commit_interval: Duration::from_millis(50),
        shard_size: 64 << 20,
    };
    let (indexer, _task) = Indexer::start(
        options,
        (log.clone(), nobody_has_it()),
        applied.clone(),
        wanted.subscribe(),
    );
    timeout(PATIENCE, indexer.wait_for(1)).await.unwrap();
    for index in 2..4 {
        free.store(ROOM - 1, Ordering::SeqCst);
        append(&log, &applied, index);
        let short = timeout(Duration::from_millis(300), indexer.wait_for(index)).await;
        assert!(short.is_err(), "it was indexed on a full disk");
        assert_eq!(indexer.index(), index - 1);
        assert!(
            indexer.searcher().is_some(),
            "what is indexed can be searched"
        );
        free.store(ROOM, Ordering::SeqCst);
        timeout(PATIENCE, indexer.wait_for(index)).await.unwrap();
    }
}

/// Bytes of all files in a directory and below.
fn size_of(dir: &Path) -> u64 {
    let Ok(files) = std::fs::read_dir(dir) else {
        return 0;
    };
    // One may go between the two.
    let sizes = files.filter_map(|file| {
        let file = file.ok()?;
        let metadata = file.metadata().ok()?;
        Some(if metadata.is_dir() {
            size_of(&file.path())
        } else {
            metadata.len()
        })
    });
    sizes.sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_purged_goes_from_the_index_and_gives_its_room_on_the_disk_back() {
    const LAST: u64 = 40;
    let dir = tempfile::tempdir().unwrap();
    let log = open_log(dir.path(), &Arc::new(AtomicU64::new(ROOM)));
    let applied = Applied::new(0);
    let wanted = watch::Sender::new(true);
    let options = IndexerOptions {
        dir: dir.path().join("search"),
        writer_memory: 32 << 20,
        free_size_min: ROOM,
        commit_interval: Duration::from_millis(10),
        // A shard for every record: none holds both what goes and what stays.
        shard_size: 1,
    };
    let (indexer, _task) = Indexer::start(
        options,
        (log.clone(), nobody_has_it()),
        applied.clone(),
        wanted.subscribe(),
    );
    for index in 1..=LAST {
        append(&log, &applied, index);
        timeout(PATIENCE, indexer.wait_for(index)).await.unwrap();
    }
    let search = dir.path().join("search");
    let until = async |what: &str, holds: &dyn Fn(u64) -> bool| {
        let looking = async {
            let mut looks = interval(Duration::from_millis(10));
            while !holds(size_of(&search)) {
                looks.tick().await;
            }
        };
        let seen = timeout(PATIENCE, looking).await;
        seen.unwrap_or_else(|_| panic!("never: {what}; {} bytes", size_of(&search)));
        size_of(&search)
    };
    let full = until("several shards", &|size| size > 10_000).await;
    let id = log.entry_id(LAST - 2).unwrap().expect("it is there");
    log.purge(id, Box::new(|_| ())).unwrap();
    let left = until("a third of it", &|size| size < full / 3).await;
    println!("{full} bytes, then {left}");
    // What is left is found, and what comes next.
    append(&log, &applied, LAST + 1);
    timeout(PATIENCE, indexer.wait_for(LAST + 1)).await.unwrap();
    let (offsets, _) = found(&indexer.searcher().expect("it is open"));
    assert_eq!(offsets[..3], [LAST, LAST - 1, LAST - 2]);
    assert!(offsets.len() < 20, "{offsets:?}");
}

fn options_in(dir: &Path) -> IndexerOptions {
    IndexerOptions {
        dir: dir.join("search"),
        writer_memory: 32 << 20,
        free_size_min: ROOM,
        commit_interval: Duration::from_millis(10),
        shard_size: 64 << 20,
    }
}

/// Flips a bit of each record that entry `index` holds; false when none is in the file.
#[expect(clippy::disallowed_methods, reason = "the test plays the damage")]
fn flip(dir: &Path, index: u64) -> bool {
    use std::os::unix::fs::FileExt as _;
    let body = format!("record {index}").into_bytes();
    let files = std::fs::read_dir(dir.join("group-1/log")).expect("a file of the log");
    for file in files.map(|file| file.expect("a file of the log").path()) {
        let bytes = std::fs::read(&file).expect("a file of the log");
        let of_it = |at: &usize| bytes[*at..][1..].starts_with(&body[1..]);
        let found: Vec<usize> = (0..bytes.len()).filter(of_it).collect();
        if found.is_empty() {
            continue;
        }
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(file)
            .expect("a file of the log");
        for at in found {
            file.write_all_at(&[bytes[at] ^ 1], at as u64)
                .expect("a file of the log");
        }
        return true;
    }
    false
}

fn found(searcher: &Searcher) -> (Vec<u64>, Vec<(u64, u64, u64)>) {
    let request = search::SearchRequest {
        log: LogId(1),
        query: search::Query::parse("record").expect("a word"),
        limit: 100,
        since: None,
        until: None,
        before_offset: None,
    };
    let found = searcher.search(&request, &|| false).expect("it answers");
    let gaps = found.gaps.iter().map(|gap| (gap.index, gap.from, gap.to));
    (found.offsets, gaps.collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_entry_is_left_out_and_comes_in_when_it_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_log(dir.path(), &Arc::new(AtomicU64::new(ROOM)));
    let applied = Applied::new(0);
    for index in 1..=5 {
        append(&log, &applied, index);
    }
    // Once it is written; and read from memory until it is durable.
    while !flip(dir.path(), 3) {
        tokio::task::yield_now().await;
    }
    while log.read_entries(3, 4, 0).is_ok() {
        tokio::task::yield_now().await;
    }
    let start = |wanted: &watch::Sender<bool>| {
        let with = (log.clone(), nobody_has_it());
        let options = options_in(dir.path());
        Indexer::start(options, with, applied.clone(), wanted.subscribe())
    };
    let wanted = watch::Sender::new(true);
    let (indexer, task) = start(&wanted);
    timeout(PATIENCE, indexer.wait_for(5)).await.unwrap();
    let left_out = (vec![4, 3, 1, 0], vec![(3, 2, 3)]);
    assert_eq!(found(&indexer.searcher().expect("it is open")), left_out);
    // After a restart, too.
    wanted.send_replace(false);
    drop(wanted);
    timeout(PATIENCE, task).await.unwrap().unwrap();
    let wanted = watch::Sender::new(true);
    let (indexer, _task) = start(&wanted);
    timeout(PATIENCE, indexer.wait_for(5)).await.unwrap();
    assert_eq!(found(&indexer.searcher().expect("it is open")), left_out);
    assert!(flip(dir.path(), 3));
    let mended = async {
        let mut looks = interval(Duration::from_millis(10));
        loop {
            looks.tick().await;
            if let Some(searcher) = indexer.searcher()
                && found(&searcher) == (vec![4, 3, 2, 1, 0], vec![])
            {
                return;
            }
        }
    };
    timeout(PATIENCE, mended).await.expect("it is built again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_may_lack_no_more_answers_up_to_there() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_log(dir.path(), &Arc::new(AtomicU64::new(ROOM)));
    let applied = Applied::new(0);
    append(&log, &applied, 1);
    let logs = u32::try_from(SEARCH_GAPS_MAX + 1).unwrap();
    append_to(&log, &applied, 2, logs);
    append(&log, &applied, 3);
    while !flip(dir.path(), 2) {
        tokio::task::yield_now().await;
    }
    while log.read_entries(2, 3, 0).is_ok() {
        tokio::task::yield_now().await;
    }
    let wanted = watch::Sender::new(true);
    let with = (log.clone(), nobody_has_it());
    let options = options_in(dir.path());
    let (indexer, _task) = Indexer::start(options, with, applied.clone(), wanted.subscribe());
    timeout(PATIENCE, indexer.wait_for(1)).await.unwrap();
    assert_eq!(indexer.index(), 1);
    assert_eq!(
        found(&indexer.searcher().expect("it is open")),
        (vec![0], vec![])
    );
    // And goes on when it is mended.
    assert!(flip(dir.path(), 2));
    timeout(PATIENCE, indexer.wait_for(3)).await.unwrap();
    assert_eq!(
        found(&indexer.searcher().expect("it is open")),
        (vec![2, 1, 0], vec![])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_feed_ends_when_nobody_is_left_to_say_that_it_is_not_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_log(dir.path(), &Arc::new(AtomicU64::new(ROOM)));
    let applied = Applied::new(0);
    append(&log, &applied, 1);
    let wanted = watch::Sender::new(true);
    let options = IndexerOptions {
        commit_interval: Duration::from_secs(3_600),
        ..options_in(dir.path())
    };
    let with = (log.clone(), nobody_has_it());
    let (indexer, task) = Indexer::start(options.clone(), with, applied, wanted.subscribe());
    timeout(PATIENCE, indexer.wait_for(1)).await.unwrap();
    drop(wanted);
    timeout(PATIENCE, task).await.expect("it ends").unwrap();
    let options = IndexOptions {
        dir: options.dir,
        writer_memory: options.writer_memory,
        shard_size: options.shard_size,
    };
    let (feeder, _) = search::open(options).unwrap();
    assert_eq!(feeder.next_index(), 2, "what was fed is committed");
}

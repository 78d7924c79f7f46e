//! A segment that is sealed and not committed: a segment that is full is not committed. Until its last entry is
//! applied it can still be truncated, and so it is not sealed, mapped, indexed or read beyond what is applied.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use inkstone_storage::io::RealDisk;
use inkstone_storage::search::{Query, SearchRequest, Searcher};
use openraft::storage::RaftLogStorage as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::indexer::{Indexer, IndexerOptions, Mender, Verdict};

/// Entries 0 to 3 are committed, in the midst of the first segment; those behind them are a leader's that is deposed.
const COMMITTED: u64 = 4;
/// How far the deposed leader came: more than three segments.
const GHOSTS_END: u64 = 40;
/// How far its successor comes.
const END: u64 = 45;
/// Longer than any test runs.
const PATIENCE: Duration = Duration::from_secs(60);

fn request(word: &str) -> SearchRequest {
    SearchRequest {
        log: LOG,
        query: Query::parse(word).expect("a word"),
        limit: 1_000,
        since: None,
        until: None,
        before_offset: None,
    }
}

/// How many records hold the word, as the index has it.
fn found(searcher: &Searcher, word: &str) -> usize {
    let answer = searcher.search(&request(word), &|| false);
    answer.expect("it answers").offsets.len()
}

/// The first words of all records that can be read.
fn words(log: &Log) -> Vec<String> {
    let chunk = log.read(LOG, 0, u64::MAX, usize::MAX).expect("readable");
    let first_word = |body: &Bytes| {
        let text = std::str::from_utf8(body).expect("as it was appended");
        text.split(' ').next().expect("a word").to_owned()
    };
    chunk
        .records
        .iter()
        .map(|record| first_word(&record.body))
        .collect()
}

fn index_of_log(
    dir: &Path,
    storage: &Storage,
    wanted: &watch::Sender<bool>,
) -> (Indexer, JoinHandle<()>) {
    let options = IndexerOptions {
        dir: dir.join("search"),
        writer_memory: 32 << 20,
        free_size_min: 0,
        commit_interval: Duration::from_millis(10),
        shard_size: 64 << 20,
    };
    let (log, applied) = (storage.log.clone(), storage.machine.applied());
    let mender: Mender = Box::new(|_| async { Verdict::Lost }.boxed());
    Indexer::start(options, (log, mender), applied, wanted.subscribe())
}

/// The index once it covers what is applied, and whatever else it would take.
async fn indexed(indexer: &Indexer, index: u64) -> Searcher {
    let covered = timeout(PATIENCE, indexer.wait_for(index)).await;
    covered.expect("it is indexed in time");
    indexer.searcher().expect("it is open")
}

/// Somebody who reads the log to its end all the time: the words of whatever was ever read.
fn reader(log: Log, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<BTreeSet<String>> {
    std::thread::spawn(move || {
        let mut seen = BTreeSet::new();
        while !stop.load(Ordering::Relaxed) {
            seen.extend(words(&log));
        }
        seen
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_segment_is_truncated_and_neither_reads_nor_the_index_ever_saw_what_was_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut storage = Storage::open(Arc::new(RealDisk), dir.path()).await;
    let wanted = watch::Sender::new(true);
    let (indexer, indexing) = index_of_log(dir.path(), &storage, &wanted);
    let stop = Arc::new(AtomicBool::new(false));
    let reading = reader(storage.log.clone(), Arc::clone(&stop));

    storage.append(&[creation(1)]).await;
    storage.append(&appends(1, 1..COMMITTED, "kept")).await;
    storage
        .append(&appends(1, COMMITTED..GHOSTS_END, "ghost"))
        .await;
    storage.apply_below(COMMITTED).await;
    let full = segments(dir.path());
    assert!(full.len() > 3, "segments are full: {full:?}");
    nothing_is_sealed_or_seen(&mut storage, &indexer).await;

    // A leader of the next term has another history: the full segments go, by the very call that openraft makes.
    let last = raft_log_id(id(1, COMMITTED - 1));
    storage.store.truncate_after(Some(last)).await.unwrap();
    assert_eq!(segments(dir.path()).len(), 1);
    assert_eq!(storage.log.state().last, Some(id(1, COMMITTED - 1)));
    storage.append(&appends(2, COMMITTED..END, "true")).await;
    nothing_is_sealed_or_seen(&mut storage, &indexer).await;
    storage.apply_below(END).await;

    let expected: Vec<&str> = (1..END)
        .map(|index| if index < COMMITTED { "kept" } else { "true" })
        .collect();
    assert_eq!(words(&storage.log), expected);
    let searcher = indexed(&indexer, END - 1).await;
    let counts = ["kept", "true", "ghost"].map(|word| found(&searcher, word));
    assert_eq!(counts, [3, 41, 0]);
    stop.store(true, Ordering::Relaxed);
    let seen = reading.join().expect("no read fails");
    assert_eq!(seen, BTreeSet::from(["kept".to_owned(), "true".to_owned()]));

    // Sealed now: by its own footers the log is the same, and so is an index that is built from it.
    wanted.send_replace(false);
    drop((searcher, wanted, indexer));
    indexing.await.expect("it ends with who wants it");
    drop(storage);
    let mut storage = Storage::open(Arc::new(RealDisk), dir.path()).await;
    storage.apply_below(END).await;
    // What was to be sealed is sealed: the writer keeps the order.
    storage.append(&[]).await;
    assert!(storage.log.extents().len() >= 3);
    assert_eq!(words(&storage.log), expected);
    storage.log.verify().unwrap();
    let other = tempfile::tempdir().unwrap();
    let wanted = watch::Sender::new(true);
    let (indexer, _indexing) = index_of_log(other.path(), &storage, &wanted);
    let searcher = indexed(&indexer, END - 1).await;
    assert_eq!(found(&searcher, "ghost"), 0);
}

/// Full segments whose entries are not committed: no footer, no row, no boundary to purge to, nothing to be found.
async fn nothing_is_sealed_or_seen(storage: &mut Storage, indexer: &Indexer) {
    assert!(storage.log.extents().is_empty(), "nothing is sealed");
    assert_eq!(storage.log.boundaries(), Vec::<u64>::new());
    assert_eq!(words(&storage.log), ["kept"; 3]);
    assert_eq!(
        storage.log.stored_size(LOG),
        storage.log.live_extents()[0].size
    );
    assert_eq!(storage.log.live_extents()[0].end_offset, 3);
    let boundary = storage.machine.boundary();
    for index in COMMITTED..END {
        boundary.choose(index);
        let builder = storage.machine.try_create_snapshot_builder(false).await;
        assert!(
            builder.is_none(),
            "a snapshot at {index}, which is not committed"
        );
    }
    // It had the time to take more: a turn of it comes after this one.
    let searcher = indexed(indexer, COMMITTED - 1).await;
    assert_eq!(indexer.index(), COMMITTED - 1);
    assert_eq!(
        (found(&searcher, "kept"), found(&searcher, "ghost")),
        (3, 0)
    );
}

/// The bases of the segment files.
fn segments(dir: &Path) -> Vec<String> {
    let files = std::fs::read_dir(dir.join("group-1/log")).expect("it is there");
    let names = files.map(|file| file.expect("listed").file_name());
    names
        .filter_map(|name| Some(name.to_str()?.strip_suffix(".seg")?.to_owned()))
        .collect()
}

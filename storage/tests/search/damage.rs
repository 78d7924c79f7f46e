//! Damage to the directory: what is bad is noticed, deleted, and fed again.

use std::fs;
use std::path::{Path, PathBuf};

use crate::index::{LOG, copy_dir, feed_lines, find, open_at, shard_dirs};

#[test]
fn deleting_the_directory_starts_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (mut feeder, _) = open_at(dir.path(), u64::MAX);
    feed_lines(&mut feeder, 0, 0..10);
    feeder.commit().unwrap();
    drop(feeder);
    fs::remove_dir_all(dir.path().join("search")).unwrap();
    let (mut feeder, searcher) = open_at(dir.path(), u64::MAX);
    assert_eq!((feeder.next_index(), searcher.next_offset(LOG)), (0, 0));
    feed_lines(&mut feeder, 0, 0..10);
    assert_eq!(find(&searcher, "tail").len(), 10);
}

const SHARD_SIZE: u64 = 600;

/// Feeds some finished shards and an unfinished one, and closes.
fn some_shards(dir: &Path) -> Vec<PathBuf> {
    let (mut feeder, _) = open_at(dir, SHARD_SIZE);
    feed_lines(&mut feeder, 0, 0..100);
    feeder.commit().unwrap();
    drop(feeder);
    // What a shard's finishing left to the next open is done here.
    drop(open_at(dir, SHARD_SIZE));
    let dirs = shard_dirs(dir);
    assert!(dirs.len() >= 3, "{dirs:?}");
    dirs
}

/// What is expected of an index whose shard number `bad` was damaged: the ones before it survive, and a feed from
/// there gives the same answers.
fn assert_rebuilt_from(dir: &Path, bad: usize, shards: &[PathBuf], what: &str) {
    let (mut feeder, searcher) = open_at(dir, SHARD_SIZE);
    let name = shards[bad].file_name().unwrap().to_str().unwrap();
    let from = name[..20].parse::<u64>().unwrap();
    assert_eq!(feeder.next_index(), from, "{what}");
    assert_eq!(searcher.next_offset(LOG), from, "{what}");
    assert_eq!(
        find(&searcher, "tail"),
        (0..from).rev().collect::<Vec<_>>(),
        "{what}"
    );
    feed_lines(&mut feeder, 0, from..120);
    assert_eq!(
        find(&searcher, "tail"),
        (0..120).rev().collect::<Vec<_>>(),
        "{what}"
    );
}

/// The files of a shard that have content, but for tantivy's list of files: it is rewritten at will, and a search
/// uses nothing of it.
fn files(shard: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(shard)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files = paths
        .filter(|path| fs::metadata(path).unwrap().len() > 0 && !path.ends_with(".managed.json"));
    let files: Vec<PathBuf> = files.collect();
    assert!(files.len() >= 6, "{files:?}");
    files
}

#[test]
fn a_flipped_bit_in_any_file_is_noticed_after_a_crash() {
    let original = tempfile::tempdir().unwrap();
    let shards = some_shards(original.path());
    fs::write(original.path().join("search/open"), b"").unwrap();
    for (number, shard) in [
        (1, &shards[1]),
        (shards.len() - 1, &shards[shards.len() - 1]),
    ] {
        for path in files(shard) {
            let bytes = fs::read(&path).unwrap();
            for at in [bytes.len() / 3, bytes.len() - 1] {
                let dir = tempfile::tempdir().unwrap();
                copy_dir(original.path(), dir.path()).unwrap();
                let mut bytes = bytes.clone();
                bytes[at] ^= 0x10;
                let name = path.strip_prefix(original.path()).unwrap();
                fs::write(dir.path().join(name), bytes).unwrap();
                let what = format!("{} byte {at}", name.display());
                assert_rebuilt_from(dir.path(), number, &shards, &what);
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the test plays the damage")]
fn remove_file(path: &Path) {
    fs::remove_file(path).unwrap();
}

#[test]
fn a_truncated_or_missing_file_is_noticed_after_a_crash() {
    let original = tempfile::tempdir().unwrap();
    let shards = some_shards(original.path());
    fs::write(original.path().join("search/open"), b"").unwrap();
    for path in files(&shards[1]) {
        let bytes = fs::read(&path).unwrap();
        // The last byte of tantivy's list of segments is a line's end, which it can do without.
        for keep in [None, Some(0), Some(bytes.len() / 2), Some(bytes.len() - 2)] {
            let dir = tempfile::tempdir().unwrap();
            copy_dir(original.path(), dir.path()).unwrap();
            let name = path.strip_prefix(original.path()).unwrap();
            let file = dir.path().join(name);
            match keep {
                None => remove_file(&file),
                Some(size) => fs::write(file, &bytes[..size]).unwrap(),
            }
            let what = format!("{} {keep:?}", name.display());
            assert_rebuilt_from(dir.path(), 1, &shards, &what);
        }
    }
}

#[test]
fn a_missing_shard_takes_the_later_ones_with_it() {
    for missing in [0, 1] {
        let dir = tempfile::tempdir().unwrap();
        let shards = some_shards(dir.path());
        fs::remove_dir_all(&shards[missing]).unwrap();
        fs::write(dir.path().join("search/stray"), b"x").unwrap();
        assert_rebuilt_from(dir.path(), missing, &shards, "missing");
        assert!(!dir.path().join("search/stray").exists());
    }
}

#[test]
fn shards_whose_dropping_was_cut_short_are_dropped_at_the_next_open() {
    let dir = tempfile::tempdir().unwrap();
    let shards = some_shards(dir.path());
    let whole = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), whole.path()).unwrap();
    let from = |shard: &PathBuf| shard.file_name().unwrap().to_str().unwrap()[..20].to_owned();
    let first = from(&shards[1]).parse::<u64>().unwrap();
    let (mut feeder, _) = open_at(dir.path(), SHARD_SIZE);
    feeder.drop_below(first).unwrap();
    drop(feeder);
    let file = "search/first";
    fs::copy(dir.path().join(file), whole.path().join(file)).unwrap();
    let (feeder, searcher) = open_at(whole.path(), SHARD_SIZE);
    assert_eq!(feeder.next_index(), 100);
    assert_eq!(
        find(&searcher, "tail"),
        (first..100).rev().collect::<Vec<_>>()
    );
}

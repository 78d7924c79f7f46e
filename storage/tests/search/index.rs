//! What the tests share: an index in a directory, records, and searches that take every page.

use std::path::{Path, PathBuf};
use std::{fs, io};

use bytes::Bytes;
use inkstone_storage::limits::SEARCH_HITS_MAX;
use inkstone_storage::search::{
    Feeder, IndexOptions, Query, SearchAnswer, SearchRequest, Searcher, open,
};
use inkstone_storage::types::{LogId, Record};

pub(crate) const LOG: LogId = LogId(7);

pub(crate) fn open_at(dir: &Path, shard_size: u64) -> (Feeder, Searcher) {
    open(IndexOptions {
        dir: dir.join("search"),
        writer_memory: 15_000_000,
        shard_size,
    })
    .unwrap()
}

/// Its timestamp is ten times its offset, its attribute `n` the offset's last digit.
pub(crate) fn record(offset: u64, body: &str) -> Record {
    Record {
        offset,
        timestamp: i64::try_from(offset).unwrap() * 10,
        attributes: vec![("n".to_owned(), (offset % 10).to_string())],
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

pub(crate) fn request(query: &str, limit: usize) -> SearchRequest {
    SearchRequest {
        log: LOG,
        query: Query::parse(query).unwrap(),
        limit,
        since: None,
        until: None,
        before_offset: None,
    }
}

pub(crate) fn never() -> bool {
    false
}

pub(crate) fn find(searcher: &Searcher, query: &str) -> Vec<u64> {
    all_pages(searcher, &request(query, SEARCH_HITS_MAX))
}

/// Every hit, by pages of the request's limit.
pub(crate) fn all_pages(searcher: &Searcher, request: &SearchRequest) -> Vec<u64> {
    let mut request = request.clone();
    let mut offsets = Vec::new();
    loop {
        let SearchAnswer {
            offsets: page,
            complete,
            more,
            ..
        } = searcher.search(&request, &never).unwrap();
        assert!(complete && page.len() <= request.limit);
        assert!(page.is_sorted_by(|a, b| a > b), "offsets fall");
        if more {
            assert_eq!(page.len(), request.limit);
            request.before_offset = page.last().copied();
        }
        offsets.extend(page);
        if !more {
            return offsets;
        }
    }
}

/// One record in each entry; the entry's index is `first_index` more than the offset.
pub(crate) fn feed_lines(feeder: &mut Feeder, first_index: u64, offsets: std::ops::Range<u64>) {
    for offset in offsets {
        let body = format!("line {offset} mod{} tail", offset % 3);
        feeder
            .feed(first_index + offset, &[(LOG, vec![record(offset, &body)])])
            .unwrap();
    }
}

pub(crate) fn shard_dirs(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("search")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut dirs: Vec<PathBuf> = paths.filter(|path| path.is_dir()).collect();
    dirs.sort();
    dirs
}

/// Copies a directory with what is in it.
pub(crate) fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

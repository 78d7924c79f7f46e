//! What the images found in the engine, each by itself.

use std::path::{Path, PathBuf};

use inkstone_storage::error::{OpenError, ReadError};
use inkstone_storage::log::{Log, LogOptions};

use super::disk::{Files, MemoryDisk};
use super::region::{Class, Region, regions};
use super::workload::{ONE, TWO, Workload, all};

fn workload(name: &str) -> Workload {
    let named = |work: &Workload| work.name == name;
    all(5).into_iter().find(named).expect("there is one")
}

fn open(files: &Files, options: &LogOptions) -> Result<Log, OpenError> {
    Log::open_on(MemoryDisk::new(files, &[]), options.clone())
}

fn of_class(work: &Workload, class: Class) -> Vec<Region> {
    let (regions, _) = regions(work);
    let wanted = regions.into_iter().filter(|region| region.class == class);
    wanted.collect()
}

/// The newest slot of the watermark is bad, and with it what says that the last group was acknowledged.
#[test]
fn nothing_is_cut_beside_a_watermark_slot_that_is_bad() {
    for name in ["unsealed", "truncated"] {
        let work = workload(name);
        let (_, frames) = regions(&work);
        let last = frames.last().expect("frames");
        for slot in [0, 4096] {
            let mut files = work.files.clone();
            let watermark = work.options.dir.join("watermark");
            files.get_mut(&watermark).expect("a file")[slot + 60] ^= 1;
            let log = open(&files, &work.options).expect("an intact log");
            assert_eq!(log.state().last, work.last(), "it needs no watermark");
            drop(log);
            files.get_mut(&last.file).expect("a file")[last.place.start + 30] ^= 1;
            let error = open(&files, &work.options).expect_err("it was acknowledged");
            assert!(error.to_string().contains(".seg"), "{error}");
        }
    }
}

#[test]
fn a_checkpoint_that_took_another_s_place_is_damage() {
    let work = workload("sealed");
    let mut boundaries = work.checkpoints.keys();
    let (one, two) = (boundaries.next(), boundaries.next());
    let (one, two) = (*one.expect("two"), *two.expect("two"));
    let path = |boundary: u64| {
        let name = format!("log/{boundary:020}.ckpt");
        work.options.dir.join(name)
    };
    let mut files = work.files.clone();
    files.insert(path(one), work.files[&path(two)].clone());
    let log = open(&files, &work.options).expect("a newer one is there");
    let found = log.checkpoint_at(one);
    assert!(matches!(found, Err(ReadError::Damaged(damage)) if damage.file == path(one)));
    let found = log.checkpoint_at(two).expect("intact");
    assert_eq!(found.as_ref(), work.checkpoints.get(&two));
}

/// The log rows of a segment, each 32 bytes.
fn rows(work: &Workload) -> Vec<(PathBuf, usize)> {
    let fields = of_class(work, Class::LogRows);
    let starts = fields.iter().step_by(6);
    starts
        .map(|field| (field.file.clone(), field.place.start))
        .collect()
}

/// Everything that can be read by offset, by entry and by time is right, or an error; whether there was one.
fn read_all(log: &Log, work: &Workload) -> bool {
    let mut errors = false;
    for ((id, offset), (record, index)) in &work.records {
        match log.read(*id, *offset, offset + 1, 1) {
            Ok(chunk) => assert_eq!(chunk.records.first(), Some(record)),
            Err(_) => errors = true,
        }
        match log.read_entries(*index, index + 1, usize::MAX) {
            Ok(found) => {
                let mut records = found.iter().flat_map(|entry| &entry.batches);
                let found = records.any(|(log, records)| log == id && records.contains(record));
                assert!(found, "entry {index} lost {record:?}");
            }
            Err(_) => errors = true,
        }
    }
    for id in [ONE, TWO] {
        for time in (-20..400).step_by(13) {
            let mut records = work.records.range((id, 0)..=(id, u64::MAX));
            let right = records.find(|(_, (record, _))| record.timestamp >= time);
            match log.offset_at_time(id, 0, time) {
                Ok(found) => assert_eq!(found, right.map(|((_, offset), _)| *offset)),
                Err(_) => errors = true,
            }
        }
    }
    errors
}

fn apply_behind(log: &Log, work: &Workload) {
    let applied = log.checkpoint().expect("one is there").applied.index;
    for (index, (_, outcomes)) in work.entries.range(applied + 1..) {
        if !outcomes.is_empty() {
            log.note_applied(*index, outcomes).expect("intact");
        }
    }
}

#[test]
fn a_whole_log_row_in_another_s_place_is_never_believed() {
    let work = workload("sealed");
    let rows = rows(&work);
    assert!(rows.len() > 10);
    for (file, at) in &rows {
        for (other, from) in &rows {
            let row = work.files[other][*from..from + 32].to_vec();
            let mut files = work.files.clone();
            let place = &mut files.get_mut::<Path>(file).expect("a file")[*at..at + 32];
            if *place == *row {
                continue;
            }
            place.copy_from_slice(&row);
            let log = open(&files, &work.options).expect("rows are not read at open");
            apply_behind(&log, &work);
            assert!(read_all(&log, &work), "{}: {at}", file.display());
        }
    }
}

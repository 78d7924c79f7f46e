//! The scrubber finds every wrong byte of a sealed segment of a log that is in use, and names what it takes.

use std::fs;
use std::io::{self, IoSlice};
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::support::*;
use inkstone_storage::io::{Disk, DiskFile, Map, RealDisk};
use inkstone_storage::log::{Fault, Log, ScrubStep, Scrubber};
use inkstone_storage::types::LogId;

const LOG: LogId = LogId(4);

/// The sealed segments: all but the last.
fn sealed(dir: &Path) -> Vec<PathBuf> {
    let mut files = segments(dir);
    files.pop();
    assert!(files.len() >= 3, "{files:?}");
    files
}

fn size(file: &Path) -> u64 {
    fs::metadata(file).expect("the file").len()
}

/// Changes one byte where it stands.
fn flip_in_place(file: &Path, position: u64) {
    let file = RealDisk.open(file).expect("the file");
    let mut byte = [0];
    file.read_at(&mut byte, position).expect("readable");
    byte[0] ^= 0x40;
    file.write_at(&[IoSlice::new(&byte)], position)
        .expect("writable");
}

/// Steps to the end of a pass: all that was found new.
fn pass(scrubber: &mut Scrubber) -> Vec<Fault> {
    let mut found = Vec::new();
    for _ in 0..100_000 {
        let step = scrubber.step(4096).expect("the files can be opened");
        found.extend(step.found);
        if step.ended_pass {
            return found;
        }
    }
    panic!("the pass does not end");
}

/// The base index of a segment's file.
fn base(file: &Path) -> u64 {
    let stem = file.file_stem().expect("a name").to_string_lossy();
    stem.parse().expect("a number")
}

fn number(file: &[u8], position: usize) -> u64 {
    u64::from(u32::from_le_bytes(
        file[position..position + 4].try_into().expect("4 bytes"),
    ))
}

/// Where the frames of a sealed file stand, by its footer.
fn frames(file: &Path) -> Vec<Range<u64>> {
    let bytes = fs::read(file).expect("the file");
    let trailer = bytes.len() - 128;
    let frames_end = number(&bytes, trailer + 64);
    let count = number(&bytes, trailer + 72);
    let rows = place(frames_end);
    (0..place(count))
        .map(|frame| {
            let position = number(&bytes, rows + 16 * frame) * 8;
            let payload = place(number(&bytes, rows + 16 * frame + 4));
            position..position + frame_size(payload) as u64
        })
        .collect()
}

#[test]
fn a_pass_verifies_every_byte_of_all_sealed_segments_in_steps_that_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, LOG, 0, 80);
    let total: u64 = sealed(dir.path()).iter().map(|file| size(file)).sum();
    let mut scrubber = log.scrubber();
    for _ in 0..2 {
        let (mut read, mut verified) = (0, 0);
        loop {
            let step = scrubber.step(1).unwrap();
            assert_eq!(step.found, []);
            // A window, and one beside it for the footer's rows.
            assert!(step.read <= 2 * (256 << 10), "{step:?}");
            read += step.read;
            assert_eq!(step.progress.total, total);
            assert!((verified..=total).contains(&step.progress.verified));
            verified = step.progress.verified;
            if step.ended_pass {
                break;
            }
        }
        assert_eq!(verified, total);
        assert!(read >= total, "{read} of {total}");
    }
    assert_eq!((scrubber.faults(), scrubber.faults_count()), (vec![], 0));
}

#[test]
fn a_log_without_a_sealed_segment_has_nothing_to_scrub() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let ended = ScrubStep {
        ended_pass: true,
        ..ScrubStep::default()
    };
    assert_eq!(log.scrubber().step(1).unwrap(), ended);
    fill(&log, LOG, 0, 3);
    assert_eq!(log.scrubber().step(1).unwrap(), ended);
}

#[test]
fn every_wrong_byte_is_found_and_the_entry_that_it_takes_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, LOG, 0, 50);
    let file = sealed(dir.path())[1].clone();
    let base = base(&file);
    let frames = frames(&file);
    let mut scrubber = log.scrubber();
    // The whole header of the second frame, most of the footer, and every 151st of the rest.
    let footer = frames.last().unwrap().end;
    let mut places: Vec<u64> = (0..size(&file)).step_by(151).collect();
    places.extend(
        frames[1]
            .clone()
            .take(64)
            .chain((footer..size(&file)).step_by(3)),
    );
    for position in places {
        flip_in_place(&file, position);
        let found = pass(&mut scrubber);
        assert!(!found.is_empty(), "byte {position} was not found");
        assert!(found.iter().all(|fault| fault.damage.file == file));
        let frame = frames.iter().position(|frame| frame.contains(&position));
        let entry = frame.map(|frame| base + frame as u64);
        let named: Vec<Option<RangeInclusive<u64>>> =
            found.iter().map(|fault| fault.entries.clone()).collect();
        assert_eq!(
            named,
            [entry.map(|entry| entry..=entry)],
            "byte {position}: {found:?}"
        );
        let damaged = frame.map_or(0..size(&file), |frame| frames[frame].clone());
        assert!(
            damaged.contains(&found[0].damage.position),
            "byte {position}: {found:?}"
        );
        assert_eq!(scrubber.faults(), found);
        assert_eq!(pass(&mut scrubber), [], "what is known is not found again");
        flip_in_place(&file, position);
        pass(&mut scrubber);
        assert_eq!(scrubber.faults(), [], "what is right again is no damage");
    }
}

#[test]
fn a_byte_of_padding_that_is_not_zero_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, LOG, 0, 50);
    let file = sealed(dir.path())[0].clone();
    let bytes = fs::read(&file).unwrap();
    let mut padded = 0;
    for (index, frame) in (0..).zip(frames(&file)) {
        let payload_end = frame.start + 64 + number(&bytes, place(frame.start) + 8);
        if payload_end < frame.end {
            padded += 1;
            flip_in_place(&file, frame.end - 1);
            let found = pass(&mut log.scrubber());
            let entries: Vec<_> = found.iter().map(|fault| fault.entries.clone()).collect();
            assert_eq!(entries, [Some(index..=index)], "{found:?}");
            flip_in_place(&file, frame.end - 1);
        }
    }
    assert!(padded > 0);
}

#[test]
fn several_damaged_entries_of_a_segment_are_all_named_and_neighbours_as_a_range() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, LOG, 0, 60);
    let files = sealed(dir.path());
    let base = base(&files[0]);
    let frames = frames(&files[0]);
    for (frame, at) in [(2, 20), (3, 100), (4, 4), (7, 64)] {
        flip_in_place(&files[0], frames[frame].start + at);
    }
    flip_in_place(&files[2], 9);
    let mut scrubber = log.scrubber();
    let found = pass(&mut scrubber);
    let named: Vec<_> = found
        .iter()
        .map(|fault| (fault.damage.file.clone(), fault.entries.clone()))
        .collect();
    assert_eq!(
        named,
        [
            (files[0].clone(), Some(base + 2..=base + 4)),
            (files[0].clone(), Some(base + 7..=base + 7)),
            (files[2].clone(), None),
        ]
    );
    assert_eq!(scrubber.faults_count(), 3);
}

#[test]
fn without_intact_rows_the_entries_between_whole_frames_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, LOG, 0, 40);
    let file = sealed(dir.path())[0].clone();
    let frames = frames(&file);
    let footer = frames.last().unwrap().end;
    flip_in_place(&file, footer + 3);
    let last = frames.len() as u64 - 1;
    for (broken, named) in [
        (vec![3], 3..=3),
        (vec![3, 4, 5], 3..=5),
        (vec![0], 0..=0),
        (vec![frames.len() - 1], last..=last),
    ] {
        let places: Vec<u64> = broken.iter().map(|frame| frames[*frame].start).collect();
        for place in &places {
            flip_in_place(&file, place + 18);
        }
        let found = pass(&mut log.scrubber());
        let entries: Vec<_> = found
            .iter()
            .filter_map(|fault| fault.entries.clone())
            .collect();
        assert_eq!(entries, [named], "{found:?}");
        assert!(found[0].damage.what.contains("footer, frames"));
        for place in &places {
            flip_in_place(&file, place + 18);
        }
    }
}

#[test]
fn what_is_repaired_is_no_damage_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, LOG, 0, 60);
    let file = sealed(dir.path())[1].clone();
    let index = base(&file) + 2;
    let good = log.entries(index, index + 1, 0).unwrap();
    flip_in_place(&file, frames(&file)[2].start + 70);
    let mut scrubber = log.scrubber();
    let found = pass(&mut scrubber);
    assert_eq!(found[0].entries, Some(index..=index), "{found:?}");
    // In the middle of a pass: what it knew of the old file, and how far it was in it, is void.
    scrubber.step(1).unwrap();
    wait(|done| {
        let repaired = log.repair_sealed(index, good, done);
        repaired.expect("the entry is the right one");
        Ok(())
    })
    .unwrap();
    assert_eq!(pass(&mut scrubber), []);
    assert_eq!(scrubber.faults(), []);
}

#[test]
fn rows_of_a_footer_that_rot_over_whole_frames_are_built_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, LOG, 0, 60);
    let file = sealed(dir.path())[1].clone();
    let good = fs::read(&file).unwrap();
    let frames = frames(&file);
    let rows = frames.last().unwrap().end;
    let log_rows = rows + 16 * frames.len() as u64;
    // What a restart does for the small sections and the trailer, which are read at open.
    for position in [rows + 4, log_rows - 5, log_rows, log_rows + 9] {
        flip_in_place(&file, position);
        let mut scrubber = log.scrubber();
        let mut found = 0;
        loop {
            let step = scrubber.step(4096).unwrap();
            found += step.found.len();
            scrubber.rebuild_footers(&step);
            if step.ended_pass {
                break;
            }
        }
        assert!(found > 0, "byte {position}");
        barrier(&log);
        assert!(fs::read(&file).unwrap() == good, "byte {position}");
        assert_eq!(pass(&mut scrubber), []);
        assert_eq!(scrubber.faults(), []);
        log.verify().unwrap();
    }
}

#[test]
fn a_file_that_is_cut_or_gone_under_a_running_log_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, LOG, 0, 60);
    let files = sealed(dir.path());
    let frames = frames(&files[0]);
    let file = RealDisk.open(&files[0]).unwrap();
    file.set_size(frames[5].start + 10).unwrap();
    remove(&files[1]);
    let mut scrubber = log.scrubber();
    let found = pass(&mut scrubber);
    let last = base(&files[1]) - 1;
    let of_cut = found.iter().filter(|fault| fault.damage.file == files[0]);
    let entries: Vec<_> = of_cut.filter_map(|fault| fault.entries.clone()).collect();
    assert_eq!(entries, [5..=last], "{found:?}");
    let gone = found
        .iter()
        .find(|fault| fault.damage.file == files[1])
        .unwrap();
    assert_eq!(gone.entries, Some(last + 1..=base(&files[2]) - 1));
}

#[test]
fn what_is_purged_meanwhile_is_skipped_and_what_is_sealed_meanwhile_is_taken_in() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    fill(&log, LOG, 0, 60);
    let files = sealed(dir.path());
    for file in &files[..2] {
        flip_in_place(file, 9);
    }
    let mut scrubber = log.scrubber();
    let step = scrubber.step(1).unwrap();
    assert!(!step.ended_pass);
    // The first is known to be damaged, or about to be; the second is not reached.
    purge(&log, id(base(&files[2]) - 1));
    fill(&log, LOG, 60, 20);
    let total: u64 = sealed_sizes(dir.path());
    let mut found = step.found;
    let seen = loop {
        let step = scrubber.step(1).unwrap();
        found.extend(step.found);
        if step.ended_pass {
            break step.progress.verified;
        }
    };
    assert!(
        found.iter().all(|fault| fault.damage.file == files[0]),
        "{found:?}"
    );
    assert_eq!(scrubber.faults(), [], "what is purged is not damaged");
    assert!(seen >= total, "{seen} of {total}");
    let files: u64 = segments(dir.path()).iter().map(|file| size(file)).sum();
    assert_eq!(log.state().disk_size, files);
}

fn sealed_sizes(dir: &Path) -> u64 {
    let mut files = segments(dir);
    files.pop();
    files.iter().map(|file| size(file)).sum()
}

type Places = Vec<(PathBuf, Range<u64>)>;

/// A disk that does not read some sectors.
#[derive(Debug, Clone, Default)]
struct Unreadable {
    places: Arc<Mutex<Places>>,
}

impl Disk for Unreadable {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(UnreadableFile {
            file: RealDisk.open(path)?,
            path: path.to_owned(),
            disk: self.clone(),
        }))
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
    fn free_size(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.free_size(dir)
    }
}

#[derive(Debug)]
struct UnreadableFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    disk: Unreadable,
}

impl DiskFile for UnreadableFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let end = position + buffer.len() as u64;
        let places = self.disk.places.lock().expect("no panic");
        let fails = places
            .iter()
            .any(|(path, place)| *path == self.path && place.start < end && position < place.end);
        if fails {
            return Err(io::Error::other("Input/output error"));
        }
        self.file.read_at(buffer, position)
    }
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        self.file.write_at(parts, position)
    }
    fn sync(&self) -> io::Result<()> {
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

#[test]
fn a_sector_that_the_disk_does_not_read_is_damage_of_its_entries_alone() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Unreadable::default();
    let log = Log::open_on(Arc::new(disk.clone()), options(dir.path())).unwrap();
    fill(&log, LOG, 0, 50);
    let file = sealed(dir.path())[1].clone();
    let base = base(&file);
    let frames = frames(&file);
    let sector = 8192..8704;
    disk.places
        .lock()
        .unwrap()
        .push((file.clone(), sector.clone()));
    let hit: Vec<u64> = (base..)
        .zip(&frames)
        .filter(|(_, frame)| frame.start < sector.end && sector.start < frame.end)
        .map(|(index, _)| index)
        .collect();
    let found = pass(&mut log.scrubber());
    let entries: Vec<_> = found.iter().map(|fault| fault.entries.clone()).collect();
    assert_eq!(entries, [Some(hit[0]..=hit[hit.len() - 1])], "{found:?}");
    assert!(found[0].damage.what.contains("Input/output error"));
}

//! A group's directory: a valid one with bytes of it changed, or files of the input's own; opened and read.
//!
//! Claims: it never panics, and memory is bounded. Of a valid directory with changed bytes, and crcs as they were: what
//! is read is what was written, or an error, and what was acknowledged is there, or an error. With crcs set right, what
//! is read twice is the same.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, mpsc};

use inkstone_storage::io::Disk;
use inkstone_storage::log::{Log, LogOptions};
use inkstone_storage::types::LogId;

use super::forge;
use crate::check::Check;
use crate::disk::{Files, MemoryDisk};
use crate::image::{Applied, different};
use crate::memory::within;
use crate::region::{Frame, regions};
use crate::workload::{self, ONE, TWO, Workload};

/// What opening and reading may hold at once, beside what is in proportion to the files: the records of one batch, which
/// `limits` bounds, as often as they are held at once.
const MEMORY: usize = 128 << 20;
/// And for each byte of the files.
const MEMORY_PER_BYTE: usize = 16;
/// Bytes of a change: where, what, and how often.
const CHANGE_SIZE: usize = 6;
/// Bytes of the files of an input's own.
const FILE_SIZE_MAX: usize = 64 << 10;
const NAMES: [&str; 10] = [
    "hard-state",
    "watermark",
    "snapshot",
    "log/00000000000000000000.seg",
    "log/00000000000000000004.seg",
    "log/00000000000000000004.ckpt",
    "log/00000000000000000101.seg",
    "log/18446744073709551615.seg",
    "log/18446744073709551615.ckpt",
    "log/spare.tmp",
];

/// The first byte chooses a directory, the second what is done with it, the rest does it.
pub(crate) fn run(input: &[u8]) {
    let [which, how, rest @ ..] = input else {
        return;
    };
    let (work, frames) = &directories()[usize::from(*which) % directories().len()];
    let forged = how & 1 == 1;
    let files = if how & 2 == 0 {
        changed(&work.files, rest)
    } else {
        given(&work.options.dir, rest)
    };
    if forged || how & 2 != 0 {
        let files = if forged { forge_all(files) } else { files };
        let size: usize = files.values().map(Vec::len).sum();
        let memory = MEMORY + MEMORY_PER_BYTE * size;
        within(memory, || exercise(&files, &work.options));
    } else {
        check(work, frames, files);
    }
}

fn directories() -> &'static [(Workload, Vec<Frame>)] {
    static DIRECTORIES: OnceLock<Vec<(Workload, Vec<Frame>)>> = OnceLock::new();
    DIRECTORIES.get_or_init(|| {
        let frames = |work| {
            let (_, frames) = regions(&work);
            (work, frames)
        };
        workload::all(5).into_iter().map(frames).collect()
    })
}

/// Each change: a file, a position in units of 4 bytes from the file's begin or its end, a length, and a byte that is
/// added to those there. A length of 255 cuts the file.
fn changed(files: &Files, changes: &[u8]) -> Files {
    let mut files = files.clone();
    let paths: Vec<PathBuf> = files.keys().cloned().collect();
    for change in changes.chunks_exact(CHANGE_SIZE) {
        let [file, low, high, within, size, value] = *change else {
            continue;
        };
        let path = &paths[usize::from(file & 0x7f) % paths.len()];
        let file_bytes = files.get_mut(path).expect("one of them");
        let distance = usize::from(u16::from_le_bytes([low, high])) * 4 + usize::from(within % 4);
        let at = if file & 0x80 == 0 {
            distance.min(file_bytes.len())
        } else {
            file_bytes.len().saturating_sub(distance)
        };
        if size == u8::MAX {
            file_bytes.truncate(at);
            continue;
        }
        for byte in file_bytes.iter_mut().skip(at).take(usize::from(size)) {
            *byte = byte.wrapping_add(value);
        }
    }
    files
}

/// Files of the input's own: a name, a size, and the bytes, one after the other.
fn given(dir: &Path, mut input: &[u8]) -> Files {
    let mut files = Files::new();
    while let [name, low, high, rest @ ..] = input {
        let name = NAMES[usize::from(*name) % NAMES.len()];
        let size = usize::from(u16::from_le_bytes([*low, *high]));
        let (bytes, behind) = rest.split_at(size.min(rest.len()));
        let file: &mut Vec<u8> = files.entry(dir.join(name)).or_default();
        if file.len() + size <= FILE_SIZE_MAX {
            file.extend_from_slice(bytes);
            // What an input is short of is zeros, as in a file that was reserved.
            file.resize(file.len() + size - bytes.len(), 0);
        }
        input = behind;
    }
    files
}

fn forge_all(mut files: Files) -> Files {
    for (path, bytes) in &mut files {
        let name = path.file_name().and_then(|name| name.to_str());
        forge::file(name.unwrap_or_default(), bytes);
    }
    files
}

/// Bytes of a valid directory were changed: the images' check holds.
fn check(work: &Workload, frames: &[Frame], files: Files) {
    let applied = Applied {
        different: different(&work.files, &files),
        faults: Vec::new(),
        files,
        // A byte that is added to can become what it was elsewhere.
        is_displaced: true,
        is_pair: true,
    };
    let size: usize = applied.files.values().map(Vec::len).sum();
    let check = Check {
        work,
        frames,
        applied: &applied,
    };
    let outcome = within(MEMORY + MEMORY_PER_BYTE * size, || {
        check.run(&|disk, options| Log::open_on(disk, options))
    });
    if let Err(what) = outcome {
        panic!("{}: {what}", work.name);
    }
}

/// Opens whatever it is, reads all of it twice, writes to it, and opens it again.
fn exercise(files: &Files, options: &LogOptions) {
    let disk = MemoryDisk::new(files, &[]);
    let Ok(log) = Log::open_on(Arc::clone(&disk) as Arc<dyn Disk>, options.clone()) else {
        return;
    };
    assert_eq!(read(&log), read(&log), "a read changes nothing");
    let state = log.state();
    drop(log);
    let again = Log::open_on(disk, options.clone());
    let log = again.expect("what opened once opens again");
    assert_eq!(log.state().last, state.last);
    let (tx, rx) = mpsc::sync_channel(1);
    let done = Box::new(move |outcome| drop(tx.send(outcome)));
    let cut = state.purged.or(state.last).map(|id| id.index);
    if log.boundaries().is_empty() && log.checkpoint().is_none() {
        let pushed = log.truncate_after(cut, done);
        drop(pushed.map(|()| rx.recv()));
    }
}

/// What comes out, as text: errors too.
fn read(log: &Log) -> Vec<String> {
    let state = log.state();
    let mut found = vec![format!("{state:?} {:?}", log.vote())];
    found.push(format!("{:?} {:?}", log.checkpoint(), log.snapshot()));
    found.push(format!("{:?} {:?}", log.terms(), log.boundaries()));
    for boundary in log.boundaries() {
        found.push(format!("{:?}", log.checkpoint_at(boundary)));
    }
    for index in (state.first_index..=state.last.map_or(0, |last| last.index)).take(64) {
        found.push(format!("{:?}", log.entry_id(index)));
        found.push(format!("{:?}", log.entries(index, index + 1, 1)));
        found.push(format!("{:?}", log.read_entries(index, index + 1, 1)));
    }
    for log_id in [LogId(0), ONE, TWO, LogId(u64::MAX)] {
        for offset in [0, 1, 5, 500, u64::MAX] {
            found.push(format!("{:?}", log.read(log_id, offset, u64::MAX, 1 << 16)));
            let time = offset.cast_signed();
            found.push(format!("{:?}", log.offset_at_time(log_id, offset, time)));
        }
    }
    found.push(format!("{:?}", log.verify()));
    found
}

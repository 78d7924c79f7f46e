//! Every promise of `Disk` and `DiskFile`, on the real disk and on the simulated one.

use std::io::{ErrorKind, IoSlice};
use std::path::Path;
use std::sync::Arc;

use inkstone_storage::io::sim::SimDisk;
use inkstone_storage::io::{Disk, DiskFile, RealDisk};

/// More than one call of the system takes.
const MANY_PARTS: usize = 1024 + 500;

/// Runs a check on both disks, each with a directory of its own that is there.
fn on_both(check: impl Fn(&dyn Disk, &Path)) {
    let dir = tempfile::tempdir().expect("the disk does as it is told");
    check(&RealDisk, dir.path());
    let disk = SimDisk::new();
    let dir = Path::new("/data");
    disk.create_dir(dir).expect("the disk does as it is told");
    check(&disk, dir);
}

fn kind<T>(outcome: std::io::Result<T>) -> ErrorKind {
    outcome.err().expect("an error").kind()
}

fn write(file: &Arc<dyn DiskFile>, bytes: &[u8], position: u64) {
    file.write_at(&[IoSlice::new(bytes)], position)
        .expect("the disk does as it is told");
}

fn read(file: &Arc<dyn DiskFile>) -> Vec<u8> {
    let mut bytes = vec![
        7;
        usize::try_from(file.size().expect("the disk does as it is told"))
            .expect("the disk does as it is told")
    ];
    file.read_at(&mut bytes, 0)
        .expect("the disk does as it is told");
    bytes
}

fn sorted(disk: &dyn Disk, dir: &Path) -> Vec<String> {
    let mut names = disk.list(dir).expect("the disk does as it is told");
    names.sort();
    names
}

#[test]
fn a_directory_is_created_with_its_parents_and_again_without_an_error() {
    on_both(|disk, dir| {
        let below = dir.join("a/b/c");
        disk.create_dir(&below).unwrap();
        disk.create_dir(&below).unwrap();
        assert!(disk.list(&below).unwrap().is_empty());
        assert_eq!(sorted(disk, &dir.join("a")), ["b"]);
        disk.create(&below.join("file")).unwrap();
        assert_eq!(sorted(disk, &below), ["file"]);
    });
}

#[test]
fn a_directory_in_the_place_of_a_file_is_an_error() {
    on_both(|disk, dir| {
        disk.create(&dir.join("file")).unwrap();
        assert!(disk.create_dir(&dir.join("file")).is_err());
        assert!(disk.create_dir(&dir.join("file/below")).is_err());
        assert_eq!(kind(disk.list(&dir.join("file"))), ErrorKind::NotADirectory);
    });
}

#[test]
fn the_names_of_a_directory_are_those_in_it_alone() {
    on_both(|disk, dir| {
        disk.create_dir(&dir.join("below")).unwrap();
        disk.create(&dir.join("one")).unwrap();
        disk.create(&dir.join("two")).unwrap();
        disk.create(&dir.join("below/three")).unwrap();
        assert_eq!(sorted(disk, dir), ["below", "one", "two"]);
    });
}

#[test]
fn what_is_not_there_is_not_found() {
    on_both(|disk, dir| {
        let missing = dir.join("missing");
        let below = missing.join("file");
        assert_eq!(kind(disk.open(&missing)), ErrorKind::NotFound);
        assert_eq!(kind(disk.remove(&missing)), ErrorKind::NotFound);
        let renamed = disk.rename(&missing, &dir.join("other"));
        assert_eq!(kind(renamed), ErrorKind::NotFound);
        assert_eq!(kind(disk.list(&missing)), ErrorKind::NotFound);
        assert_eq!(kind(disk.sync_dir(&missing)), ErrorKind::NotFound);
        assert_eq!(kind(disk.free_size(&missing)), ErrorKind::NotFound);
        assert_eq!(kind(disk.create(&below)), ErrorKind::NotFound);
        disk.create(&dir.join("file")).unwrap();
        let renamed = disk.rename(&dir.join("file"), &below);
        assert_eq!(kind(renamed), ErrorKind::NotFound);
        assert_eq!(sorted(disk, dir), ["file"]);
    });
}

#[test]
fn a_directory_is_no_file() {
    on_both(|disk, dir| {
        let below = dir.join("below");
        disk.create_dir(&below).unwrap();
        assert_eq!(kind(disk.open(&below)), ErrorKind::IsADirectory);
        assert_eq!(kind(disk.create(&below)), ErrorKind::IsADirectory);
        assert_eq!(kind(disk.remove(&below)), ErrorKind::IsADirectory);
        disk.create(&dir.join("file")).unwrap();
        let renamed = disk.rename(&dir.join("file"), &below);
        assert_eq!(kind(renamed), ErrorKind::IsADirectory);
    });
}

#[test]
fn creating_a_file_that_is_there_empties_it_for_whoever_has_it_open() {
    on_both(|disk, dir| {
        let path = dir.join("file");
        let before = disk.create(&path).unwrap();
        write(&before, b"something", 0);
        let after = disk.create(&path).unwrap();
        assert_eq!((before.size().unwrap(), after.size().unwrap()), (0, 0));
        write(&after, b"new", 0);
        assert_eq!(read(&before), b"new");
    });
}

#[test]
fn all_handles_of_a_file_are_one_file() {
    on_both(|disk, dir| {
        let path = dir.join("file");
        let one = disk.create(&path).unwrap();
        let two = disk.open(&path).unwrap();
        write(&one, b"abc", 0);
        write(&two, b"d", 3);
        assert_eq!(read(&one), b"abcd");
        assert_eq!(read(&two), b"abcd");
    });
}

#[test]
fn a_rename_replaces_what_has_the_name_and_handles_stay_with_their_files() {
    on_both(|disk, dir| {
        let (from, to) = (dir.join("from"), dir.join("to"));
        let new = disk.create(&from).unwrap();
        write(&new, b"new", 0);
        let old = disk.create(&to).unwrap();
        write(&old, b"old", 0);
        disk.rename(&from, &to).unwrap();
        disk.sync_dir(dir).unwrap();
        assert_eq!(sorted(disk, dir), ["to"]);
        assert_eq!(read(&disk.open(&to).unwrap()), b"new");
        assert_eq!(read(&old), b"old");
        write(&new, b"more", 3);
        assert_eq!(read(&disk.open(&to).unwrap()), b"newmore");
        disk.rename(&to, &to).unwrap();
        assert_eq!(read(&disk.open(&to).unwrap()), b"newmore");
    });
}

#[test]
fn a_file_can_be_renamed_into_another_directory() {
    on_both(|disk, dir| {
        disk.create_dir(&dir.join("below")).unwrap();
        write(&disk.create(&dir.join("file")).unwrap(), b"abc", 0);
        disk.rename(&dir.join("file"), &dir.join("below/other"))
            .unwrap();
        assert_eq!(sorted(disk, dir), ["below"]);
        let file = disk.open(&dir.join("below/other")).unwrap();
        assert_eq!(read(&file), b"abc");
    });
}

#[test]
fn a_removed_file_is_there_for_whoever_has_it_open_or_mapped() {
    on_both(|disk, dir| {
        let path = dir.join("file");
        let file = disk.create(&path).unwrap();
        write(&file, b"abc", 0);
        let map = file.map().unwrap();
        disk.remove(&path).unwrap();
        assert_eq!(kind(disk.open(&path)), ErrorKind::NotFound);
        assert_eq!(read(&file), b"abc");
        assert_eq!(&map[..], b"abc");
        drop(file);
        assert_eq!(&map[..], b"abc");
        let other = disk.create(&path).unwrap();
        assert_eq!(other.size().unwrap(), 0, "the name is another file's now");
    });
}

#[test]
fn all_parts_of_a_write_are_written_one_behind_the_other() {
    on_both(|disk, dir| {
        let file = disk.create(&dir.join("file")).unwrap();
        let bytes: Vec<u8> = (1..=u8::MAX).cycle().take(3 * MANY_PARTS).collect();
        for part_size in [1, 3, 5000] {
            let mut parts: Vec<IoSlice<'_>> = bytes.chunks(part_size).map(IoSlice::new).collect();
            parts.insert(1.min(parts.len()), IoSlice::new(&[]));
            file.set_size(0).unwrap();
            file.write_at(&parts, 4090).unwrap();
            let found = read(&file);
            assert!(found[..4090].iter().all(|byte| *byte == 0));
            assert_eq!(found[4090..], bytes, "parts of {part_size}");
        }
    });
}

#[test]
fn a_write_of_nothing_changes_nothing() {
    on_both(|disk, dir| {
        let file = disk.create(&dir.join("file")).unwrap();
        file.write_at(&[], 10).unwrap();
        file.write_at(&[IoSlice::new(&[])], 10).unwrap();
        assert_eq!(file.size().unwrap(), 0);
    });
}

#[test]
fn a_write_changes_no_byte_outside_of_it() {
    on_both(|disk, dir| {
        let file = disk.create(&dir.join("file")).unwrap();
        let mut expected = vec![1; 20_000];
        write(&file, &expected, 0);
        for (position, size) in [(0, 1), (511, 3), (4095, 2), (4096, 4096), (8191, 9000)] {
            write(&file, &vec![2; size], position as u64);
            expected[position..position + size].fill(2);
            assert_eq!(read(&file), expected);
            expected[position..position + size].fill(1);
            write(&file, &vec![1; size], position as u64);
        }
    });
}

#[test]
fn a_write_behind_the_end_leaves_zeros_between() {
    on_both(|disk, dir| {
        let file = disk.create(&dir.join("file")).unwrap();
        write(&file, b"a", 0);
        write(&file, b"b", 9000);
        let found = read(&file);
        assert_eq!((found[0], found[9000], found.len()), (b'a', b'b', 9001));
        assert!(found[1..9000].iter().all(|byte| *byte == 0));
    });
}

#[test]
fn reading_behind_the_end_is_an_unexpected_end() {
    on_both(|disk, dir| {
        let file = disk.create(&dir.join("file")).unwrap();
        assert_eq!(kind(file.read_at(&mut [0; 4], 0)), ErrorKind::UnexpectedEof);
        write(&file, b"abcdef", 0);
        for position in [3, 6, 100_000] {
            let outcome = file.read_at(&mut [0; 4], position);
            assert_eq!(kind(outcome), ErrorKind::UnexpectedEof, "at {position}");
        }
        let mut bytes = [0; 4];
        file.read_at(&mut bytes, 2).unwrap();
        assert_eq!(&bytes, b"cdef");
        file.read_at(&mut [], 6).unwrap();
        file.read_at(&mut [], 100).unwrap();
    });
}

#[test]
fn allocated_bytes_are_zeros_and_what_is_there_stays() {
    on_both(|disk, dir| {
        let file = disk.create(&dir.join("file")).unwrap();
        write(&file, b"abc", 5000);
        file.allocate(20_000).unwrap();
        let found = read(&file);
        assert_eq!(found.len(), 20_000);
        assert_eq!(&found[5000..5003], b"abc");
        let others = found.iter().filter(|byte| **byte != 0).count();
        assert_eq!(others, 3);
        file.allocate(100).unwrap();
        assert_eq!(file.size().unwrap(), 20_000, "it only grows");
        assert_eq!(read(&file), found);
    });
}

#[test]
fn a_cut_takes_the_bytes_and_they_do_not_come_back() {
    on_both(|disk, dir| {
        let file = disk.create(&dir.join("file")).unwrap();
        for (grow, name) in [(true, "set_size"), (false, "allocate")] {
            write(&file, &[9; 10_000], 0);
            file.set_size(4100).unwrap();
            assert_eq!(file.size().unwrap(), 4100);
            if grow {
                file.set_size(10_000).unwrap();
            } else {
                file.allocate(10_000).unwrap();
            }
            let found = read(&file);
            assert!(found[..4100].iter().all(|byte| *byte == 9), "{name}");
            assert!(found[4100..].iter().all(|byte| *byte == 0), "{name}");
        }
    });
}

#[test]
fn a_map_is_the_whole_file() {
    on_both(|disk, dir| {
        let file = disk.create(&dir.join("file")).unwrap();
        assert!(file.map().unwrap().is_empty());
        let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(9000).collect();
        write(&file, &bytes, 0);
        file.sync().unwrap();
        assert_eq!(&file.map().unwrap()[..], bytes);
    });
}

#[test]
fn what_is_written_can_be_read_whether_it_is_synced_and_forgotten_or_not() {
    on_both(|disk, dir| {
        let path = dir.join("file");
        let file = disk.create(&path).unwrap();
        write(&file, &[3; 5000], 0);
        file.forget(0, 5000).unwrap();
        file.forget(0, 0).unwrap();
        assert_eq!(read(&file), [3; 5000]);
        file.sync().unwrap();
        disk.sync_dir(dir).unwrap();
        file.forget(0, 5000).unwrap();
        file.forget(4096, 1 << 30).unwrap();
        assert_eq!(read(&disk.open(&path).unwrap()), [3; 5000]);
        assert!(disk.free_size(dir).unwrap() > 0);
    });
}

#[test]
fn a_file_that_is_opened_to_read_is_the_file_also_when_it_is_gone() {
    on_both(|disk, dir| {
        let path = dir.join("file");
        let missing = disk.open_to_read(&path);
        assert_eq!(kind(missing), ErrorKind::NotFound);
        let file = disk.create(&path).unwrap();
        write(&file, b"abc", 0);
        let reader = disk.open_to_read(&path).unwrap();
        write(&file, b"d", 3);
        assert_eq!(read(&reader), b"abcd");
        disk.remove(&path).unwrap();
        assert_eq!(read(&reader), b"abcd");
        assert_eq!(&reader.map().unwrap()[..], b"abcd");
    });
}

#[test]
fn a_sync_that_is_begun_changes_no_byte() {
    on_both(|disk, dir| {
        let file = disk.create(&dir.join("file")).unwrap();
        write(&file, &[3; 9000], 0);
        for (position, size) in [(0, 9000), (100, 0), (4096, 1 << 30), (1 << 30, 1)] {
            file.begin_sync(position, size).unwrap();
        }
        assert_eq!(read(&file), [3; 9000]);
        file.sync().unwrap();
        assert_eq!(read(&file), [3; 9000]);
    });
}

#[test]
fn a_map_that_lets_go_of_memory_has_its_bytes_all_the_same() {
    on_both(|disk, dir| {
        let file = disk.create(&dir.join("file")).unwrap();
        let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(20_000).collect();
        write(&file, &bytes, 0);
        file.sync().unwrap();
        let map = file.map().unwrap();
        for (position, size) in [(0, 20_000), (5000, 100), (19_999, 1 << 30), (1 << 30, 1)] {
            map.forget(position, size).unwrap();
            assert_eq!(&map[..], bytes, "{size} at {position}");
        }
    });
}

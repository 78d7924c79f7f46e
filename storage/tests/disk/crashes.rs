//! What crashes of the simulated disk leave: what was synced, and of the rest what the policy says.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use inkstone_storage::io::sim::{Image, Names, Policy, SimDisk, Unit, Unsynced};
use inkstone_storage::io::{Disk, DiskFile};

fn policy(data: Unsynced, names: Names) -> Policy {
    Policy {
        data,
        unit: Unit::Sector,
        names,
    }
}

fn path(name: &str) -> PathBuf {
    Path::new("/data").join(name)
}

/// A disk with a durable file of 4096 ones.
fn disk() -> (SimDisk, Arc<dyn DiskFile>) {
    let mut image = Image::default();
    image.put(&path("file"), &[1; 4096]);
    let disk = SimDisk::from_image(&image);
    let file = disk
        .open(&path("file"))
        .expect("the disk does as it is told");
    (disk, file)
}

fn write(file: &Arc<dyn DiskFile>, byte: u8, position: u64, size: usize) {
    let bytes = vec![byte; size];
    file.write_at(&[IoSlice::new(&bytes)], position)
        .expect("the disk does as it is told");
}

/// The disk after a crash now.
fn crash(disk: &SimDisk, policy: &Policy) -> Image {
    let journal = disk.journal();
    journal.crash(journal.operations().len()).image(policy)
}

fn names(image: &Image) -> Vec<String> {
    let name = |path: &Path| {
        path.file_name()
            .expect("the disk does as it is told")
            .to_string_lossy()
            .into_owned()
    };
    image.paths().map(name).collect()
}

#[test]
fn the_whole_journal_kept_is_what_the_user_sees() {
    let (disk, file) = disk();
    write(&file, 2, 100, 9000);
    file.set_size(5000).unwrap();
    let other = disk.create(&path("other")).unwrap();
    write(&other, 3, 0, 10);
    disk.rename(&path("other"), &path("third")).unwrap();
    disk.remove(&path("file")).unwrap();
    other.allocate(6000).unwrap();
    let all = policy(Unsynced::All, Names::Kept);
    assert_eq!(crash(&disk, &all), disk.image());
    let journal = disk.journal();
    for count in 0..=journal.operations().len() {
        let disk = SimDisk::from_image(&journal.crash(count).image(&all));
        assert_eq!(disk.image(), journal.crash(count).image(&all));
    }
}

#[test]
fn what_was_synced_is_there_whatever_the_policy() {
    let (disk, file) = disk();
    write(&file, 2, 100, 9000);
    file.sync().unwrap();
    let other = disk.create(&path("other")).unwrap();
    write(&other, 3, 0, 10);
    other.sync().unwrap();
    disk.sync_dir(Path::new("/data")).unwrap();
    for seed in 0..50 {
        let random = policy(Unsynced::Random(seed), Names::Random(seed));
        assert_eq!(crash(&disk, &random), disk.image());
    }
}

#[test]
fn what_was_not_synced_is_lost_with_its_size() {
    let (disk, file) = disk();
    write(&file, 2, 100, 9000);
    let other = disk.create(&path("other")).unwrap();
    write(&other, 3, 0, 10);
    let journal = disk.journal();
    let left = crash(&disk, &policy(Unsynced::None, Names::Lost));
    assert_eq!(
        left,
        journal.start().image(&policy(Unsynced::All, Names::Kept))
    );
    let left = crash(&disk, &policy(Unsynced::None, Names::Kept));
    assert_eq!(left.read(&path("other")).unwrap(), b"");
    other.sync().unwrap();
    let left = crash(&disk, &policy(Unsynced::None, Names::Lost));
    assert_eq!(
        names(&left),
        ["file"],
        "a synced file without a durable name"
    );
}

#[test]
fn one_change_alone_can_be_kept() {
    let (disk, file) = disk();
    write(&file, 2, 0, 512);
    write(&file, 3, 512, 1024);
    write(&file, 4, 5000, 10);
    file.set_size(8000).unwrap();
    let journal = disk.journal();
    let crash = journal.crash(journal.operations().len());
    // The third write made the file longer.
    assert_eq!(crash.unsynced(), 5);
    let left = |data| {
        crash
            .image(&policy(data, Names::Kept))
            .read(&path("file"))
            .unwrap()
    };
    let first = left(Unsynced::Only(0));
    assert_eq!(
        (first[..512].to_vec(), &first[512..]),
        (vec![2; 512], &[1; 3584][..])
    );
    let second = left(Unsynced::Only(1));
    assert_eq!(
        (&second[..512], &second[512..1536]),
        (&[1; 512][..], &[3; 1024][..])
    );
    let unit = left(Unsynced::OnlyUnit(1, 1));
    assert_eq!(
        (&unit[..1024], &unit[1024..1536]),
        (&[1; 1024][..], &[3; 512][..])
    );
    let third = left(Unsynced::Only(2));
    assert_eq!((third.len(), third[5000]), (5010, 4));
    let grown = left(Unsynced::Only(3));
    assert_eq!(
        (grown.len(), grown[5000]),
        (5010, 0),
        "the size without the bytes"
    );
    assert_eq!(left(Unsynced::Only(4)).len(), 8000);
    assert_eq!(left(Unsynced::Only(5)), [1; 4096]);
}

#[test]
fn units_are_kept_or_lost_as_a_whole_and_in_any_combination() {
    for (unit, size, file_size) in [(Unit::Sector, 512, 4096), (Unit::Page, 4096, 6 * 4096)] {
        let mut image = Image::default();
        image.put(&path("file"), &vec![1; file_size]);
        let disk = SimDisk::from_image(&image);
        let file = disk.open(&path("file")).unwrap();
        write(&file, 2, 0, file_size);
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..2000 {
            let random = Policy {
                data: Unsynced::Random(seed),
                unit,
                names: Names::Kept,
            };
            let bytes = crash(&disk, &random).read(&path("file")).unwrap();
            let units: Vec<u8> = bytes
                .chunks(size)
                .map(|unit| {
                    assert!(unit.iter().all(|byte| *byte == unit[0]), "torn in a unit");
                    unit[0]
                })
                .collect();
            seen.insert(units);
        }
        let count = file_size / size;
        assert!(seen.len() > 1 << (count - 2), "{} combinations", seen.len());
        assert!(seen.contains(&vec![1; count]) && seen.contains(&vec![2; count]));
    }
}

#[test]
fn a_unit_that_was_written_twice_may_hold_the_earlier_write() {
    let (disk, file) = disk();
    write(&file, 2, 0, 100);
    write(&file, 3, 50, 100);
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let random = policy(Unsynced::Random(seed), Names::Kept);
        let bytes = crash(&disk, &random).read(&path("file")).unwrap();
        seen.insert((bytes[0], bytes[60], bytes[149]));
    }
    let expected = [(1, 1, 1), (2, 2, 1), (2, 3, 3)];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn a_cut_that_is_kept_takes_the_bytes_and_one_that_is_lost_does_not() {
    let (disk, file) = disk();
    file.set_size(1000).unwrap();
    file.allocate(4096).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let random = policy(Unsynced::Random(seed), Names::Kept);
        let bytes = crash(&disk, &random).read(&path("file")).unwrap();
        assert_eq!(bytes[..1000], [1; 1000]);
        seen.insert((bytes.len(), bytes.get(2000).copied()));
    }
    let expected = [(1000, None), (4096, Some(0)), (4096, Some(1))];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn names_are_kept_or_lost_in_any_combination_until_their_directory_is_synced() {
    let (disk, _file) = disk();
    disk.create_dir(&path("below")).unwrap();
    disk.create(&path("a")).unwrap();
    disk.create(&path("below/b")).unwrap();
    disk.remove(&path("file")).unwrap();
    let journal = disk.journal();
    let state = journal.crash(journal.operations().len());
    assert_eq!(state.unsynced_names(), 3);
    let left = |names_policy| names(&state.image(&policy(Unsynced::All, names_policy)));
    assert_eq!(left(Names::Kept), ["a", "b"]);
    assert_eq!(left(Names::Lost), ["file"]);
    assert_eq!(left(Names::KeptIn(path("below"))), ["b", "file"]);
    assert_eq!(left(Names::KeptIn("/data".into())), ["a"]);
    assert_eq!(left(Names::Only(0)), ["a", "file"]);
    assert_eq!(left(Names::Only(2)), Vec::<String>::new());
    let seen: std::collections::BTreeSet<_> =
        (0..200).map(|seed| left(Names::Random(seed))).collect();
    assert_eq!(seen.len(), 8, "{seen:?}");
    disk.sync_dir(Path::new("/data")).unwrap();
    let lost = policy(Unsynced::All, Names::Lost);
    assert_eq!(names(&crash(&disk, &lost)), ["a"], "only that directory");
    disk.sync_dir(&path("below")).unwrap();
    assert_eq!(names(&crash(&disk, &lost)), ["a", "b"]);
}

#[test]
fn a_rename_moves_a_file_as_a_whole_and_brings_what_its_names_had_before() {
    let (disk, _file) = disk();
    let new = disk.create(&path("tmp")).unwrap();
    write(&new, 7, 0, 10);
    new.sync().unwrap();
    disk.rename(&path("tmp"), &path("file")).unwrap();
    for names_policy in [Names::Only(1), Names::Kept] {
        let image = crash(&disk, &policy(Unsynced::None, names_policy));
        assert_eq!(names(&image), ["file"]);
        assert_eq!(image.read(&path("file")).unwrap(), [7; 10]);
    }
    let image = crash(&disk, &policy(Unsynced::None, Names::Only(0)));
    assert_eq!(names(&image), ["file", "tmp"]);
    assert_eq!(image.read(&path("file")).unwrap(), [1; 4096]);
    let image = crash(&disk, &policy(Unsynced::None, Names::Lost));
    assert_eq!(names(&image), ["file"]);
    assert_eq!(image.read(&path("file")).unwrap(), [1; 4096]);
}

#[test]
fn a_removed_file_that_comes_back_holds_what_was_synced() {
    let (disk, file) = disk();
    write(&file, 2, 0, 512);
    file.sync().unwrap();
    disk.remove(&path("file")).unwrap();
    drop(file);
    let image = crash(&disk, &policy(Unsynced::None, Names::Lost));
    assert_eq!(image.read(&path("file")).unwrap()[..512], [2; 512]);
}

#[test]
fn a_sync_that_was_only_begun_makes_nothing_durable() {
    let (disk, file) = disk();
    write(&file, 2, 0, 512);
    file.begin_sync(0, 512).unwrap();
    let image = crash(&disk, &policy(Unsynced::None, Names::Lost));
    assert_eq!(image.read(&path("file")).unwrap(), [1; 4096]);
}

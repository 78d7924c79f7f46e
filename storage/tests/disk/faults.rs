//! Calls of the simulated disk that fail, a disk that gets full, bytes that rot, and a sync that is held.

use std::io::{ErrorKind, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use inkstone_storage::io::sim::{Call, Fault, Image, Names, Policy, Rot, SimDisk, Unit, Unsynced};
use inkstone_storage::io::{Disk, DiskFile};

const PATH: &str = "/data/file";
const NOTHING_KEPT: Policy = Policy {
    data: Unsynced::None,
    unit: Unit::Sector,
    names: Names::Lost,
};

/// A file that is durable and empty.
fn file() -> (SimDisk, Arc<dyn DiskFile>) {
    let mut image = Image::default();
    image.put(Path::new(PATH), b"");
    let disk = SimDisk::from_image(&image);
    let file = disk
        .open(Path::new(PATH))
        .expect("the disk does as it is told");
    (disk, file)
}

fn write(file: &Arc<dyn DiskFile>, bytes: &[u8], position: u64) -> std::io::Result<()> {
    file.write_at(&[IoSlice::new(bytes)], position)
}

fn content(disk: &SimDisk) -> Vec<u8> {
    disk.image()
        .read(Path::new(PATH))
        .expect("the disk does as it is told")
}

fn durable(disk: &SimDisk) -> Vec<u8> {
    let journal = disk.journal();
    let image = journal
        .crash(journal.operations().len())
        .image(&NOTHING_KEPT);
    image
        .read(Path::new(PATH))
        .expect("the disk does as it is told")
}

#[test]
fn the_call_that_was_planned_fails_and_all_behind_it_unless_it_is_only_one() {
    for once in [false, true] {
        let (disk, file) = file();
        let fault = Fault::after(2, &[Call::Write, Call::Sync]);
        disk.plan(if once { fault.once() } else { fault });
        write(&file, b"a", 0).unwrap();
        file.sync().unwrap();
        let error = write(&file, b"b", 1).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5));
        assert_eq!(file.sync().is_ok(), once);
        assert_eq!(content(&disk), b"a");
        assert_eq!((disk.calls(Call::Write), disk.calls(Call::Sync)), (2, 2));
        disk.clear_faults();
        write(&file, b"c", 1).unwrap();
    }
}

#[test]
fn every_kind_of_call_can_fail_and_then_has_no_effect() {
    for call in Call::ALL {
        let (disk, file) = file();
        write(&file, b"abc", 0).unwrap();
        disk.plan(Fault::after(0, &[call]).no_space().once());
        let dir = Path::new("/data");
        let (path, other) = (Path::new(PATH), dir.join("other"));
        let outcomes = [
            write(&file, b"x", 0),
            file.sync(),
            file.read_at(&mut [0], 0),
            file.allocate(10),
            file.set_size(1),
            disk.create(&other).map(drop),
            disk.rename(path, &other),
            disk.remove(if call == Call::Rename { path } else { &other }),
            disk.sync_dir(dir),
        ];
        for (number, outcome) in outcomes.iter().enumerate() {
            let expected = Call::ALL[number] == call;
            assert_eq!(outcome.is_err(), expected, "{call:?}: {outcomes:?}");
        }
        let failed = outcomes.into_iter().find_map(Result::err).unwrap();
        assert_eq!(failed.kind(), ErrorKind::StorageFull);
        let effects = disk.journal().operations().len();
        // The first write, and every call that is not a read and did not fail.
        let expected = Call::ALL.len() + usize::from(call == Call::Read);
        assert_eq!(effects, expected - 1 + usize::from(call == Call::Sync));
    }
}

#[test]
fn a_short_write_leaves_what_it_wrote() {
    let (disk, file) = file();
    disk.plan(Fault::after(0, &[Call::Write]).partly(3).no_space());
    let parts = [IoSlice::new(b"ab"), IoSlice::new(b"cdef")];
    assert!(file.write_at(&parts, 0).is_err());
    assert_eq!(content(&disk), b"abc");
}

#[test]
fn what_a_failed_sync_marked_clean_is_not_written_by_a_later_one() {
    for lying in [true, false] {
        let (disk, file) = file();
        write(&file, &[1; 600], 0).unwrap();
        file.sync().unwrap();
        write(&file, &[2; 2000], 0).unwrap();
        let fault = Fault::after(0, &[Call::Sync]).once();
        disk.plan(if lying { fault } else { fault.keeps_dirty() });
        file.sync().unwrap_err();
        assert_eq!(durable(&disk), [1; 600]);
        file.sync().unwrap();
        assert_eq!(content(&disk), [2; 2000], "the page cache has it");
        let kept = durable(&disk);
        if !lying {
            assert_eq!(kept, [2; 2000]);
            continue;
        }
        assert_eq!(kept[..600], [1; 600]);
        assert!(kept[600..].iter().all(|byte| *byte == 0), "the size is");
        write(&file, &[3; 10], 700).unwrap();
        file.sync().unwrap();
        let kept = durable(&disk);
        assert_eq!(kept[..512], [1; 512]);
        assert_eq!(kept[512..700], [2; 188], "a sector is written as a whole");
        assert_eq!(kept[700..710], [3; 10]);
        write(&file, &[2; 2000], 0).unwrap();
        file.sync().unwrap();
        assert_eq!(durable(&disk), [2; 2000], "written again, it is");
    }
}

#[test]
fn a_disk_that_is_full_takes_what_fits_and_goes_on_when_it_grows() {
    let (disk, file) = file();
    let dir = Path::new("/data");
    disk.set_capacity(Some(3 * 4096));
    assert_eq!(disk.free_size(dir).unwrap(), 3 * 4096);
    file.allocate(4096).unwrap();
    assert_eq!(disk.free_size(dir).unwrap(), 2 * 4096);
    assert_eq!(
        file.allocate(5 * 4096).unwrap_err().kind(),
        ErrorKind::StorageFull
    );
    assert_eq!(file.size().unwrap(), 4096, "all or nothing is reserved");
    let error = write(&file, &vec![1; 5 * 4096], 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(content(&disk), [1; 3 * 4096]);
    assert_eq!(disk.free_size(dir).unwrap(), 0);
    write(&file, &[2; 4096], 0).unwrap();
    disk.set_capacity(Some(5 * 4096));
    write(&file, &vec![1; 5 * 4096], 0).unwrap();
    file.set_size(4097).unwrap();
    assert_eq!(disk.free_size(dir).unwrap(), 3 * 4096);
    disk.remove(Path::new(PATH)).unwrap();
    assert_eq!(disk.free_size(dir).unwrap(), 3 * 4096, "still open");
    drop(file);
    assert_eq!(disk.free_size(dir).unwrap(), 5 * 4096);
}

#[test]
fn stored_bytes_rot_as_told() {
    let path = Path::new(PATH);
    let mut then = Image::default();
    then.put(path, &[1; 2000]);
    let mut image = then.clone();
    image.put(path, &[2; 2000]);
    image.put(Path::new("/data/other"), &[3; 2000]);
    let rots = [
        Rot::Flip {
            position: 9,
            mask: 0x81,
        },
        Rot::Zero {
            position: 512,
            size: 512,
        },
        Rot::Stale {
            position: 512,
            size: 512,
            then,
        },
        Rot::Misdirected {
            position: 1024,
            size: 512,
            from: "/data/other".into(),
            from_position: 0,
        },
        Rot::Cut { size: 700 },
    ];
    let mut expected = vec![vec![2; 2000]; rots.len()];
    expected[0][9] = 2 ^ 0x81;
    expected[1][512..1024].fill(0);
    expected[2][512..1024].fill(1);
    expected[3][1024..1536].fill(3);
    expected[4].truncate(700);
    for (rot, expected) in rots.iter().zip(expected) {
        let mut rotten = image.clone();
        assert!(rotten.rot(path, rot));
        assert_eq!(rotten.read(path).unwrap(), expected);
        let disk = SimDisk::from_image(&image);
        disk.rot_reads(path, rot.clone());
        let file = disk.open(path).unwrap();
        let mut bytes = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
        file.read_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, expected);
        assert_eq!(&file.map().unwrap()[..], expected);
        assert_eq!(content(&disk), [2; 2000], "what is stored stays");
        disk.clear_rot();
        file.read_at(&mut [0; 2000], 0).unwrap();
    }
    assert!(!image.rot(Path::new("/data/missing"), &rots[0]));
}

#[test]
fn a_held_sync_waits_and_the_journal_has_it_where_it_was_released() {
    let (disk, file) = file();
    write(&file, b"a", 0).unwrap();
    let held = disk.hold_next_sync();
    let syncing = Arc::clone(&file);
    let thread = thread::spawn(move || syncing.sync());
    held.wait();
    let place = disk.note("meanwhile");
    assert_eq!(place, 1);
    held.release();
    thread.join().unwrap().unwrap();
    file.sync().unwrap();
    let journal = disk.journal();
    let shown: Vec<_> = journal
        .operations()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        shown,
        [
            "write 1 at 0 of #0 /data/file",
            "-- meanwhile",
            "sync #0 /data/file",
            "sync #0 /data/file",
        ]
    );
}

//! What can be wrong with a directory: one damage, or two.
//!
//! Promises: an image is a few words, the same number gives the same image. Must not know: what a log makes of it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::disk::{Fault, Files};
use super::region::{Class, Frame, Region};
use super::workload::{BLOCK, Workload};

/// What a disk does to bytes.
#[derive(Debug, Clone)]
pub(crate) enum Damage {
    Bit {
        at: usize,
        bit: u8,
    },
    Byte {
        at: usize,
        value: u8,
    },
    Bytes {
        at: usize,
        bytes: Vec<u8>,
    },
    Zeros {
        at: usize,
        size: usize,
    },
    Cut {
        size: usize,
    },
    Stale {
        at: usize,
        bytes: Vec<u8>,
    },
    Moved {
        at: usize,
        size: usize,
        from: usize,
    },
    Other {
        at: usize,
        size: usize,
        file: PathBuf,
        from: usize,
    },
    Astray {
        at: usize,
        size: usize,
        from: usize,
    },
    Unreadable {
        at: usize,
        size: usize,
    },
    Missing,
    Swapped {
        with: PathBuf,
    },
    Foreign,
}

impl Damage {
    /// Whether it puts bytes that were written as they are into another place.
    fn displaces(&self) -> bool {
        matches!(
            self,
            Self::Stale { .. }
                | Self::Moved { .. }
                | Self::Other { .. }
                | Self::Astray { .. }
                | Self::Swapped { .. }
        )
    }

    /// What it is called in the summary.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Bit { .. } => "bit flipped",
            Self::Byte { .. } => "byte overwritten",
            Self::Bytes { .. } => "bytes overwritten",
            Self::Zeros { .. } => "zeroed",
            Self::Cut { .. } => "cut short",
            Self::Stale { .. } => "stale block",
            Self::Moved { .. } => "block of another place",
            Self::Other { .. } => "block of another file",
            Self::Astray { .. } => "read astray",
            Self::Unreadable { .. } => "read error",
            Self::Missing => "missing",
            Self::Swapped { .. } => "swapped",
            Self::Foreign => "of another cluster",
        }
    }
}

/// A directory that went wrong in one place.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) class: Class,
    pub(crate) file: PathBuf,
    pub(crate) damage: Damage,
}

/// A directory with what is wrong in it.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) changes: Vec<Change>,
}

impl Image {
    pub(crate) fn class(&self) -> Class {
        match &self.changes[..] {
            [one] => one.class,
            _ => Class::Pair,
        }
    }

    /// Whether there are many like it beside it.
    pub(crate) fn is_small(&self) -> bool {
        matches!(
            &self.changes[..],
            [Change {
                damage: Damage::Bit { .. } | Damage::Byte { .. },
                ..
            }]
        )
    }

    pub(crate) fn kind(&self) -> &'static str {
        match &self.changes[..] {
            [one] => one.damage.kind(),
            _ => "two of these",
        }
    }
}

/// Files as an image has them, and what is wrong with reading them.
pub(crate) struct Applied {
    pub(crate) files: Files,
    pub(crate) faults: Vec<(PathBuf, Fault)>,
    /// Which bytes are different, by file; of a missing file all are.
    pub(crate) different: BTreeMap<PathBuf, Vec<usize>>,
    /// Whether bytes that were written as they are stand in another place, or are of another time.
    pub(crate) is_displaced: bool,
    /// Whether it went wrong in more than one place.
    pub(crate) is_pair: bool,
}

/// Does to the files what the image says; `None` when nothing is different then.
pub(crate) fn apply(image: &Image, work: &Workload, foreign: &Workload) -> Option<Applied> {
    let mut files = work.files.clone();
    let mut faults = Vec::new();
    for change in &image.changes {
        change_files(change, &mut files, &mut faults, work, foreign);
    }
    let mut different = different(&work.files, &files);
    for (path, fault) in &faults {
        let place = match fault {
            Fault::Astray { place, from } if reads_same(files.get(path), place, *from) => continue,
            Fault::Unreadable(place) | Fault::Astray { place, .. } => place.clone(),
        };
        different.entry(path.clone()).or_default().extend(place);
    }
    for bytes in different.values_mut() {
        bytes.sort_unstable();
    }
    (!different.is_empty()).then_some(Applied {
        files,
        faults,
        different,
        is_pair: image.changes.len() > 1,
        is_displaced: image.changes.iter().any(|change| change.damage.displaces()),
    })
}

/// Which bytes of which files differ.
pub(crate) fn different(before: &Files, now: &Files) -> BTreeMap<PathBuf, Vec<usize>> {
    let bytes = |(path, before): (&PathBuf, &Vec<u8>)| {
        let now = now.get(path).map(Vec::as_slice);
        let bytes = differing(before, now.unwrap_or_default());
        (now.is_none() || !bytes.is_empty()).then(|| (path.clone(), bytes))
    };
    before.iter().filter_map(bytes).collect()
}

/// Where two files differ; 64 bytes that are the same are passed over at once.
fn differing(before: &[u8], now: &[u8]) -> Vec<usize> {
    const CHUNK: usize = 64;
    let size = before.len().max(now.len());
    let mut found = Vec::new();
    for from in (0..size).step_by(CHUNK) {
        let to = (from + CHUNK).min(size);
        if before.get(from..to).is_none() || before.get(from..to) != now.get(from..to) {
            found.extend((from..to).filter(|at| before.get(*at) != now.get(*at)));
        }
    }
    found
}

fn reads_same(file: Option<&Vec<u8>>, place: &Range<usize>, from: usize) -> bool {
    let byte = |at: usize| file.and_then(|file| file.get(at)).copied().unwrap_or(0);
    place
        .clone()
        .all(|at| byte(at) == byte(from + (at - place.start)))
}

fn overwrite(file: &mut [u8], at: usize, bytes: &[u8]) {
    let end = (at + bytes.len()).min(file.len());
    if let Some(place) = file.get_mut(at..end) {
        place.copy_from_slice(&bytes[..place.len()]);
    }
}

fn change_files(
    change: &Change,
    files: &mut Files,
    faults: &mut Vec<(PathBuf, Fault)>,
    work: &Workload,
    foreign: &Workload,
) {
    let path = &change.file;
    match &change.damage {
        Damage::Missing => drop(files.remove(path)),
        Damage::Swapped { with } => {
            if let (Some(one), Some(two)) = (files.remove(path), files.remove(with)) {
                files.insert(path.clone(), two);
                files.insert(with.clone(), one);
            }
        }
        Damage::Foreign => drop(files.insert(path.clone(), foreign.files[path].clone())),
        Damage::Astray { at, size, from } => {
            let end = (at + size).min(work.files[path].len());
            let place = *at..end;
            faults.push((path.clone(), Fault::Astray { place, from: *from }));
        }
        Damage::Unreadable { at, size } => {
            let end = (at + size).min(work.files[path].len());
            faults.push((path.clone(), Fault::Unreadable(*at..end)));
        }
        damage => {
            if let Some(file) = files.get_mut(path) {
                change_bytes(damage, file, work);
            }
        }
    }
}

fn change_bytes(damage: &Damage, file: &mut Vec<u8>, work: &Workload) {
    match damage {
        Damage::Bit { at, bit } => {
            if let Some(byte) = file.get_mut(*at) {
                *byte ^= 1 << bit;
            }
        }
        Damage::Byte { at, value } => overwrite(file, *at, &[*value]),
        Damage::Bytes { at, bytes } | Damage::Stale { at, bytes } => overwrite(file, *at, bytes),
        Damage::Zeros { at, size } => overwrite(file, *at, &vec![0; *size]),
        Damage::Cut { size } => file.truncate(*size),
        Damage::Moved { at, size, from } => {
            let bytes: Vec<u8> = file.iter().skip(*from).take(*size).copied().collect();
            overwrite(file, *at, &bytes);
        }
        Damage::Other {
            at,
            size,
            file: other,
            from,
        } => {
            let other = work.files[other].iter().skip(*from).take(*size);
            overwrite(file, *at, &other.copied().collect::<Vec<u8>>());
        }
        _ => unreachable!("of whole files"),
    }
}

/// Numbers without a pattern, the same each time.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).expect("64 bits") % end.max(1)
    }
}

/// Up to this, every bit of a region is flipped.
const EVERY_BIT_MAX: usize = 4;
/// Of a larger one, so many.
const SAMPLED_BITS: usize = 12;

/// What a disk cannot read, it cannot read by so many bytes.
const PAGE: usize = 4096;

/// Every image with one damage, and frames that are bad beside a watermark that is.
pub(crate) fn singles(work: &Workload, regions: &[Region], frames: &[Frame]) -> Vec<Image> {
    let mut dice = Dice::new(work.files.len() as u64);
    let mut changes = Vec::new();
    for region in regions {
        in_region(region, &mut dice, &mut changes);
    }
    for (path, bytes) in &work.files {
        in_blocks(work, path, bytes, regions, &mut dice, &mut changes);
        whole(work, path, &mut changes);
    }
    frames_moved(frames, &mut changes);
    let single = |change| Image {
        changes: vec![change],
    };
    let beside = frames
        .iter()
        .flat_map(|frame| beside_watermark(work, frame));
    changes.into_iter().map(single).chain(beside).collect()
}

/// A bad frame, and one slot of the watermark, or both.
fn beside_watermark(work: &Workload, frame: &Frame) -> Vec<Image> {
    let bit = |class, file: PathBuf, at| Change {
        class,
        file,
        damage: Damage::Bit { at, bit: 3 },
    };
    let watermark = work.options.dir.join("watermark");
    let slot = |at| bit(Class::WatermarkSlot, watermark.clone(), at);
    let slots = [vec![slot(70)], vec![slot(4096)], vec![slot(0), slot(4100)]];
    let mut images = Vec::new();
    for at in [0, 20, 50, 66] {
        let at = frame.place.start + at.min(frame.place.len() - 1);
        for slots in &slots {
            let mut changes = slots.clone();
            changes.push(bit(Class::FrameIdentity, frame.file.clone(), at));
            images.push(Image { changes });
        }
    }
    images
}

fn in_region(region: &Region, dice: &mut Dice, changes: &mut Vec<Change>) {
    let (place, size) = (&region.place, region.place.len());
    let mut push = |damage| {
        changes.push(Change {
            class: region.class,
            file: region.file.clone(),
            damage,
        });
    };
    if size <= EVERY_BIT_MAX {
        for at in place.clone() {
            (0..8).for_each(|bit| push(Damage::Bit { at, bit }));
        }
    } else {
        for _ in 0..SAMPLED_BITS {
            let at = place.start + dice.below(size);
            let bit = dice.below(8).to_le_bytes()[0];
            push(Damage::Bit { at, bit });
        }
    }
    for at in [place.start, place.start + size / 2, place.end - 1] {
        for value in [0, 0xff, dice.below(256).to_le_bytes()[0]] {
            push(Damage::Byte { at, value });
        }
    }
    let at = place.start;
    push(Damage::Zeros { at, size });
    let bytes = vec![0xff; size];
    push(Damage::Bytes { at, bytes });
    let bytes = (0..size)
        .map(|_| dice.below(256).to_le_bytes()[0])
        .collect();
    push(Damage::Bytes { at, bytes });
    push(Damage::Cut { size: place.start });
    push(Damage::Cut {
        size: place.start + 1,
    });
}

/// The class of what stands at a position.
fn class_at(regions: &[Region], path: &Path, at: usize) -> Class {
    let here = |region: &&Region| region.file == path && region.place.contains(&at);
    let found = regions.iter().find(here);
    found.map_or(Class::WholeFile, |region| region.class)
}

fn in_blocks(
    work: &Workload,
    path: &Path,
    bytes: &[u8],
    regions: &[Region],
    dice: &mut Dice,
    changes: &mut Vec<Change>,
) {
    let others: Vec<&PathBuf> = work.files.keys().filter(|other| *other != path).collect();
    for size in [BLOCK, PAGE] {
        let blocks = bytes.len().div_ceil(size);
        for at in (0..blocks).map(|block| block * size) {
            let mut push = |damage| {
                changes.push(Change {
                    class: class_at(regions, path, at),
                    file: path.to_owned(),
                    damage,
                });
            };
            push(Damage::Zeros { at, size });
            if size == PAGE {
                push(Damage::Unreadable { at, size });
            }
            for from in (0..blocks).map(|block| block * size) {
                push(Damage::Moved { at, size, from });
                push(Damage::Astray { at, size, from });
            }
            for file in &others {
                let file = (*file).clone();
                let from = at;
                push(Damage::Other {
                    at,
                    size,
                    file: file.clone(),
                    from,
                });
                let from = dice.below(work.files[&file].len().div_ceil(size)) * size;
                push(Damage::Other {
                    at,
                    size,
                    file,
                    from,
                });
            }
        }
    }
    for ((_, at), versions) in work.stale.iter().filter(|((of, _), _)| of == path) {
        for bytes in versions {
            let (at, bytes) = (*at, bytes.clone());
            changes.push(Change {
                class: class_at(regions, path, at),
                file: path.to_owned(),
                damage: Damage::Stale { at, bytes },
            });
        }
    }
}

fn whole(work: &Workload, path: &Path, changes: &mut Vec<Change>) {
    let others = work.files.keys().filter(|other| *other > path);
    let swapped = others.map(|with| Damage::Swapped { with: with.clone() });
    let size = 0;
    for damage in swapped.chain([Damage::Missing, Damage::Foreign, Damage::Cut { size }]) {
        changes.push(Change {
            class: Class::WholeFile,
            file: path.to_owned(),
            damage,
        });
    }
}

/// A frame, whole, where another of its file stands.
fn frames_moved(frames: &[Frame], changes: &mut Vec<Change>) {
    for one in frames {
        for two in frames.iter().filter(|two| two.file == one.file) {
            changes.push(Change {
                class: Class::FrameIdentity,
                file: one.file.clone(),
                damage: Damage::Moved {
                    at: one.place.start,
                    size: two.place.len(),
                    from: two.place.start,
                },
            });
        }
    }
}

/// Two that have nothing to do with each other, by number.
pub(crate) fn pair(singles: &[Image], seed: u64) -> Image {
    let mut dice = Dice::new(seed);
    let mut one = singles[dice.below(singles.len())].clone();
    let two = singles[dice.below(singles.len())].clone();
    one.changes.extend(two.changes);
    one
}

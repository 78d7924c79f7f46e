//! What is on a simulated disk at one moment, and what rot makes of it.
//!
//! Promises: cheap to clone, for contents are shared; a plain value, so that a test can look at it and change it. Must
//! not know: how it came about.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::content::Content;

/// Files and directories, all of them durable.
#[derive(Debug, Clone, Default)]
pub struct Image {
    pub(super) dirs: Arc<BTreeSet<PathBuf>>,
    pub(super) files: BTreeMap<PathBuf, Arc<Content>>,
}

impl PartialEq for Image {
    /// Images of one journal share nearly all of their contents.
    fn eq(&self, other: &Self) -> bool {
        let same = |((path, content), (other_path, other)): ((&PathBuf, &Arc<Content>), _)| {
            let other_path: &PathBuf = other_path;
            (Arc::ptr_eq(content, other) || content == other)
                && path.as_os_str() == other_path.as_os_str()
        };
        self.files.len() == other.files.len()
            && self.files.iter().zip(&other.files).all(same)
            && self.dirs == other.dirs
    }
}

/// What a disk does to bytes that were written once.
#[derive(Debug, Clone, PartialEq)]
pub enum Rot {
    /// Bits of one byte are others.
    Flip {
        /// Where.
        position: u64,
        /// The bits.
        mask: u8,
    },
    /// Bytes are zeros: a sector that was given back empty.
    Zero {
        /// The first.
        position: u64,
        /// How many.
        size: usize,
    },
    /// The file ends earlier.
    Cut {
        /// Its size.
        size: u64,
    },
    /// An earlier version of the bytes came back: a write that the disk answered and lost.
    Stale {
        /// The first.
        position: u64,
        /// How many.
        size: usize,
        /// The disk as it was then; a file that was not there counts as zeros.
        then: Image,
    },
    /// The bytes of another place: a write or a read that went astray.
    Misdirected {
        /// The first.
        position: u64,
        /// How many.
        size: usize,
        /// The file that they come from.
        from: PathBuf,
        /// Where they stand there.
        from_position: u64,
    },
}

impl Image {
    /// The files, by path.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(PathBuf::as_path)
    }

    /// A file's bytes, if it is there.
    pub fn read(&self, path: &Path) -> Option<Vec<u8>> {
        self.files.get(path).map(|content| content.to_vec())
    }

    /// A file's size, if it is there.
    pub fn size(&self, path: &Path) -> Option<u64> {
        self.files.get(path).map(|content| content.size())
    }

    /// Makes a file of these bytes, in place of the one that has the name; its directories come with it.
    pub fn put(&mut self, path: &Path, bytes: &[u8]) {
        let above = path.ancestors().skip(1);
        Arc::make_mut(&mut self.dirs).extend(above.map(Path::to_owned));
        let content = Arc::new(Content::of(bytes));
        self.files.insert(path.to_owned(), content);
    }

    /// Takes a file away: whether it was there.
    pub fn remove(&mut self, path: &Path) -> bool {
        self.files.remove(path).is_some()
    }

    /// Damages the stored bytes of a file: whether it is there.
    pub fn rot(&mut self, path: &Path, rot: &Rot) -> bool {
        let Some(content) = self.files.get(path) else {
            return false;
        };
        let mut content = Content::clone(content);
        let from = match rot {
            Rot::Misdirected { from, .. } => self.files.get(from),
            _ => None,
        };
        rot.apply(path, &mut content, from.map(AsRef::as_ref));
        self.files.insert(path.to_owned(), Arc::new(content));
        true
    }
}

impl Rot {
    /// Damages a content; `from` is that of the other file, if that is there.
    pub(super) fn apply(&self, path: &Path, content: &mut Content, from: Option<&Content>) {
        match self {
            Self::Flip { position, mask } => {
                let mut byte = [0];
                content.read(&mut byte, *position);
                let [byte] = byte;
                content.overlay(&[byte ^ mask], *position);
            }
            Self::Zero { position, size } => content.overlay(&vec![0; *size], *position),
            Self::Cut { size } => content.set_size(content.size().min(*size)),
            Self::Stale {
                position,
                size,
                then,
            } => {
                let mut bytes = vec![0; *size];
                if let Some(then) = then.files.get(path) {
                    then.read(&mut bytes, *position);
                }
                content.overlay(&bytes, *position);
            }
            Self::Misdirected {
                position,
                size,
                from_position,
                ..
            } => {
                let mut bytes = vec![0; *size];
                if let Some(from) = from {
                    from.read(&mut bytes, *from_position);
                }
                content.overlay(&bytes, *position);
            }
        }
    }
}

//! The data directory as a whole: the lock that keeps other processes out, and whose directory it is.
//!
//! Promises: one process at a time; an identity that was given is durable before the call returns and is never changed,
//! nor replaced when it is damaged or lost. Must not know: what the groups' directories hold.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use crate::error::{Damage, OpenError};
use crate::format::identity::{self, BadIdentity};
use crate::io::{Disk, RealDisk};
use crate::types::{Identity, NO_CLUSTER};

const LOCK: &str = "LOCK";
const IDENTITY: &str = "identity";
const IDENTITY_TMP: &str = "identity.tmp";
/// What the directory of a group is called in front of its number.
const GROUP_PREFIX: &str = "group-";

/// Holds `<data>/LOCK` while it lives.
#[derive(Debug)]
pub struct DirLock {
    dir: PathBuf,
    /// The system gives the lock back when this is closed, and when the process ends, however it ends.
    _lock: File,
}

impl DirLock {
    /// Creates the data directory when missing and locks it for this process.
    #[expect(
        clippy::disallowed_methods,
        reason = "a lock belongs to a process, not to the disk under test"
    )]
    pub fn acquire(data_dir: &Path) -> Result<Self, OpenError> {
        RealDisk.create_dir(data_dir).map_err(failed(data_dir))?;
        let file = data_dir.join(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&file)
            .map_err(failed(&file))?;
        Self::lock(data_dir, lock)
    }

    /// Locks a data directory that is there, and changes nothing in it: it may be on a disk that nobody may write.
    /// `None`: it has no `LOCK`, so that no node was ever started in it, and there is nothing to keep one out with.
    #[expect(
        clippy::disallowed_methods,
        reason = "a lock belongs to a process, not to the disk under test"
    )]
    pub fn acquire_existing(data_dir: &Path) -> Result<Option<Self>, OpenError> {
        let file = data_dir.join(LOCK);
        match File::open(&file) {
            Ok(lock) => Self::lock(data_dir, lock).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(OpenError::Io { file, source }),
        }
    }

    fn lock(data_dir: &Path, lock: File) -> Result<Self, OpenError> {
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                dir: data_dir.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked {
                dir: data_dir.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(OpenError::Io {
                file: data_dir.join(LOCK),
                source,
            }),
        }
    }

    /// The identity that the directory was given, if it was.
    ///
    /// A directory that holds a group's data and no identity has lost it: that is damage, not a new directory. A node
    /// that takes a new identity forgets what it voted for.
    pub fn identity(&self) -> Result<Option<Identity>, OpenError> {
        let file = self.dir.join(IDENTITY);
        let bytes = match read_bounded(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return match self.find_group().map_err(failed(&self.dir))? {
                    None => Ok(None),
                    Some(group) => Err(OpenError::Damaged(Damage {
                        file,
                        position: 0,
                        what: format!("missing, though {} is there", group.display()),
                    })),
                };
            }
            Err(source) => return Err(OpenError::Io { file, source }),
        };
        match identity::parse(&bytes) {
            Ok(identity) => Ok(Some(identity)),
            Err(BadIdentity::Version(found)) => Err(OpenError::Version {
                file,
                found,
                known: identity::VERSION,
            }),
            Err(BadIdentity::Damaged { position, what }) => Err(OpenError::Damaged(Damage {
                file,
                position: position as u64,
                what,
            })),
        }
    }

    /// Gives the directory its identity, durably. It must have none, or be the same node's that is in no cluster yet.
    ///
    /// # Panics
    /// When it has another one: a node never changes its identity.
    pub fn set_identity(&self, identity: Identity) -> Result<(), OpenError> {
        let before = self.identity()?;
        let undecided = |before: Identity| {
            before.node_id == identity.node_id && before.cluster_id == NO_CLUSTER
        };
        assert!(
            before.is_none_or(undecided),
            "the directory belongs to {before:?} already"
        );
        let (tmp, file) = (self.dir.join(IDENTITY_TMP), self.dir.join(IDENTITY));
        write_durably(&tmp, &identity::encode(identity)).map_err(failed(&tmp))?;
        // The name changes only after the bytes are durable: a crash leaves the whole file under this name, or none.
        rename_durably(&tmp, &file, &self.dir).map_err(failed(&file))
    }

    /// Whether the directory of a node that is in a cluster still has its group's hard state. Without it the node would
    /// start as one that never voted; the identity is given its cluster only after the hard state is there.
    pub fn require_group(&self, group: u64) -> Result<(), OpenError> {
        let dir = self.dir.join(format!("{GROUP_PREFIX}{group}"));
        let file = dir.join("hard-state");
        if file.try_exists().map_err(failed(&file))? {
            return Ok(());
        }
        Err(OpenError::Damaged(Damage {
            file,
            position: 0,
            what: "missing, and with it what this node voted for".to_owned(),
        }))
    }

    fn find_group(&self) -> io::Result<Option<PathBuf>> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(GROUP_PREFIX.as_bytes())
            {
                return Ok(Some(entry.path()));
            }
        }
        Ok(None)
    }
}

fn failed(file: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let file = file.to_owned();
    move |source| OpenError::Io { file, source }
}

#[expect(
    clippy::disallowed_methods,
    reason = "written once in a node's life, before there is a Disk"
)]
fn write_durably(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(file)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[expect(
    clippy::disallowed_methods,
    reason = "written once in a node's life, before there is a Disk"
)]
fn rename_durably(from: &Path, to: &Path, dir: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_dir(dir)
}

#[expect(
    clippy::disallowed_methods,
    reason = "once in a node's life, before there is a Disk"
)]
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[expect(
    clippy::disallowed_methods,
    reason = "read once at start, before there is a Disk"
)]
fn read_bounded(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(identity::SIZE);
    File::open(file)?
        .take(identity::SIZE_MAX as u64)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Identity = Identity {
        cluster_id: *b"0123456789abcdef",
        node_id: 42,
    };

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirLock::acquire(dir.path()).unwrap();
        let second = DirLock::acquire(dir.path());
        assert!(matches!(second, Err(OpenError::Locked { dir: held }) if held == dir.path()));
        drop(first);
        DirLock::acquire(dir.path()).unwrap();
    }

    #[test]
    fn a_group_that_is_gone_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirLock::acquire(dir.path()).unwrap();
        lock.set_identity(OURS).unwrap();
        let gone = lock.require_group(1).unwrap_err();
        assert!(gone.to_string().contains("voted"), "{gone}");
        fs::create_dir(dir.path().join("group-1")).unwrap();
        lock.require_group(1).unwrap_err();
        fs::write(dir.path().join("group-1/hard-state"), "").unwrap();
        lock.require_group(1).unwrap();
    }

    #[test]
    fn missing_directories_are_created() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        let lock = DirLock::acquire(&deep).unwrap();
        assert_eq!(lock.identity().unwrap(), None);
        assert!(deep.join(LOCK).is_file());
    }

    #[test]
    fn a_file_in_the_directory_s_place_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("data");
        fs::write(&file, "").unwrap();
        assert!(matches!(DirLock::acquire(&file), Err(OpenError::Io { .. })));
    }

    #[test]
    fn an_identity_is_read_back_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirLock::acquire(dir.path()).unwrap();
        assert_eq!(lock.identity().unwrap(), None);
        lock.set_identity(OURS).unwrap();
        assert_eq!(lock.identity().unwrap(), Some(OURS));
        drop(lock);
        fs::create_dir(dir.path().join("group-1")).unwrap();
        let lock = DirLock::acquire(dir.path()).unwrap();
        assert_eq!(lock.identity().unwrap(), Some(OURS));
        assert!(!dir.path().join(IDENTITY_TMP).exists());
    }

    #[test]
    fn a_node_that_was_in_no_cluster_yet_keeps_its_id_when_it_gets_one() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirLock::acquire(dir.path()).unwrap();
        let alone = Identity {
            cluster_id: NO_CLUSTER,
            ..OURS
        };
        lock.set_identity(alone).unwrap();
        assert_eq!(lock.identity().unwrap(), Some(alone));
        lock.set_identity(OURS).unwrap();
        assert_eq!(lock.identity().unwrap(), Some(OURS));
    }

    #[test]
    fn what_a_crash_left_of_the_first_write_is_no_identity() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirLock::acquire(dir.path()).unwrap();
        fs::write(dir.path().join(IDENTITY_TMP), [0xff; 500]).unwrap();
        assert_eq!(lock.identity().unwrap(), None);
        lock.set_identity(OURS).unwrap();
        assert_eq!(lock.identity().unwrap(), Some(OURS));
    }

    #[test]
    fn damage_of_the_identity_is_reported_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirLock::acquire(dir.path()).unwrap();
        lock.set_identity(OURS).unwrap();
        let file = dir.path().join(IDENTITY);
        let good = fs::read(&file).unwrap();
        let is_damage = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            matches!(lock.identity(), Err(OpenError::Damaged(damage)) if damage.file == file)
        };
        for bit in 0..good.len() * 8 {
            let mut flipped = good.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(is_damage(&flipped), "bit {bit}");
        }
        assert!(is_damage(&[]));
        assert!(is_damage(&good[..good.len() - 1]));
        assert!(is_damage(
            &[good.clone(), vec![0; identity::SIZE_MAX]].concat()
        ));
    }

    #[test]
    fn a_lost_identity_is_damage_and_not_a_new_directory() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirLock::acquire(dir.path()).unwrap();
        fs::create_dir(dir.path().join("group-1")).unwrap();
        assert!(matches!(lock.identity(), Err(OpenError::Damaged(_))));
        assert!(matches!(
            lock.set_identity(OURS),
            Err(OpenError::Damaged(_))
        ));
    }

    #[test]
    fn a_newer_version_is_reported_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirLock::acquire(dir.path()).unwrap();
        let mut newer = b"INKIDENT\x02\0\0\0 of a later release".to_vec();
        newer.extend(crc32fast::hash(&newer).to_le_bytes());
        fs::write(dir.path().join(IDENTITY), newer).unwrap();
        let read = lock.identity();
        assert!(
            matches!(
                read,
                Err(OpenError::Version {
                    found: 2,
                    known: 1,
                    ..
                })
            ),
            "{read:?}"
        );
    }
}

//! Checkpoint and snapshot files: written whole, beside the log.
//!
//! Promises: a file of that name is complete and durable, whatever crash; a damaged one is never used. Must not know:
//! what the body says.

use std::io::{self, IoSlice};
use std::path::Path;

use bytes::Bytes;

use super::hard_state::{foreign, owner_text};
use super::segment::{checkpoint_path, damage};
use super::shared::Shared;
use super::{Checkpoint, LogOptions};
use crate::error::{OpenError, ReadError};
use crate::format::checkpoint::{CHECKPOINT_VERSION, CheckpointFile};
use crate::format::fields::FormatError;
use crate::io::Disk;

/// Suffix of a file that is not complete.
pub(super) const TMP: &str = "tmp";

/// Writes a file under another name, and gives it its own when it is durable.
pub(super) fn write_whole(
    disk: &dyn Disk,
    dir: &Path,
    path: &Path,
    bytes: &[u8],
) -> io::Result<()> {
    let tmp = path.with_extension(TMP);
    let file = disk.create(&tmp)?;
    file.write_at(&[IoSlice::new(bytes)], 0)?;
    file.sync()?;
    disk.rename(&tmp, path)?;
    disk.sync_dir(dir)
}

/// [`write_whole`] as it must not be: the name is there before the bytes.
pub(super) fn write_unsynced(
    disk: &dyn Disk,
    dir: &Path,
    path: &Path,
    bytes: &[u8],
) -> io::Result<()> {
    let tmp = path.with_extension(TMP);
    let file = disk.create(&tmp)?;
    file.write_at(&[IoSlice::new(bytes)], 0)?;
    disk.rename(&tmp, path)?;
    disk.sync_dir(dir)
}

/// Reads a checkpoint or snapshot file.
pub(super) fn read(
    disk: &dyn Disk,
    path: &Path,
    options: &LogOptions,
    group: u32,
) -> Result<Checkpoint, OpenError> {
    let bytes = read_whole(disk, path).map_err(|source| OpenError::Io {
        file: path.to_owned(),
        source,
    })?;
    let file = CheckpointFile::decode(&bytes).map_err(|error| match error {
        FormatError::Version { found } => OpenError::Version {
            file: path.to_owned(),
            found,
            known: CHECKPOINT_VERSION,
        },
        error @ FormatError::Bad { .. } => damage(path, 0, error).into(),
    })?;
    let cluster_id = options.identity.cluster_id;
    if (file.cluster_id, file.group) != (cluster_id, group) {
        return Err(foreign(
            path,
            owner_text(cluster_id, group),
            owner_text(file.cluster_id, file.group),
        ));
    }
    Ok(Checkpoint {
        applied: file.applied,
        body: file.body,
    })
}

/// Reads the checkpoint of a boundary. One as of another entry is whole, and yet not the one that is asked for: two
/// files that changed places, or a write that went astray.
pub(super) fn read_boundary(
    disk: &dyn Disk,
    boundary: u64,
    options: &LogOptions,
    group: u32,
) -> Result<Checkpoint, OpenError> {
    let path = checkpoint_path(&options.log_dir(), boundary);
    let checkpoint = read(disk, &path, options, group)?;
    let index = checkpoint.applied.index;
    if index.checked_add(1) != Some(boundary) {
        let what =
            format!("checkpoint: as of the entry before {boundary} expected, of {index} found");
        return Err(damage(&path, 0, FormatError::bad(0, what)).into());
    }
    Ok(checkpoint)
}

/// The checkpoint of a boundary, if its file is there.
pub(super) fn read_at(shared: &Shared, boundary: u64) -> Result<Option<Checkpoint>, ReadError> {
    let path = checkpoint_path(&shared.options.log_dir(), boundary);
    match read_boundary(
        shared.disk.as_ref(),
        boundary,
        &shared.options,
        shared.group,
    ) {
        Ok(checkpoint) => Ok(Some(checkpoint)),
        Err(OpenError::Damaged(damage)) => Err(damage.into()),
        Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(OpenError::Io { file, source }) => Err(ReadError::Io { file, source }),
        Err(other) => Err(ReadError::Io {
            file: path,
            source: io::Error::other(other.to_string()),
        }),
    }
}

fn read_whole(disk: &dyn Disk, path: &Path) -> io::Result<Bytes> {
    let file = disk.open(path)?;
    let size = usize::try_from(file.size()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; size];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes.into())
}

//! A segment file as it is found: its header and its footer, good or not.
//!
//! Promises: reads, never writes; a file of another cluster or version is refused, whatever else is wrong. Must not know:
//! the other files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use super::super::hard_state::{foreign, owner_text};
use super::super::scan::Window;
use super::super::segment::{Sealed, segment_path};
use super::super::verify::footer_is_whole;
use super::io_error;
use super::segments::Opening;
use crate::error::OpenError;
use crate::format::fields::FormatError;
use crate::format::frame::{FRAME_HEADER_SIZE, FrameHeader, chain_before};
use crate::format::segment_footer::{Footer, TRAILER_SIZE};
use crate::format::segment_header::{SEGMENT_HEADER_SIZE, SEGMENT_VERSION, SegmentHeader};
use crate::io::{Disk, DiskFile};

/// A file in the place of a segment.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) base: u64,
    pub(super) path: PathBuf,
    /// Open while it may be read again: of all sealed segments together there are more than a process may have open.
    pub(super) held: Option<Arc<dyn DiskFile>>,
    pub(super) size: u64,
    pub(super) header: Result<SegmentHeader, FormatError>,
    /// The segment as a sealed one, or why it is not.
    pub(super) sealed: Result<Sealed, FormatError>,
    /// Chain crc before the first frame, as that one has it.
    first_chain: Option<u32>,
}

fn unknown_version(path: &Path, found: u32) -> OpenError {
    OpenError::Version {
        file: path.to_owned(),
        found,
        known: SEGMENT_VERSION,
    }
}

impl Candidate {
    pub(super) fn open(opening: &Opening<'_>, base: u64) -> Result<Self, OpenError> {
        let path = segment_path(&opening.options.log_dir(), base);
        let file = opening.disk.open(&path).map_err(io_error(&path))?;
        let size = file.size().map_err(io_error(&path))?;
        let mut window = Window::new(file.as_ref(), size);
        let header = match window
            .get(0, SEGMENT_HEADER_SIZE)
            .and_then(SegmentHeader::decode)
        {
            Ok(header) => opening.check_header(&path, header, base)?,
            Err(FormatError::Version { found }) => return Err(unknown_version(&path, found)),
            Err(error) => Err(error),
        };
        let first_chain = first_chain(&mut window, base);
        let footer = find_footer(&mut window);
        let sealed = match footer {
            Ok(()) => opening.open_sealed(&path, file.as_ref(), base)?,
            Err(error) => Err(error),
        };
        drop(window);
        let held = sealed.is_err().then_some(file);
        Ok(Self {
            base,
            path,
            held,
            size,
            header,
            sealed,
            first_chain,
        })
    }

    /// The file, opened again when it is not open.
    pub(super) fn file(&self, disk: &dyn Disk) -> Result<Arc<dyn DiskFile>, OpenError> {
        match &self.held {
            Some(file) => Ok(Arc::clone(file)),
            None => disk.open(&self.path).map_err(io_error(&self.path)),
        }
    }

    /// Chain crc before the first frame, if anything in the file says so.
    pub(super) fn chain_start(&self) -> Option<u32> {
        let header = self.header.as_ref().ok().map(|header| header.chain_start);
        let footer = || {
            let sealed = self.sealed.as_ref().ok()?;
            Some(sealed.footer().chain_start)
        };
        header.or_else(footer).or(self.first_chain)
    }

    /// Whether what the first frame says agrees with a header that was made up for it.
    pub(super) fn confirms(&self, header: &SegmentHeader) -> bool {
        self.first_chain == Some(header.chain_start)
    }

    /// Whether the footer's big sections are whole, too, which are not read before they are used: its sectors reach the
    /// disk in any order, so that a crash may have left its trailer and not its rows. They are read from the file: a sector
    /// that cannot be read is a part of a footer that is not whole, where the map would end the process.
    pub(super) fn has_all_rows(&self, disk: &dyn Disk) -> Result<bool, OpenError> {
        let Ok(sealed) = &self.sealed else {
            return Ok(false);
        };
        let file = self.file(disk)?;
        let mut window = Window::new(file.as_ref(), self.size);
        Ok(footer_is_whole(&mut window, sealed.footer()))
    }

    /// Whether nothing stands behind the header.
    pub(super) fn is_bare(&self) -> bool {
        // A sealed one is not.
        self.held.as_ref().is_some_and(|file| {
            Window::new(file.as_ref(), self.size).is_zero_from(SEGMENT_HEADER_SIZE as u64)
        })
    }
}

fn first_chain(window: &mut Window<'_>, base: u64) -> Option<u32> {
    let bytes = window.get(SEGMENT_HEADER_SIZE as u64, FRAME_HEADER_SIZE);
    let bytes = bytes.ok()?.first_chunk()?;
    let header = FrameHeader::decode(bytes).ok()?;
    (header.id.index == base).then(|| chain_before(bytes))
}

/// Whether the file ends as a sealed one, and what is read of its footer through the map can be read.
fn find_footer(window: &mut Window<'_>) -> Result<(), FormatError> {
    let gone = || FormatError::bad(0, "there is no footer");
    let trailer_at = window
        .size()
        .checked_sub(TRAILER_SIZE as u64)
        .filter(|at| *at >= SEGMENT_HEADER_SIZE as u64)
        .ok_or_else(gone)?;
    let trailer = window.get(trailer_at, TRAILER_SIZE)?;
    let trailer: [u8; TRAILER_SIZE] = trailer.first_chunk().copied().ok_or_else(gone)?;
    if !Footer::is_present(&trailer) {
        return Err(gone());
    }
    let small = Footer::small_size(&trailer);
    // Sizes that make no sense are refused by the trailer's own checks.
    if let Some(at) = trailer_at.checked_sub(small)
        && let Ok(size) = usize::try_from(small)
    {
        window.get(at, size)?;
    }
    Ok(())
}

impl Opening<'_> {
    fn check_header(
        &self,
        path: &Path,
        header: SegmentHeader,
        base: u64,
    ) -> Result<Result<SegmentHeader, FormatError>, OpenError> {
        let cluster_id = self.options.identity.cluster_id;
        if (header.cluster_id, header.group) != (cluster_id, self.group) {
            return Err(foreign(
                path,
                owner_text(cluster_id, self.group),
                owner_text(header.cluster_id, header.group),
            ));
        }
        if header.base != base {
            let found = header.base;
            let what = format!("segment {base} expected, {found} found");
            return Ok(Err(FormatError::bad(0, what)));
        }
        Ok(Ok(header))
    }

    fn open_sealed(
        &self,
        path: &Path,
        file: &dyn DiskFile,
        base: u64,
    ) -> Result<Result<Sealed, FormatError>, OpenError> {
        let map = match file.map() {
            Ok(map) => map,
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                return Ok(Err(FormatError::bad(
                    0,
                    format!("cannot be mapped: {error}"),
                )));
            }
            Err(error) => return Err(io_error(path)(error)),
        };
        let sealed = match Sealed::open(path, map, self.mutation) {
            Ok(sealed) => sealed,
            Err(FormatError::Version { found }) => return Err(unknown_version(path, found)),
            Err(error) => return Ok(Err(error)),
        };
        let footer = sealed.footer();
        let cluster_id = self.options.identity.cluster_id;
        if (footer.base, footer.group, footer.cluster_id) == (base, self.group, cluster_id) {
            return Ok(Ok(sealed));
        }
        // Of a file that was not sealed: the end of a record, where a crash cut off the zeros behind it.
        Ok(Err(FormatError::bad(0, "the footer is another segment's")))
    }
}

//! A sealed segment: immutable, mapped, found through its footer.
//!
//! Promises: bytes are copied out of the map and the copy is verified, so that what a reader gets is what was checked,
//! even if the page behind it is read again from a disk that rots. Must not know: which entries are purged.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{Check, damage};
use crate::error::Damage;
use crate::format::fields::FormatError;
use crate::format::frame::{
    FRAME_HEADER_SIZE, FrameHeader, FrameHeaderBytes, chain_crc, check_payload, check_payload_crc,
};
use crate::format::segment_footer::{Footer, FrameRow, LogRow, LogSummary, TRAILER_SIZE};
use crate::format::segment_header::SEGMENT_HEADER_SIZE;
use crate::io::Map;
use crate::log::mutant::{Mutant, Mutation};
use crate::types::{Entry, EntryId, LogId};

/// A sealed segment's map and where things are in it.
#[derive(Debug)]
pub(in crate::log) struct Sealed {
    path: PathBuf,
    map: Map,
    footer: Footer,
    mutation: Mutation,
}

impl Sealed {
    /// Over a whole file; its footer's small parts are checked.
    pub(in crate::log) fn open(
        path: &Path,
        map: Map,
        mutation: Mutation,
    ) -> Result<Self, FormatError> {
        let footer = Footer::decode(&map)?;
        Ok(Self {
            path: path.to_owned(),
            map,
            footer,
            mutation,
        })
    }

    pub(in crate::log) fn path(&self) -> &Path {
        &self.path
    }

    pub(in crate::log) fn footer(&self) -> &Footer {
        &self.footer
    }

    pub(in crate::log) fn base(&self) -> u64 {
        self.footer.base
    }

    pub(in crate::log) fn last(&self) -> u64 {
        self.footer.last
    }

    /// Bytes of the file.
    pub(in crate::log) fn size(&self) -> u64 {
        self.map.len() as u64
    }

    /// Lets go of what the map holds in memory of a range, so that the next read of the file asks the disk.
    pub(in crate::log) fn forget(&self, position: u64, size: u64) {
        // Where the system does not do it, the copy in memory is read again: right, and not proof of the disk.
        drop(self.map.forget(position, size));
    }

    /// The number of an entry's frame.
    pub(in crate::log) fn frame_number(&self, index: u64) -> u32 {
        u32::try_from(index.saturating_sub(self.base())).unwrap_or(u32::MAX)
    }

    pub(in crate::log) fn terms(&self) -> impl Iterator<Item = EntryId> + '_ {
        self.footer.terms(&self.map)
    }

    pub(in crate::log) fn logs(&self) -> impl Iterator<Item = LogSummary> + '_ {
        self.footer.logs(&self.map)
    }

    pub(in crate::log) fn log(&self, log: LogId) -> Option<LogSummary> {
        self.footer.log(&self.map, log)
    }

    pub(in crate::log) fn row(&self, log: &LogSummary, number: u32) -> Result<LogRow, Damage> {
        self.footer
            .row(&self.map, log, number)
            .map_err(|error| damage(&self.path, 0, error))
    }

    /// Row number `number` of a log's rows, which must be the one that holds `offset`: rows follow each other without a
    /// gap, and one that was moved within its section is whole and yet damage.
    pub(in crate::log) fn row_of(
        &self,
        log: &LogSummary,
        number: u32,
        offset: u64,
    ) -> Result<LogRow, Damage> {
        let row = self.row(log, number)?;
        if row.compare_offset(offset) == Ordering::Equal {
            return Ok(row);
        }
        let (from, to) = (row.base_offset, row.end_offset());
        let what = format!("footer, log rows: offset {offset} expected, {from} to {to} found");
        Err(self.row_damage(log, number, what))
    }

    /// The number of the row that holds `offset`, which lies in what the log has here.
    pub(in crate::log) fn find_offset(&self, log: &LogSummary, offset: u64) -> Result<u32, Damage> {
        let number = self.find_row(log, |row| row.compare_offset(offset))?;
        self.row_of(log, number, offset).map(|_| number)
    }

    /// That a log's row is not the one that it must be.
    pub(in crate::log) fn row_damage(&self, log: &LogSummary, number: u32, what: String) -> Damage {
        let position = self.footer.row_position(log, number);
        damage(&self.path, position, FormatError::bad(0, what))
    }

    pub(in crate::log) fn find_row(
        &self,
        log: &LogSummary,
        compare: impl Fn(&LogRow) -> Ordering,
    ) -> Result<u32, Damage> {
        self.footer
            .find_row(&self.map, log, compare)
            .map_err(|error| damage(&self.path, 0, error))
    }

    pub(in crate::log) fn is_refused(&self, frame: u32, batch: u32) -> bool {
        self.footer.is_refused(&self.map, frame, batch)
    }

    /// Whether a whole footer has the same trailer, and with it the same sections.
    pub(in crate::log) fn ends_with_trailer_of(&self, footer: &[u8]) -> bool {
        let trailer = |bytes: &[u8]| bytes.last_chunk::<TRAILER_SIZE>().copied();
        trailer(&self.map).is_some_and(|found| trailer(footer) == Some(found))
    }

    /// What the footer says of an entry's frame. Not proven.
    pub(in crate::log) fn frame_row(&self, index: u64) -> Option<FrameRow> {
        self.footer.frame(&self.map, self.frame_number(index))
    }

    /// An entry's id, as far as the footer says.
    pub(in crate::log) fn id(&self, index: u64) -> Option<EntryId> {
        self.footer.id(&self.map, index)
    }

    /// Position of an entry's frame, as far as the footer says.
    pub(in crate::log) fn position(&self, index: u64) -> u64 {
        self.footer
            .frame(&self.map, self.frame_number(index))
            .map_or(0, |row| row.position)
    }

    /// Bytes of an entry's payload, as far as the footer says.
    pub(in crate::log) fn payload_size(&self, index: u64) -> usize {
        self.footer
            .frame(&self.map, self.frame_number(index))
            .map_or(0, |row| row.payload_size as usize)
    }

    /// The header of an entry's frame, checked against the footer's rows.
    fn header(&self, index: u64) -> Result<(u64, FrameHeaderBytes, FrameHeader), Damage> {
        let number = self.frame_number(index);
        let row = self.footer.frame(&self.map, number).ok_or_else(|| {
            let error = FormatError::bad(0, format!("footer: no frame row for entry {index}"));
            damage(&self.path, self.footer.frame_row_position(number), error)
        })?;
        let bad = |error| damage(&self.path, row.position, error);
        let bytes: FrameHeaderBytes = usize::try_from(row.position)
            .ok()
            .and_then(|at| self.map.get(at..))
            .and_then(<[u8]>::first_chunk)
            .copied()
            .ok_or_else(|| bad(FormatError::bad(0, "frame: behind the end of the file")))?;
        let header = FrameHeader::decode(&bytes).map_err(bad)?;
        // The index and the payload's crc are not enough: an entry that was truncated here once, of another term, may
        // have had the same ones, and a write that the disk lost brings it back.
        let expected = self.footer.id(&self.map, index);
        let expected = expected.unwrap_or(EntryId { index, ..header.id });
        if header.id != expected {
            let found = header.id;
            let what = format!("frame of entry {expected:?} expected, of {found:?} found");
            return Err(bad(FormatError::bad(0, what)));
        }
        let of_row = (row.kind, row.payload_size, row.payload_crc);
        if (header.kind, header.payload_size, header.payload_crc) != of_row {
            let what = format!("the frame of entry {index} and its row in the footer differ");
            return Err(bad(FormatError::bad(0, what)));
        }
        Ok((row.position, bytes, header))
    }

    /// Chain crc behind an entry.
    pub(in crate::log) fn chain_crc(&self, index: u64) -> Result<u32, Damage> {
        if index == self.last() {
            return Ok(self.footer.chain_end);
        }
        self.header(index).map(|(_, _, header)| header.chain_crc)
    }

    /// An entry's frame: its position, its header, and its payload as it is in the map, which nobody has verified.
    pub(super) fn frame(&self, index: u64) -> Result<(u64, FrameHeader, &[u8]), Damage> {
        let (position, _, header) = self.header(index)?;
        let payload = usize::try_from(position).ok().and_then(|at| {
            let from = at + FRAME_HEADER_SIZE;
            self.map.get(from..from + header.payload_size as usize)
        });
        let payload = payload.ok_or_else(|| {
            let error = FormatError::bad(0, "frame: behind the end of the file");
            damage(&self.path, position, error)
        })?;
        Ok((position, header, payload))
    }

    /// An entry, copied and verified.
    pub(in crate::log) fn entry(&self, index: u64, check: Check) -> Result<Entry, Damage> {
        let (position, header, payload) = self.frame(index)?;
        let bad = |error| damage(&self.path, position, error);
        let payload = Bytes::copy_from_slice(payload);
        if self.mutation.is(Mutant::SealedReadUnchecked) {
            return Ok(Entry {
                id: header.id,
                kind: header.kind,
                payload,
            });
        }
        match check {
            Check::Payload => check_payload(header.kind, &payload, header.payload_crc),
            Check::Headers => check_payload_crc(header.kind, &payload, header.payload_crc),
        }
        .map_err(bad)?;
        Ok(Entry {
            id: header.id,
            kind: header.kind,
            payload,
        })
    }

    /// Verifies every byte: footer, chain, headers and payloads.
    pub(in crate::log) fn verify(&self) -> Result<(), Damage> {
        let whole = |error| damage(&self.path, 0, error);
        Footer::decode(&self.map).map_err(|error| damage(&self.path, 0, error))?;
        self.footer.check_rows(&self.map).map_err(whole)?;
        let mut chain = self.footer.chain_start;
        let mut expected_position = SEGMENT_HEADER_SIZE as u64;
        for index in self.base()..=self.last() {
            let (position, bytes, header) = self.header(index)?;
            let in_place =
                position == expected_position && chain_crc(chain, &bytes) == header.chain_crc;
            if !in_place {
                let error = FormatError::bad(0, format!("entry {index} breaks the chain"));
                return Err(damage(&self.path, position, error));
            }
            chain = header.chain_crc;
            expected_position = position + header.frame_size();
            self.entry(index, Check::Payload)?;
        }
        if chain != self.footer.chain_end || expected_position != self.footer.frames_end {
            let error = FormatError::bad(0, "the last frame is not the footer's last");
            return Err(damage(&self.path, expected_position, error));
        }
        Ok(())
    }
}

//! The batches of one entry of a sealed segment, one at a time: an entry that many appends were merged into is far larger
//! than what a reader of one record wants of it.
//!
//! Promises: only the headers and the batches that are asked for are copied, and the copies are verified. Must not know:
//! which batches were refused, offsets.

use std::ops::RangeInclusive;

use bytes::Bytes;

use super::{Sealed, batch_damage, damage};
use crate::error::Damage;
use crate::format::batch::BatchHeaders;
use crate::format::frame::check_payload_crc;
use crate::types::{BatchHeader, EntryKind, Record};

/// A batches entry of a sealed segment, with verified headers.
#[derive(Debug)]
pub(in crate::log) struct SealedBatches<'a> {
    sealed: &'a Sealed,
    /// Of the frame.
    position: u64,
    payload: &'a [u8],
    headers: BatchHeaders,
}

impl Sealed {
    /// The batches of an entry of that kind.
    pub(in crate::log) fn batches(&self, index: u64) -> Result<SealedBatches<'_>, Damage> {
        let (position, header, payload) = self.frame(index)?;
        let bad = |error| damage(self.path(), position, error);
        let covered = BatchHeaders::size(payload)
            .and_then(|size| payload.get(..size))
            .unwrap_or(payload);
        let covered = Bytes::copy_from_slice(covered);
        check_payload_crc(EntryKind::Batches, &covered, header.payload_crc).map_err(bad)?;
        let headers = BatchHeaders::parse(&covered, payload.len())
            .map_err(|error| batch_damage(self.path(), position, error))?;
        Ok(SealedBatches {
            sealed: self,
            position,
            payload,
            headers,
        })
    }
}

impl SealedBatches<'_> {
    /// In the order they stand.
    pub(in crate::log) fn headers(&self) -> &[BatchHeader] {
        self.headers.headers()
    }

    /// The records of a batch, numbered from `base_offset`, as far as they are in `wanted`.
    pub(in crate::log) fn records(
        &self,
        batch: usize,
        base_offset: u64,
        wanted: &RangeInclusive<u64>,
    ) -> Result<Vec<Record>, Damage> {
        let bad = |error| batch_damage(self.sealed.path(), self.position, error);
        let place = self.headers.place(batch).map_err(bad)?;
        let encoded = self.payload.get(place).unwrap_or_default();
        self.headers
            .records(batch, Bytes::copy_from_slice(encoded), base_offset, wanted)
            .map_err(bad)
    }
}

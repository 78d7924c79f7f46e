//! The payload of a batches entry: all batch headers first, then each batch's records (FORMAT.md, "Batches payload").
//!
//! Promises: encoded once, on the leader; the same bytes go to every disk and over the wire. Apply reads the headers
//! alone. One batch can be verified and read without the others. Decoding never panics, whatever the bytes, and
//! allocates no more than `limits` and the bytes at hand justify. Must not know: files, offsets' assignment, Raft.

pub(super) mod header;
mod records;
#[cfg(test)]
mod tests;

use std::ops::{Range, RangeInclusive};

use bytes::{BufMut, Bytes, BytesMut};
use lz4_flex::block;

use self::header::{HEADER_SIZE, PREAMBLE_SIZE};
use self::records::PLAIN_SIZE_MAX;
use crate::limits::{ATTRIBUTES_MAX, BATCH_RECORDS_MAX, ENTRY_BATCHES_MAX, PAYLOAD_SIZE_MAX};
use crate::types::{BatchHeader, Codec, LogId, NewRecord, Producer, Record};

const _: () = assert!(PREAMBLE_SIZE + HEADER_SIZE + PLAIN_SIZE_MAX <= PAYLOAD_SIZE_MAX);

/// Below this an LZ4 block has no room to win: its last 12 bytes are always literals, and a match costs 3.
const LZ4_PLAIN_SIZE_MIN: usize = 64;
/// An LZ4 block is kept when it saves this part of the records: 6 %. What stands between incompressible bodies always
/// shrinks a little, and for that little every reader would decompress and copy what it could have sliced.
const LZ4_GAIN_MIN_PART: usize = 16;

/// A batch whose records are encoded, before it is joined with others into an entry. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EncodedBatch {
    /// Complete but for `append_time`, which [`join`] sets.
    pub header: BatchHeader,
    /// The encoded records that `header.crc` covers.
    pub records: Bytes,
}

/// Bytes that are not a batches payload, or a batch whose crc does not match.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {position} of the payload: {what}")]
pub struct BadBatch {
    /// Position in the payload.
    pub position: u64,
    /// What was expected and found.
    pub what: String,
}

impl BadBatch {
    fn at(position: usize, what: String) -> Self {
        Self {
            position: position as u64,
            what,
        }
    }
}

impl EncodedBatch {
    /// Encodes records (1 or more, within `limits`; the caller has checked), LZ4 when that makes them smaller by
    /// a sixteenth or more.
    ///
    /// # Panics
    /// When there is no record, or more or larger ones than `limits` allows: the caller did not check.
    pub fn encode(
        log: LogId,
        producer: Option<Producer>,
        expected_offset: Option<u64>,
        records: &[NewRecord],
    ) -> Self {
        assert!(!records.is_empty(), "a batch has a record");
        assert!(
            records.len() <= BATCH_RECORDS_MAX,
            "the caller checks BATCH_RECORDS_MAX"
        );
        debug_assert!(
            records
                .iter()
                .all(|record| record.attributes.len() <= ATTRIBUTES_MAX),
            "the caller checks ATTRIBUTES_MAX"
        );
        let timestamps = records.iter().map(|record| record.timestamp);
        let (timestamp_min, timestamp_max) = timestamps
            .fold((i64::MAX, i64::MIN), |(min, max), timestamp| {
                (min.min(timestamp), max.max(timestamp))
            });
        let plain = records::encode(records, timestamp_min);
        let plain_size = plain.len();
        let (codec, encoded) = match compress(&plain) {
            Some(block) => (Codec::Lz4, block),
            None => (Codec::Plain, plain),
        };
        let header = BatchHeader {
            log,
            records: size_u32(records.len()),
            producer,
            expected_offset,
            append_time: 0,
            timestamp_min,
            timestamp_max,
            codec,
            encoded_size: size_u32(encoded.len()),
            plain_size: size_u32(plain_size),
            crc: crc32fast::hash(&encoded),
        };
        Self {
            header,
            records: Bytes::from(encoded),
        }
    }

    /// Bytes that it adds to an entry's payload.
    pub fn size(&self) -> usize {
        HEADER_SIZE + self.records.len()
    }
}

/// The payload of one entry that carries these batches (1 or more), each stamped with `append_time`.
///
/// # Panics
/// When there is no batch, or more of them than `limits` allows in one entry: that is a bug of the caller.
pub fn join(batches: &[EncodedBatch], append_time: i64) -> Bytes {
    assert!(!batches.is_empty(), "an entry has a batch");
    assert!(
        batches.len() <= ENTRY_BATCHES_MAX,
        "the caller bounds an entry's batches"
    );
    let size = PREAMBLE_SIZE + batches.iter().map(EncodedBatch::size).sum::<usize>();
    assert!(
        size <= PAYLOAD_SIZE_MAX,
        "the caller bounds an entry's bytes"
    );
    let mut payload = BytesMut::with_capacity(size);
    payload.put_slice(&header::encode_preamble(size_u32(batches.len())));
    for batch in batches {
        payload.put_slice(&header::encode(&BatchHeader {
            append_time,
            ..batch.header
        }));
    }
    for batch in batches {
        payload.put_slice(&batch.records);
    }
    payload.freeze()
}

/// The headers of a batches payload, parsed and checked, and where in it each batch's records stand.
#[derive(Debug, Clone)]
pub struct BatchHeaders {
    headers: Vec<BatchHeader>,
    /// Where in the payload each batch's records begin; proven at parse to end inside of it.
    positions: Vec<usize>,
}

impl BatchHeaders {
    /// Bytes of preamble and headers, which are all that the payload crc covers, as far as a preamble that nobody has
    /// verified yet tells. `None` when there is none.
    pub fn size(payload: &[u8]) -> Option<usize> {
        let (count, _) = header::parse_preamble(payload).ok()?;
        Some(PREAMBLE_SIZE + count * HEADER_SIZE)
    }

    /// Parses the headers, with or without the records behind them, of a payload of `payload_size` bytes, whose crc has
    /// been verified by whoever read it.
    pub fn parse(bytes: &[u8], payload_size: usize) -> Result<Self, BadBatch> {
        let (count, mut rest) = header::parse_preamble(bytes)?;
        let mut headers = Vec::with_capacity(count);
        let mut positions = Vec::with_capacity(count);
        // The preamble is accepted only when there are bytes for so many headers.
        let mut position = PREAMBLE_SIZE + count * HEADER_SIZE;
        for number in 0..count {
            let at = PREAMBLE_SIZE + number * HEADER_SIZE;
            let (bytes, behind) = rest
                .split_first_chunk()
                .ok_or_else(|| BadBatch::at(at, "the headers are cut short".to_owned()))?;
            let header = header::parse(bytes, at)?;
            positions.push(position);
            position += header.encoded_size as usize;
            headers.push(header);
            rest = behind;
        }
        if position != payload_size {
            return Err(BadBatch::at(
                payload_size.min(position),
                format!("the headers say {position} bytes, the payload has {payload_size}"),
            ));
        }
        Ok(Self { headers, positions })
    }

    /// In the order they stand.
    pub fn headers(&self) -> &[BatchHeader] {
        &self.headers
    }

    /// Where in the payload the records of batch number `batch` stand.
    pub fn place(&self, batch: usize) -> Result<Range<usize>, BadBatch> {
        let (Some(header), Some(&position)) = (self.headers.get(batch), self.positions.get(batch))
        else {
            let count = self.headers.len();
            return Err(BadBatch::at(
                0,
                format!("batch {batch} was asked for, there are {count}"),
            ));
        };
        Ok(position..position + header.encoded_size as usize)
    }

    /// The records of batch number `batch`, from the bytes at its [`place`](Self::place): verifies their crc, decodes
    /// them, and numbers them from `base_offset`. Only those whose offsets are in `wanted` are returned; all are verified.
    ///
    /// The bodies share one buffer: these bytes, or what they decompressed to.
    pub fn records(
        &self,
        batch: usize,
        encoded: Bytes,
        base_offset: u64,
        wanted: &RangeInclusive<u64>,
    ) -> Result<Vec<Record>, BadBatch> {
        let place = self.place(batch)?;
        let bad = |what| BadBatch::at(place.start, format!("batch {batch}: {what}"));
        let header = self.headers.get(batch).expect("it has a place");
        let crc = crc32fast::hash(&encoded);
        if crc != header.crc {
            let expected = header.crc;
            return Err(bad(format!(
                "its records have crc {crc:#010x}, not {expected:#010x}"
            )));
        }
        let plain = match header.codec {
            Codec::Plain => encoded,
            Codec::Lz4 => decompress(&encoded, header.plain_size as usize).map_err(bad)?,
        };
        records::decode(&plain, header, base_offset, wanted).map_err(bad)
    }
}

/// A batches payload whose headers were parsed and checked; the records are not, until they are asked for.
#[derive(Debug, Clone)]
pub struct Batches {
    payload: Bytes,
    parsed: BatchHeaders,
}

impl Batches {
    /// Parses the headers. The payload's own crc has been verified by whoever read it.
    pub fn parse(payload: Bytes) -> Result<Self, BadBatch> {
        let parsed = BatchHeaders::parse(&payload, payload.len())?;
        Ok(Self { payload, parsed })
    }

    /// In the order they stand.
    pub fn headers(&self) -> &[BatchHeader] {
        self.parsed.headers()
    }

    /// Verifies the crc of batch number `batch`, decodes its records and numbers them from `base_offset`.
    ///
    /// The bodies share one buffer: the payload itself, or what the batch decompressed to.
    pub fn records(&self, batch: usize, base_offset: u64) -> Result<Vec<Record>, BadBatch> {
        self.records_within(batch, base_offset, &(0..=u64::MAX))
    }

    /// [`Batches::records`], but only those whose offsets are in `wanted`. The whole batch is verified all the same.
    pub fn records_within(
        &self,
        batch: usize,
        base_offset: u64,
        wanted: &RangeInclusive<u64>,
    ) -> Result<Vec<Record>, BadBatch> {
        let encoded = self.payload.slice(self.parsed.place(batch)?);
        self.parsed.records(batch, encoded, base_offset, wanted)
    }
}

/// An LZ4 block of these bytes, if it is enough smaller than they are.
fn compress(plain: &[u8]) -> Option<Vec<u8>> {
    if plain.len() < LZ4_PLAIN_SIZE_MIN {
        return None;
    }
    let mut encoded = vec![0; block::get_maximum_output_size(plain.len())];
    let size = block::compress_into(plain, &mut encoded).expect("the output has its maximum size");
    if size > plain.len() - plain.len().div_ceil(LZ4_GAIN_MIN_PART) {
        return None;
    }
    encoded.truncate(size);
    // It waits in a queue that counts bytes: what it holds must be what it is counted for.
    encoded.shrink_to_fit();
    Some(encoded)
}

/// The bytes of an LZ4 block, which must be exactly so many; `header::parse` has bounded `plain_size`.
fn decompress(encoded: &[u8], plain_size: usize) -> Result<Bytes, String> {
    let mut plain = vec![0; plain_size];
    match block::decompress_into(encoded, &mut plain) {
        Ok(size) if size == plain_size => Ok(Bytes::from(plain)),
        Ok(size) => Err(format!("decompressed to {size} bytes, not {plain_size}")),
        Err(error) => Err(format!("not an LZ4 block of {plain_size} bytes: {error}")),
    }
}

fn size_u32(size: usize) -> u32 {
    u32::try_from(size).expect("every size of a payload is bounded by PAYLOAD_SIZE_MAX")
}

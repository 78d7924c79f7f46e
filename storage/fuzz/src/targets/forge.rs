//! Sets the crcs of files right, as a forger would: so that what lies behind them is reached.
//!
//! Promises: bytes that were whole stay as they are. Must not know: what is then made of them.

use bytes::Bytes;
use inkstone_storage::format::frame::{
    ALIGNMENT, FRAME_HEADER_SIZE, FrameHeaderBytes, SyncStamp, chain_crc, frame_size, payload_crc,
    put_stamp, stamp_seed,
};
use inkstone_storage::format::segment_footer::{Footer, TRAILER_SIZE};
use inkstone_storage::format::segment_header::SEGMENT_HEADER_SIZE;
use inkstone_storage::types::EntryKind;

use super::{footer, frame, set_crc, u32_at};

/// A file that its name says what is.
pub(crate) fn file(name: &str, bytes: &mut Vec<u8>) {
    match name {
        "hard-state" | "watermark" => {
            for slot in bytes.chunks_mut(4096) {
                set_crc(slot, 0, 124);
            }
        }
        name if name.contains(".seg") => segment(bytes),
        _ => checkpoint(bytes),
    }
}

fn checkpoint(bytes: &mut [u8]) {
    if let Some(body) = bytes.get(72..) {
        let (size, crc) = (body.len() as u64, crc32fast::hash(body));
        bytes[56..64].copy_from_slice(&size.to_le_bytes());
        bytes[64..68].copy_from_slice(&crc.to_le_bytes());
        set_crc(bytes, 0, 68);
    }
}

fn segment(bytes: &mut Vec<u8>) {
    set_crc(bytes, 0, SEGMENT_HEADER_SIZE - 4);
    let mut chain = u32::try_from(u32_at(bytes, 40)).unwrap_or_default();
    let mut cluster = [0; 16];
    cluster.copy_from_slice(bytes.get(16..32).unwrap_or(&[0; 16]));
    let seed = stamp_seed(cluster);
    let mut at = SEGMENT_HEADER_SIZE;
    while let Some((size, after)) = one_frame(bytes, at, chain, seed) {
        at += size;
        chain = after;
    }
    if Footer::is_present(bytes) && bytes.len() >= SEGMENT_HEADER_SIZE + TRAILER_SIZE {
        *bytes = footer::forge_rows(footer::forge(bytes));
    }
}

/// The size of the frame that begins there, and the chain crc behind it; `None` when none does.
fn one_frame(bytes: &mut [u8], at: usize, chain: u32, seed: u32) -> Option<(usize, u32)> {
    let rest = bytes.get_mut(at..)?;
    let mut header: FrameHeaderBytes = *rest.first_chunk()?;
    let kind = EntryKind::from_number(header[2]).filter(|_| &header[..2] == b"IK")?;
    let payload_size = u32_at(&header, 8);
    let payload = rest.get_mut(FRAME_HEADER_SIZE..)?.get_mut(..payload_size)?;
    if kind == EntryKind::Batches {
        let forged = frame::forge_batches(&Bytes::copy_from_slice(payload));
        payload.copy_from_slice(&forged);
    }
    header[12..16].copy_from_slice(&payload_crc(kind, payload).to_le_bytes());
    let chain = chain_crc(chain, &header);
    header[40..44].copy_from_slice(&chain.to_le_bytes());
    set_crc(&mut header, 0, 44);
    let group = u64::from_le_bytes(header[48..56].try_into().expect("8 bytes"));
    let start = u32_at(&header, 56) as u64 * ALIGNMENT;
    put_stamp(&mut header, SyncStamp { group, start }, seed);
    rest[..FRAME_HEADER_SIZE].copy_from_slice(&header);
    let size = usize::try_from(frame_size(u32::try_from(payload_size).ok()?)).ok()?;
    Some((size, chain))
}

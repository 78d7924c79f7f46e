//! The bytes of a simulated file, in blocks that clones share until one of them is written.
//!
//! Promises: what was never written reads as zeros; a clone costs a pointer for each block. Must not know: names,
//! what is durable.

use std::iter;
use std::sync::Arc;

/// Bytes of a block: what a file takes from the disk's capacity comes in these.
pub(super) const BLOCK_SIZE: usize = 4096;

static ZEROS: [u8; BLOCK_SIZE] = [0; BLOCK_SIZE];

#[derive(Debug, Clone)]
enum Block {
    /// Takes no space.
    Hole,
    /// Takes space, reads as zeros.
    Reserved,
    Written(Arc<[u8; BLOCK_SIZE]>),
}

impl Block {
    fn bytes(&self) -> &[u8; BLOCK_SIZE] {
        match self {
            Self::Hole | Self::Reserved => &ZEROS,
            Self::Written(bytes) => bytes,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8; BLOCK_SIZE] {
        if !matches!(self, Self::Written(_)) {
            *self = Self::Written(Arc::new(ZEROS));
        }
        match self {
            Self::Written(bytes) => Arc::make_mut(bytes),
            Self::Hole | Self::Reserved => unreachable!("written above"),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Written(one), Self::Written(two)) => Arc::ptr_eq(one, two) || one == two,
            (one, two) => one.bytes() == two.bytes(),
        }
    }
}

/// A file's bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    size: u64,
    blocks: Vec<Block>,
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        let none = Block::Hole;
        let count = self.blocks.len().max(other.blocks.len());
        self.size == other.size
            && (0..count).all(|number| {
                let one = self.blocks.get(number).unwrap_or(&none);
                one.is_same(other.blocks.get(number).unwrap_or(&none))
            })
    }
}

/// A part of a range that lies in one block.
struct Piece {
    block: usize,
    at: usize,
    size: usize,
}

/// The blocks of a range of bytes, and the part of each.
fn pieces(position: u64, size: usize) -> impl Iterator<Item = Piece> {
    let mut position = usize::try_from(position).expect("a simulated file fits into memory");
    let mut left = size;
    iter::from_fn(move || {
        let at = position % BLOCK_SIZE;
        let piece = Piece {
            block: position / BLOCK_SIZE,
            at,
            size: left.min(BLOCK_SIZE - at),
        };
        position += piece.size;
        left -= piece.size;
        (piece.size > 0).then_some(piece)
    })
}

fn blocks_of(size: u64) -> usize {
    usize::try_from(size.div_ceil(BLOCK_SIZE as u64)).expect("a simulated file fits into memory")
}

impl Content {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        content.write(bytes, 0);
        content
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Reads whatever stands there: zeros behind the end.
    pub(super) fn read(&self, buffer: &mut [u8], position: u64) {
        let mut rest = buffer;
        for piece in pieces(position, rest.len()) {
            let (part, behind) = rest.split_at_mut(piece.size);
            let block = self.blocks.get(piece.block).map_or(&ZEROS, Block::bytes);
            let from = block.get(piece.at..).unwrap_or_default();
            part.copy_from_slice(from.get(..piece.size).unwrap_or_default());
            rest = behind;
        }
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let size = usize::try_from(self.size).expect("a simulated file fits into memory");
        let mut bytes = vec![0; size];
        self.read(&mut bytes, 0);
        bytes
    }

    /// Writes, and makes the file longer when it ends before.
    pub(super) fn write(&mut self, bytes: &[u8], position: u64) {
        if bytes.is_empty() {
            return;
        }
        self.overlay(bytes, position);
        self.size = self.size.max(position + bytes.len() as u64);
    }

    /// Writes bytes where they stand on the disk, whatever the file's size is: behind its end they are not seen.
    pub(super) fn overlay(&mut self, bytes: &[u8], position: u64) {
        let mut rest = bytes;
        for piece in pieces(position, bytes.len()) {
            let (part, behind) = rest.split_at(piece.size);
            let block = self.block_mut(piece.block).bytes_mut();
            let into = block.get_mut(piece.at..piece.at + piece.size);
            into.expect("a piece lies in its block")
                .copy_from_slice(part);
            rest = behind;
        }
    }

    fn block_mut(&mut self, number: usize) -> &mut Block {
        if self.blocks.len() <= number {
            self.blocks.resize(number + 1, Block::Hole);
        }
        self.blocks.get_mut(number).expect("made above")
    }

    /// Cuts the file, or makes it longer with a hole.
    pub(super) fn set_size(&mut self, size: u64) {
        self.clear_from(size);
        self.size = size;
    }

    /// Makes zeros of everything from `position` on, and gives the space back.
    pub(super) fn clear_from(&mut self, position: u64) {
        let kept = blocks_of(position);
        self.blocks.truncate(kept);
        let within = usize::try_from(position % BLOCK_SIZE as u64).expect("less than a block");
        if within > 0
            && self.blocks.len() == kept
            && let Some(block @ Block::Written(_)) = self.blocks.last_mut()
            && let Some(rest) = block.bytes_mut().get_mut(within..)
        {
            rest.fill(0);
        }
    }

    /// Takes space up to `size`, and makes the file at least so long.
    pub(super) fn reserve(&mut self, size: u64) {
        let count = blocks_of(size);
        if self.blocks.len() < count {
            self.blocks.resize(count, Block::Hole);
        }
        for block in self.blocks.iter_mut().take(count) {
            if matches!(block, Block::Hole) {
                *block = Block::Reserved;
            }
        }
        self.size = self.size.max(size);
    }

    /// Bytes of the disk that it takes.
    pub(super) fn used(&self) -> u64 {
        let taken = |block: &&Block| !matches!(block, Block::Hole);
        (self.blocks.iter().filter(taken).count() * BLOCK_SIZE) as u64
    }

    /// How many of `size` bytes at `position` can be written when `free` bytes of the disk are left.
    pub(super) fn writable(&self, position: u64, size: usize, free: u64) -> usize {
        let mut free = free;
        let mut writable = 0;
        for piece in pieces(position, size) {
            let block = self.blocks.get(piece.block);
            if block.is_none_or(|block| matches!(block, Block::Hole)) {
                match free.checked_sub(BLOCK_SIZE as u64) {
                    Some(left) => free = left,
                    None => break,
                }
            }
            writable += piece.size;
        }
        writable
    }

    /// Whether space up to `size` can be taken when `free` bytes of the disk are left.
    pub(super) fn can_reserve(&self, size: u64, free: u64) -> bool {
        let count = blocks_of(size);
        let holes = self.blocks.iter().take(count);
        let holes = holes.filter(|block| matches!(block, Block::Hole)).count();
        let missing = holes + count.saturating_sub(self.blocks.len());
        (missing * BLOCK_SIZE) as u64 <= free
    }
}

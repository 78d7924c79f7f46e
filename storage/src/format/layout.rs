//! Fields at fixed places in fixed-size bytes, for the hand-laid layouts of this folder.
//!
//! Promises: no panic that bytes from a disk could cause: places and sizes are constants of the layout, and the caller
//! has the whole of it at hand.

/// The field at `offset`.
#[inline]
pub(crate) fn get<const SIZE: usize>(bytes: &[u8], offset: usize) -> [u8; SIZE] {
    let field = bytes.get(offset..).and_then(<[u8]>::first_chunk);
    *field.expect("the layout's constants lie inside of its size")
}

/// Writes the field at `offset`.
#[inline]
pub(crate) fn put<const SIZE: usize>(bytes: &mut [u8], offset: usize, value: [u8; SIZE]) {
    let field = bytes.get_mut(offset..).and_then(<[u8]>::first_chunk_mut);
    *field.expect("the layout's constants lie inside of its size") = value;
}

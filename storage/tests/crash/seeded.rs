//! Numbers and bytes that follow from a seed.

/// `SplitMix64`.
#[derive(Debug, Clone)]
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..bound`; 0 when there is none.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// Bytes that LZ4 cannot make smaller.
    pub(crate) fn bytes(&mut self, size: u64) -> Vec<u8> {
        let words = (0..size.div_ceil(8)).flat_map(|_| self.next().to_le_bytes());
        words
            .take(usize::try_from(size).expect("a few bytes"))
            .collect()
    }
}

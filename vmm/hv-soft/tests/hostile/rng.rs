//! Random numbers from a seed (splitmix64), and the values that are likely to hurt.

/// A stream of random numbers.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut rng = Rng(seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        rng.0 = rng.word();
        rng
    }

    pub(crate) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.word() as u8
    }

    /// A number below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.word() % bound
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.word().to_le_bytes()[..chunk.len()]);
        }
    }

    /// A number near an edge of something: RAM, device holes, canonical halves, integer widths.
    pub(crate) fn edge(&mut self) -> u64 {
        const EDGES: [u64; 20] = [
            0,
            0x1_0000,
            0x2_0000,
            0x4_0000,
            0xd000_0000,
            0xfec0_0000,
            0xfee0_0000,
            0xffff_ffff,
            0x1_0000_0000,
            0x1_0000_4000,
            0xff_ffff_f000,
            0x100_0000_0000,
            0xf_ffff_ffff_f000,
            0x7fff_ffff_ffff,
            0x8000_0000_0000,
            0xffff_8000_0000_0000,
            0x7fff_ffff_ffff_ffff,
            0x8000_0000_0000_0000,
            u64::MAX,
            0x4b56_4d00,
        ];
        match self.below(8) {
            0 => self.word(),
            1 => self.below(0x400),
            2 => 1 << self.below(64),
            3 => self.below(0x4_0000),
            _ => self.pick(&EDGES).wrapping_add(self.below(0x41)).wrapping_sub(0x20),
        }
    }
}

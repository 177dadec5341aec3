//! Randomness for RDRAND and RDSEED, from the host's generator.

use std::fs::File;
use std::io::Read;

/// Buffered host randomness. The file is opened when the machine is made, before the vmm locks itself in.
pub(crate) struct Random {
    file: Option<File>,
    pool: [u8; 256],
    used: usize,
}

impl Random {
    pub(crate) fn new() -> Self {
        Random { file: File::open("/dev/urandom").ok(), pool: [0; 256], used: 256 }
    }

    /// 64 random bits; nothing where the host gives none.
    pub(crate) fn next(&mut self) -> Option<u64> {
        if self.used + 8 > self.pool.len() {
            self.file.as_mut()?.read_exact(&mut self.pool).ok()?;
            self.used = 0;
        }
        let bytes = self.pool.get_mut(self.used..self.used + 8)?;
        let v = u64::from_le_bytes(bytes.try_into().ok()?);
        bytes.fill(0);
        self.used += 8;
        Some(v)
    }
}

//! Inode numbers for the guest, which sees one file system where the host may have many.

use std::collections::HashMap;

/// A host's inode number takes so many bits; the rest tell host file systems apart.
const INO_BITS: u32 = 48;
/// Number of the last file system that gets a number of its own.
const LAST: u64 = (1 << (u64::BITS - INO_BITS)) - 1;

/// The file systems that were seen, numbered.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    indices: HashMap<u64, u64>,
}

impl Devices {
    /// The guest's number of inode `ino` on device `dev`. On the first file system seen it is the host's own number;
    /// elsewhere two files may share a number only where the host's numbers have more than 48 bits.
    pub(crate) fn ino(&mut self, dev: u64, ino: u64) -> u64 {
        let count = u64::try_from(self.indices.len()).unwrap_or(LAST);
        let index = match self.indices.get(&dev) {
            Some(index) => *index,
            None if count >= LAST => LAST,
            None => *self.indices.entry(dev).or_insert(count),
        };
        ino ^ (index << INO_BITS)
    }
}

//! The bytes that cases of a batch find in memory.

use super::address::in_window;
use crate::layout::WINDOW_LEN;
use crate::native::{POOL, Poke};

/// Initial memory contents of a batch; cleared for the next one.
#[derive(Debug, Default)]
pub struct Pool {
    bytes: Vec<u8>,
}

impl Pool {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes of `poke`.
    pub fn get(&self, poke: &Poke) -> &[u8] {
        &self.bytes[poke.pool as usize..(poke.pool + poke.len) as usize]
    }

    /// Asks for `bytes` at `address`, as far as that is in the window.
    pub(super) fn poke(&mut self, address: u64, bytes: &[u8]) -> Poke {
        let Some(offset) = in_window(address) else { return Poke::default() };
        let len = bytes.len().min(WINDOW_LEN - offset);
        if self.bytes.len() + len > POOL {
            return Poke::default();
        }
        let pool = self.bytes.len() as u32;
        self.bytes.extend_from_slice(&bytes[..len]);
        Poke { offset: offset as u32, len: len as u32, pool }
    }
}

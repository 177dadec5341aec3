//! Stores to pages that hold decoded code.
//!
//! Such a store is done like any other. If it changes bytes that code was decoded from, the change is noted, and the
//! threaded code is left after the instruction.

use crate::cpu::Cpu;
use crate::mem::{HostPage, OFFSET};

/// A byte of RAM.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spot {
    pub(crate) page: HostPage,
    /// Number of the page among all pages of RAM.
    pub(crate) number: usize,
    /// Offset in the page.
    pub(crate) offset: u64,
}

impl Spot {
    /// Loads 1 to 8 bytes that do not leave the page.
    pub(crate) fn load(self, len: u64) -> u64 {
        let mut bytes = [0; 8];
        self.page.copy_to(self.offset, &mut bytes[..len.min(8) as usize]);
        u64::from_le_bytes(bytes)
    }

    /// Stores 1 to 8 bytes that do not leave the page.
    #[inline(always)]
    pub(crate) fn store(self, len: u64, value: u64) {
        let Spot { page, offset, .. } = self;
        match len {
            8 => page.store(offset, value),
            4 => page.store(offset, value as u32),
            2 => page.store(offset, value as u16),
            _ => (0..len).for_each(|i| page.store(offset + i, (value >> (8 * i)) as u8)),
        }
    }
}

impl Cpu {
    /// The host page of `va` and its number, if `len` bytes there lie in a page that is entered for guarded writes and
    /// no code was decoded from them.
    #[inline(always)]
    pub(crate) fn beside_code(&mut self, va: u64, len: u64) -> Option<(HostPage, usize)> {
        let (page, number) = self.tlb.guarded(va, len)?;
        if self.code_map.touches(number, va & OFFSET, len) {
            return None;
        }
        self.count_guarded(va, number);
        Some((page, number))
    }

    /// Stores 1 to 8 bytes that do not leave their page, and notes it if that changes code.
    pub(crate) fn store_asking(&mut self, spot: Spot, len: u64, value: u64) {
        if self.code_map.touches(spot.number, spot.offset, len) {
            let old = spot.load(len);
            if (old ^ value) << (64 - 8 * len.clamp(1, 8)) != 0 {
                self.code_map.changed(spot.number, spot.offset, len);
            }
        }
        spot.store(len, value);
    }

    /// A page without code that is written again and again need not be watched.
    #[inline(always)]
    fn count_guarded(&mut self, va: u64, number: usize) {
        if !self.code_map.holds_code(number) && self.tlb.count_idle(va) {
            self.code_map.watch(number, false);
        }
    }
}

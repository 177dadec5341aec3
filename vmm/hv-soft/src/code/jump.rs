//! Jump targets to decoded blocks, by virtual address.

use crate::code::NO_BLOCK;
use crate::mem::PAGE;

/// Entries; a power of two.
const SIZE: usize = 16384;
/// Bits of the page filter.
const PAGES: usize = 4096;
/// User and supervisor code never share an entry: this bit of the (canonical) address tells them apart.
const USER: u64 = 1 << 62;
/// Never the tag of an entry in use: not canonical even with [`USER`] flipped.
const EMPTY: u64 = 1 << 55;

#[derive(Clone, Copy)]
struct Entry {
    tag: u64,
    block: u32,
}

/// Direct-mapped cache; dropped as the TLB is.
pub(crate) struct JumpCache {
    entries: [Entry; SIZE],
    /// What is flipped in addresses at the current privilege level.
    mode: u64,
    /// One bit for each entry that a CR3 load drops.
    local: [u64; SIZE / 64],
    /// Which pages (number modulo 4096) have entries, so that INVLPG of other pages costs nothing.
    pages: [u64; PAGES / 64],
}

#[inline(always)]
fn index(rip: u64) -> usize {
    ((rip ^ rip >> 12) as usize) & (SIZE - 1)
}

impl JumpCache {
    pub(crate) fn new() -> Self {
        JumpCache {
            entries: [Entry { tag: EMPTY, block: NO_BLOCK }; SIZE],
            mode: 0,
            local: [0; SIZE / 64],
            pages: [0; PAGES / 64],
        }
    }

    /// Chooses whose code the addresses mean.
    pub(crate) fn set_user(&mut self, user: bool) {
        self.mode = u64::from(user) * USER;
    }

    /// The block at `rip`, or [`NO_BLOCK`].
    #[inline(always)]
    pub(crate) fn get(&self, rip: u64) -> u32 {
        let e = &self.entries[index(rip)];
        if e.tag == rip ^ self.mode { e.block } else { NO_BLOCK }
    }

    /// Enters a block.
    pub(crate) fn put(&mut self, rip: u64, block: u32, global: bool) {
        let i = index(rip);
        self.entries[i] = Entry { tag: rip ^ self.mode, block };
        let page = (rip / PAGE) as usize & (PAGES - 1);
        self.pages[page / 64] |= 1 << (page % 64);
        if !global {
            self.local[i / 64] |= 1 << (i % 64);
        }
    }

    /// Drops one entry.
    pub(crate) fn forget(&mut self, rip: u64) {
        self.entries[index(rip)].tag = EMPTY;
    }

    /// Drops everything.
    pub(crate) fn flush_all(&mut self) {
        self.entries.fill(Entry { tag: EMPTY, block: NO_BLOCK });
        self.local = [0; SIZE / 64];
        self.pages = [0; PAGES / 64];
    }

    /// Drops what a CR3 load drops.
    pub(crate) fn flush_local(&mut self) {
        for (w, bits) in self.local.iter_mut().enumerate() {
            while *bits != 0 {
                self.entries[w * 64 + bits.trailing_zeros() as usize].tag = EMPTY;
                *bits &= *bits - 1;
            }
        }
    }

    /// Drops at least the entries of one page.
    pub(crate) fn flush_page(&mut self, va: u64) {
        let page = (va / PAGE) as usize & (PAGES - 1);
        if self.pages[page / 64] & 1 << (page % 64) != 0 {
            self.flush_all();
        }
    }
}

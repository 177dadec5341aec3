//! Jump targets to decoded blocks, by virtual address.

use crate::code::NO_BLOCK;
use crate::code::block::keyed;
use crate::mem::{OFFSET, PAGE};

/// Entries; a power of two.
const SIZE: usize = 16384;
/// Bits of the page filter.
const PAGES: usize = 65536;
/// User and supervisor code never share an entry: this bit of the (canonical) address tells them apart.
const USER: u64 = 1 << 62;
/// Flipped in the tag of an entry as long as its translation holds. Without it the tag is canonical, as no address that is
/// looked for is then, so nothing finds a stale entry but [`JumpCache::recall`].
const FRESH: u64 = 1 << 55;
/// Bit 54 and, in an entry that is stale, bit 55 of a tag are equal.
const BELOW_FRESH: u64 = 1 << 54;
/// Set in keys of links between pages while user code runs, for which there are none.
const NO_LINKS: u64 = 1;
/// What is added to the keys when translations of global code change, so that no older link holds.
const KEY_STEP: u64 = 2;
/// The tag of an entry that was never used: a stale one.
const EMPTY: u64 = 0;

/// Two words: the tag; the block's complement, and above it the number of the block's page among all pages of RAM. So zeroes
/// are no entry.
#[derive(Clone, Copy)]
struct Entry {
    tag: u64,
    block: u32,
    page: u32,
}

impl Entry {
    #[inline(always)]
    fn of([tag, rest]: [u64; 2]) -> Self {
        Entry { tag, block: !(rest as u32), page: (rest >> 32) as u32 }
    }

    #[inline(always)]
    fn words(self) -> [u64; 2] {
        [self.tag, u64::from(!self.block) | u64::from(self.page) << 32]
    }
}

fn make_stale([tag, _]: &mut [u64; 2]) {
    if (*tag & FRESH == 0) != (*tag & BELOW_FRESH == 0) {
        *tag ^= FRESH;
    }
}

/// Calls whose returns are foreseen; a power of two.
const RETURNS: usize = 16;

/// Where a call comes back to.
#[derive(Clone, Copy)]
pub(crate) struct Return {
    /// Tag of its address.
    tag: u64,
    /// The block there, if the call's block is linked to it.
    pub(crate) block: u32,
    /// Index of the end of the call's block.
    pub(crate) end: u32,
}

const NO_RETURN: Return = Return { tag: EMPTY, block: NO_BLOCK, end: NO_BLOCK };

/// Direct-mapped cache. When the TLB is flushed, entries are not lost: they only have to be looked at again.
pub(crate) struct JumpCache {
    /// [`Entry`]s, which begin as zeroes: memory that is not used takes none.
    entries: Box<[[u64; 2]; SIZE]>,
    /// Whether there is an entry.
    used: bool,
    /// What is flipped in addresses at the current privilege level.
    mode: u64,
    /// One bit for each entry that a CR3 load makes stale.
    local: [u64; SIZE / 64],
    /// The last calls, and the number of the latest one.
    returns: [Return; RETURNS],
    calls: usize,
    /// Together with the address of a page, the key of links from there to other pages. Never zero.
    key: u64,
    /// Which pages (by the low bits of their number) have entries, so that INVLPG of other pages costs nothing.
    pages: [u64; PAGES / 64],
}

#[inline(always)]
fn index(rip: u64) -> usize {
    ((rip ^ rip >> 12) as usize) & (SIZE - 1)
}

impl JumpCache {
    pub(crate) fn new() -> Self {
        // Through a vector: its zeroes are the allocator's, and are not written.
        let entries = <Box<[[u64; 2]; SIZE]>>::try_from(vec![[0; 2]; SIZE]);
        JumpCache {
            entries: entries.unwrap_or_else(|_| Box::new([[0; 2]; SIZE])),
            used: false,
            mode: FRESH,
            local: [0; SIZE / 64],
            returns: [NO_RETURN; RETURNS],
            calls: 0,
            key: KEY_STEP,
            pages: [0; PAGES / 64],
        }
    }

    /// Chooses whose code the addresses mean.
    pub(crate) fn set_user(&mut self, user: bool) {
        self.mode = FRESH | (u64::from(user) * USER);
        self.key = self.key & !NO_LINKS | (u64::from(user) * NO_LINKS);
    }

    #[inline(always)]
    fn entry(&self, rip: u64) -> Entry {
        Entry::of(self.entries[index(rip)])
    }

    /// The block at `rip`, or [`NO_BLOCK`].
    #[inline(always)]
    pub(crate) fn get(&self, rip: u64) -> u32 {
        let e = self.entry(rip);
        if e.tag == rip ^ self.mode { e.block } else { NO_BLOCK }
    }

    /// The block that was at `rip` before translations were dropped, if that was in RAM page `page` and no other block
    /// took its entry since.
    #[inline]
    pub(crate) fn recall(&self, rip: u64, page: usize) -> Option<u32> {
        let e = self.entry(rip);
        (e.tag == rip ^ self.mode ^ FRESH && e.page as usize == page && e.block != NO_BLOCK).then_some(e.block)
    }

    /// Notes a call that comes back to `rip`.
    #[inline(always)]
    pub(crate) fn call(&mut self, rip: u64, block: u32, end: u32) {
        self.calls = self.calls.wrapping_add(1);
        self.returns[self.calls % RETURNS] = Return { tag: rip ^ self.mode, block, end };
    }

    /// The call that comes back to `rip`, most often the latest one.
    #[inline(always)]
    pub(crate) fn come_back(&mut self, rip: u64) -> Option<Return> {
        let last = self.returns[self.calls % RETURNS];
        if last.tag != rip ^ self.mode {
            return self.come_back_further(rip);
        }
        self.calls = self.calls.wrapping_sub(1);
        Some(last)
    }

    /// Looks further back: calls and returns that took another way were not noted.
    #[inline(never)]
    fn come_back_further(&mut self, rip: u64) -> Option<Return> {
        let tag = rip ^ self.mode;
        let back = (1..RETURNS).find(|&n| self.returns[self.calls.wrapping_sub(n) % RETURNS].tag == tag)?;
        self.calls = self.calls.wrapping_sub(back + 1);
        Some(self.returns[self.calls.wrapping_add(1) % RETURNS])
    }

    /// The key of links from the page at `page` to others. It changes whenever global code may be found elsewhere.
    #[inline(always)]
    pub(crate) fn key(&self, page: u64) -> u64 {
        page | self.key
    }

    /// Whether there may be links under a key: from pages of the supervisor whose addresses are short.
    #[inline(always)]
    pub(crate) fn linkable(key: u64) -> bool {
        key & NO_LINKS == 0 && keyed(key)
    }

    /// Whether the entry of `rip`, which is known, outlives a CR3 load.
    pub(crate) fn global(&self, rip: u64) -> bool {
        let i = index(rip);
        self.local[i / 64] & 1 << (i % 64) == 0
    }

    /// Makes links between pages invalid. Says whether keys begin anew: all links must be gone then.
    fn unlink(&mut self) -> bool {
        self.key += KEY_STEP;
        let over = self.key & !OFFSET != 0;
        if over {
            self.key = KEY_STEP | self.key & NO_LINKS;
        }
        over
    }

    /// Forgets all calls: translations changed, or blocks.
    pub(crate) fn forget_calls(&mut self) {
        self.returns = [NO_RETURN; RETURNS];
    }

    /// Enters a block of RAM page `page`.
    pub(crate) fn put(&mut self, rip: u64, block: u32, page: usize, global: bool) {
        let i = index(rip);
        self.entries[i] = Entry { tag: rip ^ self.mode, block, page: page as u32 }.words();
        self.used = true;
        let page = (rip / PAGE) as usize & (PAGES - 1);
        self.pages[page / 64] |= 1 << (page % 64);
        if !global {
            self.local[i / 64] |= 1 << (i % 64);
        }
    }

    /// Forgets one entry.
    pub(crate) fn forget(&mut self, rip: u64) {
        self.entries[index(rip)] = [0; 2];
    }

    /// Forgets everything, because the blocks are gone.
    pub(crate) fn clear(&mut self) {
        self.forget_calls();
        if std::mem::take(&mut self.used) {
            self.entries.fill([0; 2]);
        }
        self.local = [0; SIZE / 64];
        self.pages = [0; PAGES / 64];
    }

    /// Makes all entries stale. Says whether blocks must be forgotten.
    #[must_use]
    pub(crate) fn flush_all(&mut self) -> bool {
        self.forget_calls();
        if self.used {
            self.entries.iter_mut().for_each(make_stale);
        }
        self.local = [0; SIZE / 64];
        self.pages = [0; PAGES / 64];
        self.unlink()
    }

    /// Makes the entries stale that a CR3 load drops.
    pub(crate) fn flush_local(&mut self) {
        self.forget_calls();
        for (w, bits) in self.local.iter_mut().enumerate() {
            while *bits != 0 {
                make_stale(&mut self.entries[w * 64 + bits.trailing_zeros() as usize]);
                *bits &= *bits - 1;
            }
        }
    }

    /// Makes at least the entries of one page stale. Says whether blocks must be forgotten.
    #[must_use]
    pub(crate) fn flush_page(&mut self, va: u64) -> bool {
        self.forget_calls();
        let page = (va / PAGE) as usize & (PAGES - 1);
        let bit = 1 << (page % 64);
        if self.pages[page / 64] & bit == 0 {
            return false;
        }
        self.pages[page / 64] &= !bit;
        // Pages that share the bit lose theirs with it. The entries of all of them are in one stretch: `index` takes
        // the bits above the offset from bits that these pages have in common.
        let same = |tag: u64| (tag / PAGE) as usize & (PAGES - 1) == page;
        let first = index(va) & !(OFFSET as usize);
        let stretch = self.entries.iter_mut().skip(first).take(PAGE as usize);
        stretch.filter(|[tag, _]| same(*tag)).for_each(make_stale);
        self.unlink()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIPS: [u64; 3] = [0x40_1234, 0xffff_ffff_8100_0010, 0x7fff_ffff_f000];

    fn filled() -> Box<JumpCache> {
        let mut jumps = Box::new(JumpCache::new());
        for (block, rip) in RIPS.into_iter().enumerate() {
            jumps.put(rip, block as u32, 7, rip >> 63 != 0);
        }
        jumps
    }

    #[test]
    fn what_a_flush_drops_is_found_again_only_in_its_page() {
        let mut jumps = filled();
        let local = |jumps: &mut JumpCache| {
            jumps.flush_local();
            false
        };
        for flush in [JumpCache::flush_all, JumpCache::flush_all, local] {
            assert!(!flush(&mut jumps));
            for (block, rip) in RIPS.into_iter().enumerate() {
                assert_eq!(jumps.get(rip), NO_BLOCK);
                assert_eq!((jumps.recall(rip, 7), jumps.recall(rip, 8)), (Some(block as u32), None));
            }
        }
        jumps.clear();
        assert!(RIPS.iter().all(|&rip| jumps.recall(rip, 7).is_none()));
    }

    #[test]
    fn a_cr3_load_keeps_global_code() {
        let mut jumps = filled();
        jumps.flush_local();
        assert_eq!(RIPS.map(|rip| jumps.get(rip)), [NO_BLOCK, 1, NO_BLOCK]);
    }

    #[test]
    fn a_page_is_flushed_alone() {
        let mut jumps = filled();
        assert!(!jumps.flush_page(RIPS[1]));
        assert_eq!(RIPS.map(|rip| jumps.get(rip)), [0, NO_BLOCK, 2]);
        assert!(!jumps.flush_page(RIPS[0] ^ 0xfff));
        assert_eq!(RIPS.map(|rip| jumps.get(rip)), [NO_BLOCK, NO_BLOCK, 2]);
    }

    #[test]
    fn user_and_supervisor_are_apart() {
        let mut jumps = filled();
        jumps.set_user(true);
        assert!(RIPS.iter().all(|&rip| jumps.get(rip) == NO_BLOCK && jumps.recall(rip, 7).is_none()));
        assert!(!jumps.flush_all());
        assert!(RIPS.iter().all(|&rip| jumps.recall(rip, 7).is_none()));
        assert!(jumps.recall(0, 0).is_none());
    }
}

//! The soft TLB: virtual pages to host addresses, so that an access is one compare and one add.
// UNSAFETY: this is the fast path of every guest memory access; entries hold host addresses that were checked when
// they were filled.
#![expect(unsafe_code, reason = "raw access to guest RAM through checked entries")]

use crate::mem::{self, HostPage, OFFSET};
use crate::word::Word;

/// Entries for each mode and kind; a power of two.
const SIZE: usize = 1024;
/// Entries for fetches.
const FETCH_SIZE: usize = 256;
/// Bytes of the entries of one mode.
const HALF: usize = SIZE * size_of::<Entry>();
/// Tag of an empty entry: never equal to a page address.
const EMPTY: u64 = 1;
/// Set in the tag of an entry for writes to a page that may hold decoded code: never equal to a page address either.
const GUARDED: u64 = 2;
/// Stores through a guarded entry to a page that holds no code at the time, until the entry is guarded no longer. So
/// many cost as much as the search for all entries of a page, when it gets code again.
const PATIENCE: u32 = 500;

/// Invariant: `tag` is [`EMPTY`], or the page at `tag + addend` is guest RAM, where [`GUARDED`] does not count.
#[derive(Clone, Copy)]
struct Entry {
    tag: u64,
    addend: usize,
}

#[derive(Clone, Copy)]
struct Fetch {
    tag: u64,
    gpa: u64,
    global: bool,
}

/// What belongs to a guarded entry.
#[derive(Clone, Copy, Default)]
struct Guard {
    /// Number of the page among all pages of RAM.
    page: u32,
    /// Stores while the page held no code.
    idle: u32,
}

const NO_ENTRY: Entry = Entry { tag: EMPTY, addend: 0 };
const NO_FETCH: Fetch = Fetch { tag: EMPTY, gpa: 0, global: false };

/// What a page walk found out, to be entered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fill {
    pub(crate) va: u64,
    pub(crate) page: HostPage,
    /// Number of the page among all pages of RAM.
    pub(crate) number: usize,
    pub(crate) global: bool,
    /// Bytes of the mapping (4 KiB, 2 MiB or 1 GiB).
    pub(crate) span: u64,
}

/// Read, write and fetch entries for supervisor (low half) and user (high half).
pub(crate) struct Tlb {
    read: [Entry; 2 * SIZE],
    write: [Entry; 2 * SIZE],
    fetch: [Fetch; 2 * FETCH_SIZE],
    /// Where the half that accesses use starts in `read` and `write`, in bytes.
    half: usize,
    /// One bit for each pair of read and write entries that a CR3 load must empty.
    local: [u64; 2 * SIZE / 64],
    /// One bit for each fetch entry that a CR3 load must empty.
    local_fetch: [u64; 2 * FETCH_SIZE / 64],
    /// Address range in which large pages were entered since the last full flush.
    large: (u64, u64),
    /// For the guarded ones of `write`.
    guards: [Guard; 2 * SIZE],
}

impl Tlb {
    pub(crate) fn new() -> Self {
        Tlb {
            read: [NO_ENTRY; 2 * SIZE],
            write: [NO_ENTRY; 2 * SIZE],
            fetch: [NO_FETCH; 2 * FETCH_SIZE],
            half: 0,
            local: [0; 2 * SIZE / 64],
            local_fetch: [0; 2 * FETCH_SIZE / 64],
            large: (u64::MAX, 0),
            guards: [Guard::default(); 2 * SIZE],
        }
    }

    /// Chooses the half that accesses use.
    pub(crate) fn set_user(&mut self, user: bool) {
        self.half = if user { HALF } else { 0 };
    }

    #[inline(always)]
    fn index(&self, va: u64) -> usize {
        ((va >> 12) as usize & (SIZE - 1)) | if self.half == 0 { 0 } else { SIZE }
    }

    #[inline(always)]
    fn fetch_index(&self, va: u64) -> usize {
        ((va >> 12) as usize & (FETCH_SIZE - 1)) | if self.half == 0 { 0 } else { FETCH_SIZE }
    }

    /// The entry for the page of `va` in `read` or `write`.
    #[inline(always)]
    fn entry<'a>(&self, entries: &'a [Entry; 2 * SIZE], va: u64) -> &'a Entry {
        let place = (va as usize >> 12) % SIZE * size_of::<Entry>();
        // SAFETY: `place` is that of an entry of the first half, and `half` is 0 or the size of that half.
        unsafe { &*entries.as_ptr().byte_add(place).byte_add(self.half) }
    }

    /// Loads if the whole value lies in a page that is entered for reads.
    #[inline(always)]
    pub(crate) fn load<T: Word>(&self, va: u64) -> Option<T> {
        let e = self.entry(&self.read, va);
        if e.tag != va.wrapping_add(T::BYTES - 1) & !OFFSET {
            return None;
        }
        // SAFETY: the tag is the page of the value's last byte. The entry was chosen by the page of its first byte,
        // and entries of neighbouring pages never share an index, so both bytes are in the page `tag`, which by the
        // entry's invariant is guest RAM at `tag + addend`.
        Some(unsafe { mem::load(e.addend.wrapping_add(va as usize)) })
    }

    /// Stores if the whole value lies in a page that is entered for writes; says whether it did.
    #[inline(always)]
    pub(crate) fn store<T: Word>(&self, va: u64, value: T) -> bool {
        let e = self.entry(&self.write, va);
        if e.tag != va.wrapping_add(T::BYTES - 1) & !OFFSET {
            return false;
        }
        // SAFETY: as in `load`.
        unsafe { mem::store(e.addend.wrapping_add(va as usize), value) };
        true
    }

    /// Reads, changes and writes back if the whole value lies in a page that is entered for writes.
    #[inline(always)]
    pub(crate) fn begin_rmw<T: Word>(&self, va: u64) -> Option<(T, Place)> {
        let e = self.entry(&self.write, va);
        if e.tag != va.wrapping_add(T::BYTES - 1) & !OFFSET {
            return None;
        }
        let addr = e.addend.wrapping_add(va as usize);
        // SAFETY: as in `load`; x86 has no page that is writable and not readable.
        Some((unsafe { mem::load(addr) }, Place(addr, T::BYTES)))
    }

    /// Copies up to a page if both ranges lie in pages that are entered, and no byte is read after it was written;
    /// says whether it did.
    #[inline(always)]
    pub(crate) fn copy(&self, from: u64, to: u64, len: u64) -> bool {
        let (r, w) = (self.entry(&self.read, from), self.entry(&self.write, to));
        let last = len.wrapping_sub(1);
        let entered = r.tag == from.wrapping_add(last) & !OFFSET && w.tag == to.wrapping_add(last) & !OFFSET;
        let (src, dst) = (r.addend.wrapping_add(from as usize), w.addend.wrapping_add(to as usize));
        if last >= mem::PAGE || !entered || (dst.wrapping_sub(src) as u64) < len {
            return false;
        }
        // SAFETY: as in `load`, for the first and last bytes of each range and so for all of them.
        unsafe { mem::copy(src, dst, len as usize) };
        true
    }

    /// Fills up to a page with one byte if it lies in a page that is entered for writes; says whether it did.
    #[inline(always)]
    pub(crate) fn fill(&self, to: u64, byte: u8, len: u64) -> bool {
        let w = self.entry(&self.write, to);
        let last = len.wrapping_sub(1);
        if last >= mem::PAGE || w.tag != to.wrapping_add(last) & !OFFSET {
            return false;
        }
        // SAFETY: as in `copy`.
        unsafe { mem::fill(w.addend.wrapping_add(to as usize), byte, len as usize) };
        true
    }

    /// The host page of `va`, if entered.
    #[inline]
    pub(crate) fn host(&self, va: u64, write: bool) -> Option<HostPage> {
        let e = if write { &self.write[self.index(va)] } else { &self.read[self.index(va)] };
        // SAFETY: the tag matches, so the addend was made for this page.
        (e.tag == va & !OFFSET).then(|| unsafe { HostPage::from_addend(e.addend, va) })
    }

    /// Guest physical page to fetch from, and whether the mapping is global.
    #[inline]
    pub(crate) fn fetch(&self, va: u64) -> Option<(u64, bool)> {
        let e = &self.fetch[self.fetch_index(va)];
        (e.tag == va & !OFFSET).then_some((e.gpa, e.global))
    }

    /// Enters a page for reads.
    pub(crate) fn fill_read(&mut self, f: Fill) {
        let i = self.index(f.va);
        self.read[i] = Entry { tag: f.va & !OFFSET, addend: f.page.addend(f.va) };
        self.note(f, i);
    }

    /// Enters a page for writes. The caller has set the dirty bit and knows that the page holds no decoded code.
    pub(crate) fn fill_write(&mut self, f: Fill) {
        let i = self.index(f.va);
        self.write[i] = Entry { tag: f.va & !OFFSET, addend: f.page.addend(f.va) };
        self.note(f, i);
    }

    /// Enters a page for writes that must ask whether they touch code.
    pub(crate) fn fill_guarded(&mut self, f: Fill) {
        let i = self.index(f.va);
        self.write[i] = Entry { tag: f.va & !OFFSET | GUARDED, addend: f.page.addend(f.va) };
        self.guards[i] = Guard { page: f.number as u32, idle: 0 };
        self.note(f, i);
    }

    /// Enters a page for fetches.
    pub(crate) fn fill_fetch(&mut self, va: u64, gpa: u64, global: bool, span: u64) {
        let i = self.fetch_index(va);
        self.fetch[i] = Fetch { tag: va & !OFFSET, gpa: gpa & !OFFSET, global };
        self.note_large(va, span);
        if !global {
            self.local_fetch[i / 64] |= 1 << (i % 64);
        }
    }

    fn note(&mut self, f: Fill, index: usize) {
        self.note_large(f.va, f.span);
        if !f.global {
            self.local[index / 64] |= 1 << (index % 64);
        }
    }

    fn note_large(&mut self, va: u64, span: u64) {
        if span > mem::PAGE {
            let start = va & !(span - 1);
            self.large = (self.large.0.min(start), self.large.1.max(start + (span - 1)));
        }
    }

    /// Empties everything.
    pub(crate) fn flush_all(&mut self) {
        self.read.fill(NO_ENTRY);
        self.write.fill(NO_ENTRY);
        self.fetch.fill(NO_FETCH);
        self.local = [0; 2 * SIZE / 64];
        self.local_fetch = [0; 2 * FETCH_SIZE / 64];
        self.large = (u64::MAX, 0);
    }

    /// Empties what is not global.
    pub(crate) fn flush_local(&mut self) {
        for (w, bits) in self.local.iter_mut().enumerate() {
            while *bits != 0 {
                let i = w * 64 + bits.trailing_zeros() as usize;
                self.read[i] = NO_ENTRY;
                self.write[i] = NO_ENTRY;
                *bits &= *bits - 1;
            }
        }
        for (w, bits) in self.local_fetch.iter_mut().enumerate() {
            while *bits != 0 {
                self.fetch[w * 64 + bits.trailing_zeros() as usize] = NO_FETCH;
                *bits &= *bits - 1;
            }
        }
    }

    /// Empties the entries of one page, global or not. Says whether that was all: where the page may be part of a large
    /// one, everything is emptied.
    pub(crate) fn flush_page(&mut self, va: u64) -> bool {
        if (self.large.0..=self.large.1).contains(&va) {
            self.flush_all();
            return false;
        }
        let low = (va >> 12) as usize & (SIZE - 1);
        let fetch_low = (va >> 12) as usize & (FETCH_SIZE - 1);
        for half in 0..2 {
            self.read[low | (half * SIZE)] = NO_ENTRY;
            self.write[low | (half * SIZE)] = NO_ENTRY;
            self.fetch[fetch_low | (half * FETCH_SIZE)] = NO_FETCH;
        }
        true
    }

    /// Guards every write entry that leads to a page, because code was decoded from it.
    pub(crate) fn guard(&mut self, page: HostPage, number: usize) {
        for (e, g) in self.write.iter_mut().zip(&mut self.guards) {
            if e.tag & (EMPTY | GUARDED) == 0 && page.addend(e.tag) == e.addend {
                e.tag |= GUARDED;
                *g = Guard { page: number as u32, idle: 0 };
            }
        }
    }

    /// The host page of `va` and its number, if `len` bytes there lie in a page that is entered for guarded writes.
    #[inline]
    pub(crate) fn guarded(&self, va: u64, len: u64) -> Option<(HostPage, usize)> {
        let e = self.entry(&self.write, va);
        if e.tag != va.wrapping_add(len.wrapping_sub(1)) & !OFFSET | GUARDED {
            return None;
        }
        let number = self.guards[self.index(va)].page as usize;
        // SAFETY: the tag but for the mark is the page of `va`, so the addend was made for this page.
        Some((unsafe { HostPage::from_addend(e.addend, va) }, number))
    }

    /// Counts a store through the guarded entry of `va`, whose page holds no code. Says whether there were so many
    /// that it is guarded no longer.
    #[inline]
    pub(crate) fn count_idle(&mut self, va: u64) -> bool {
        let i = self.index(va);
        let guard = &mut self.guards[i];
        guard.idle += 1;
        let over = guard.idle > PATIENCE;
        if over {
            self.write[i].tag &= !GUARDED;
        }
        over
    }
}

/// Where a value read by [`Tlb::begin_rmw`] is written back to; lives no longer than one instruction.
pub(crate) struct Place(usize, u64);

impl Place {
    /// Writes back a value of the width that was read.
    #[inline(always)]
    pub(crate) fn store<T: Word>(self, value: T) {
        if T::BYTES <= self.1 {
            // SAFETY: the address was that of guest RAM of at least this width, checked when the value was read; RAM is
            // never unmapped while the vCPU lives.
            unsafe { mem::store(self.0, value) }
        }
    }
}

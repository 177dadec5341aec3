//! Guest RAM as host pages: the one place that turns guest physical addresses into host addresses.
// UNSAFETY: an interpreter that bounds-checks every access through a region list is several times too slow, so
// accesses go through host addresses that were checked when they were looked up.
#![expect(unsafe_code, reason = "raw access to guest RAM")]

use std::ptr;

use supermachine_hv::{GuestMemory, HvError, HypervisorKind};
use vm_memory::{Address, GuestMemoryBackend, GuestMemoryRegion};

use crate::word::Word;

/// Bytes in a page.
pub(crate) const PAGE: u64 = 4096;
/// Offset bits of a page.
pub(crate) const OFFSET: u64 = PAGE - 1;

/// Host address of one whole page of guest RAM. Only [`Ram::page`] makes one, and [`Ram`] outlives all of them
/// because each machine's vCPU owns both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HostPage(usize);

struct Region {
    start: u64,
    /// Bytes; a multiple of [`PAGE`].
    len: u64,
    host: usize,
    /// Number of RAM pages in the regions before this one.
    first_page: usize,
}

/// All guest RAM. Keeps the mapping alive.
pub(crate) struct Ram {
    regions: Vec<Region>,
    _memory: GuestMemory,
}

impl Ram {
    /// Takes the machine's memory; every region must start and end on a page boundary.
    pub(crate) fn new(memory: GuestMemory) -> Result<Self, HvError> {
        let mut regions = Vec::new();
        let mut first_page = 0;
        for r in memory.iter() {
            let (start, len) = (r.start_addr().raw_value(), r.len());
            if (start | len) & OFFSET != 0 {
                return Err(HvError::Unavailable {
                    kind: HypervisorKind::Soft,
                    reason: format!("memory region at {start:#x} of {len:#x} bytes is not made of whole pages"),
                });
            }
            regions.push(Region { start, len, host: r.as_ptr().expose_provenance(), first_page });
            first_page += (len / PAGE) as usize;
        }
        Ok(Ram { regions, _memory: memory })
    }

    /// Number of pages of RAM.
    pub(crate) fn pages(&self) -> usize {
        self.regions.last().map_or(0, |r| r.first_page + (r.len / PAGE) as usize)
    }

    /// The host page of `gpa` and its number among all RAM pages, or nothing where there is no RAM.
    #[inline]
    pub(crate) fn page(&self, gpa: u64) -> Option<(HostPage, usize)> {
        for r in &self.regions {
            let offset = gpa.wrapping_sub(r.start);
            if offset < r.len {
                let page = offset & !OFFSET;
                return Some((HostPage(r.host + page as usize), r.first_page + (page / PAGE) as usize));
            }
        }
        None
    }

    /// The page of that number among all RAM pages, and its guest physical address.
    pub(crate) fn nth(&self, number: usize) -> Option<(HostPage, u64)> {
        let after = |r: &&Region| r.first_page <= number;
        let r = self.regions.iter().rev().find(after)?;
        let gpa = r.start + (number - r.first_page) as u64 * PAGE;
        self.page(gpa).map(|(page, _)| (page, gpa))
    }

    /// Reads within one page.
    pub(crate) fn read<T: Word>(&self, gpa: u64) -> Option<T> {
        Some(self.page(gpa)?.0.load(gpa & OFFSET))
    }

    /// Writes within one page; says whether there is RAM.
    pub(crate) fn write<T: Word>(&self, gpa: u64, value: T) -> bool {
        self.page(gpa).is_some_and(|(p, _)| {
            p.store(gpa & OFFSET, value);
            true
        })
    }
}

impl HostPage {
    /// Value that added to a virtual address of the page `va` gives the host address.
    pub(crate) fn addend(self, va: u64) -> usize {
        self.0.wrapping_sub((va & !OFFSET) as usize)
    }

    /// The page that `addend` was made from.
    ///
    /// # Safety
    /// `addend` and `va` must be those of a call to [`addend`](Self::addend).
    pub(crate) unsafe fn from_addend(addend: usize, va: u64) -> Self {
        HostPage(addend.wrapping_add((va & !OFFSET) as usize))
    }

    /// Loads from `offset`, which is moved down if the value would leave the page.
    #[inline(always)]
    pub(crate) fn load<T: Word>(self, offset: u64) -> T {
        let at = self.0 + offset.min(PAGE - T::BYTES) as usize;
        // SAFETY: the page is guest RAM that stays mapped as long as `Ram` lives, and `at` leaves room for `T`.
        unsafe { load(at) }
    }

    /// Stores to `offset`, which is moved down if the value would leave the page.
    #[inline(always)]
    pub(crate) fn store<T: Word>(self, offset: u64, value: T) {
        let at = self.0 + offset.min(PAGE - T::BYTES) as usize;
        // SAFETY: as for `load`.
        unsafe { store(at, value) }
    }

    /// Copies bytes out; what would leave the page is left out.
    pub(crate) fn copy_to(self, offset: u64, out: &mut [u8]) {
        let n = out.len().min(PAGE.saturating_sub(offset) as usize);
        // SAFETY: `offset + n` is at most a page; `out` is host memory that guest RAM cannot overlap, for guest RAM
        // is a mapping of its own.
        unsafe { ptr::copy_nonoverlapping(at(self.0 + offset as usize), out.as_mut_ptr(), n) }
    }

    /// Moves `n` bytes from `src` to `self` as if through a buffer; both ranges are cut at their page's end.
    pub(crate) fn move_from(self, offset: u64, src: HostPage, src_offset: u64, n: u64) {
        let n = n.min(PAGE.saturating_sub(offset)).min(PAGE.saturating_sub(src_offset)) as usize;
        // SAFETY: both ranges lie in pages of guest RAM; `copy` allows overlap.
        unsafe { ptr::copy(at(src.0 + src_offset as usize), at(self.0 + offset as usize), n) }
    }

    /// Fills `n` bytes with one byte value, cut at the page's end.
    pub(crate) fn fill(self, offset: u64, byte: u8, n: u64) {
        let n = n.min(PAGE.saturating_sub(offset)) as usize;
        // SAFETY: the range lies in a page of guest RAM.
        unsafe { ptr::write_bytes(at(self.0 + offset as usize), byte, n) }
    }
}

#[inline(always)]
fn at(addr: usize) -> *mut u8 {
    ptr::with_exposed_provenance_mut(addr)
}

/// Moves bytes as if through a buffer.
///
/// # Safety
/// Both ranges must be guest RAM; see [`load`].
#[inline(always)]
pub(crate) unsafe fn copy(from: usize, to: usize, len: usize) {
    // SAFETY: the caller's promise. Two values that overlap cover 8 to 16 bytes; both are loaded before any is stored.
    unsafe {
        if matches!(len, 8..=16) {
            let (first, last) = (load::<u64>(from), load::<u64>(from + len - 8));
            store(to, first);
            store(to + len - 8, last);
        } else {
            ptr::copy(at(from), at(to), len);
        }
    }
}

/// Fills bytes with one value.
///
/// # Safety
/// The range must be guest RAM; see [`load`].
#[inline(always)]
pub(crate) unsafe fn fill(to: usize, byte: u8, len: usize) {
    // SAFETY: the caller's promise.
    unsafe { ptr::write_bytes(at(to), byte, len) }
}

/// Loads a value of any alignment.
///
/// # Safety
/// `addr .. addr + T::BYTES` must be guest RAM. Devices may write it at the same time: no reference is made, and
/// any value that comes out is a value the guest could have seen.
#[inline(always)]
pub(crate) unsafe fn load<T: Word>(addr: usize) -> T {
    // SAFETY: the caller's promise; `read_unaligned` has no alignment need.
    unsafe { ptr::read_unaligned(at(addr).cast::<T>()) }
}

/// Stores a value of any alignment.
///
/// # Safety
/// As for [`load`].
#[inline(always)]
pub(crate) unsafe fn store<T: Word>(addr: usize, value: T) {
    // SAFETY: the caller's promise; `write_unaligned` has no alignment need.
    unsafe { ptr::write_unaligned(at(addr).cast::<T>(), value) }
}

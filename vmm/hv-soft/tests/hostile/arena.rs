//! Guest RAM in pieces, each between host pages that nobody may touch: a stray access ends the test process.
// UNSAFETY: only the host's page tables can prove that nothing beside guest RAM is read or written.
#![expect(unsafe_code, reason = "guard pages around guest RAM")]

use std::ptr;

use supermachine_hv::GuestMemory;
use vm_memory::{GuestAddress, GuestRegionMmap, MmapRegion};

/// Guest physical start and length of each piece of RAM: the low one, one above 4 GiB, and the last page of the
/// physical address space.
pub(crate) const PIECES: [(u64, usize); 3] = [(0, 0x4_0000), (0x1_0000_0000, 0x4000), (0xff_ffff_f000, 0x1000)];
/// Inaccessible bytes before and after every piece.
const GUARD: usize = 1 << 20;
const FLAGS: i32 = libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_NORESERVE;
const RAM: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// The host mapping of one guest's RAM; never unmapped, one serves all cases.
pub(crate) fn guarded_ram() -> GuestMemory {
    let total = PIECES.iter().map(|&(_, len)| len + GUARD).sum::<usize>() + GUARD;
    // SAFETY: a new anonymous mapping at an address that the kernel picks.
    let base = unsafe { libc::mmap(ptr::null_mut(), total, libc::PROT_NONE, FLAGS, -1, 0) };
    assert_ne!(base, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
    let mut offset = GUARD;
    let regions = PIECES.map(|(start, len)| {
        let at = base.cast::<u8>().wrapping_add(offset);
        offset += len + GUARD;
        // SAFETY: `at .. at + len` lies in the mapping above, which nothing else uses and which stays for ever.
        let region = unsafe {
            assert_eq!(libc::mprotect(at.cast(), len, RAM), 0, "{}", std::io::Error::last_os_error());
            MmapRegion::build_raw(at, len, RAM, FLAGS)
        };
        GuestRegionMmap::new(region.expect("a page-aligned range"), GuestAddress(start)).expect("no overflow")
    });
    GuestMemory::from_regions(regions.into()).expect("pieces that do not overlap")
}

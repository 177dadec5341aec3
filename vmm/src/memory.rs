//! Guest RAM: sizes checked, regions mapped, nothing copied.

// UNSAFETY: a snapshot's pages are mapped over its base's.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use supermachine_hv::GuestMemory;
use vm_memory::mmap::{FromRangesError, MmapRegionBuilder, MmapRegionError};
use vm_memory::{
    Address, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryRegion, GuestRegionCollectionError,
    GuestRegionMmap,
};

use crate::layout;

/// Guest RAM could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// Less than the kernel needs.
    #[error("memory: {asked_mib} MiB is too small, the smallest machine has {} MiB", layout::MEMORY_MIN_MIB)]
    TooSmall {
        /// What was asked for.
        asked_mib: u64,
    },
    /// More than the memory map holds.
    #[error("memory: {asked_mib} MiB is too large, the largest machine has {} MiB", layout::MEMORY_MAX_MIB)]
    TooLarge {
        /// What was asked for.
        asked_mib: u64,
    },
    /// The size is not whole pages.
    #[error("memory: {asked} bytes is not a multiple of the page size, {} bytes", layout::PAGE_SIZE)]
    NotWholePages {
        /// What was asked for.
        asked: u64,
    },
    /// The host refused the mapping.
    #[error("memory: the host cannot map {size} bytes of guest RAM")]
    Map {
        /// Bytes in all.
        size: u64,
        /// Why.
        #[source]
        source: FromRangesError,
    },
    /// Saved RAM is not laid out as a machine's of its size.
    #[error("memory: the saved regions are not those of a machine with {size} bytes")]
    Layout {
        /// What the machine has.
        size: u64,
    },
    /// The host refused to map saved RAM.
    #[error("memory: the host cannot map {size} bytes of saved RAM")]
    MapFile {
        /// Bytes in all.
        size: u64,
        /// Why.
        #[source]
        source: MmapRegionError,
    },
    /// The regions of saved RAM do not fit together.
    #[error("memory: regions")]
    Regions(#[from] GuestRegionCollectionError),
}

/// Checks a RAM size in bytes against the memory map.
pub fn check_size(bytes: u64) -> Result<(), MemoryError> {
    const MIB: u64 = 1 << 20;
    if !bytes.is_multiple_of(layout::PAGE_SIZE) {
        return Err(MemoryError::NotWholePages { asked: bytes });
    }
    if bytes < layout::MEMORY_MIN_MIB * MIB {
        return Err(MemoryError::TooSmall { asked_mib: bytes / MIB });
    }
    if bytes > layout::MEMORY_MAX_MIB * MIB {
        return Err(MemoryError::TooLarge { asked_mib: bytes / MIB });
    }
    Ok(())
}

/// The RAM regions of a machine as (start, bytes), below and above the MMIO gap.
pub fn regions(bytes: u64) -> Vec<(u64, u64)> {
    let below = bytes.min(layout::MMIO_GAP);
    let above = bytes - below;
    let mut regions = vec![(0, below)];
    if above > 0 {
        regions.push((layout::RAM_ABOVE_GAP, above));
    }
    regions
}

/// Maps zeroed, private, unreserved RAM of `bytes` bytes.
pub fn allocate(bytes: u64) -> Result<GuestMemory, MemoryError> {
    check_size(bytes)?;
    let ranges: Vec<_> = regions(bytes)
        .into_iter()
        .map(|(start, len)| (GuestAddress(start), usize::try_from(len).unwrap_or(usize::MAX)))
        .collect();
    GuestMemory::from_ranges(&ranges).map_err(|source| MemoryError::Map { size: bytes, source })
}

/// A region of RAM in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Guest physical address of its first byte.
    pub gpa: u64,
    /// Bytes.
    pub bytes: u64,
    /// Offset in the file.
    pub offset: u64,
}

/// Maps RAM of `bytes` bytes that a file has in these places, which the file was checked to have, and over parts of it
/// those of another. Writes stay in this process; the files are only read, page by page as they are touched.
///
/// # Errors
/// A size that no machine has, other regions than a machine's of this size, a part that is not in one of them, or a
/// host that refuses a mapping.
pub fn map(file: File, placed: &[Placed], over: (&File, &[Placed]), bytes: u64) -> Result<GuestMemory, MemoryError> {
    check_size(bytes)?;
    if !placed.iter().map(|region| (region.gpa, region.bytes)).eq(regions(bytes)) {
        return Err(MemoryError::Layout { size: bytes });
    }
    let file = Arc::new(file);
    let mut mapped = Vec::new();
    for region in placed {
        let mapping = MmapRegionBuilder::new(usize::try_from(region.bytes).unwrap_or(usize::MAX))
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(libc::MAP_PRIVATE | libc::MAP_NORESERVE)
            .with_file_offset(FileOffset::from_arc(file.clone(), region.offset))
            .build()
            .map_err(|source| MemoryError::MapFile { size: bytes, source })?;
        let mapping = GuestRegionMmap::new(mapping, GuestAddress(region.gpa));
        mapped.push(mapping.ok_or(MemoryError::Layout { size: bytes })?);
    }
    let memory = GuestMemory::from_regions(mapped)?;
    let (file, parts) = over;
    parts.iter().try_for_each(|part| map_over(&memory, file, part, bytes))?;
    Ok(memory)
}

/// Maps a part of a file over a part of RAM that nobody uses yet.
#[expect(unsafe_code, reason = "a mapping at a fixed address, in place of another")]
fn map_over(memory: &GuestMemory, file: &File, part: &Placed, bytes: u64) -> Result<(), MemoryError> {
    let error = MemoryError::Layout { size: bytes };
    let Some((region, start)) = memory.to_region_addr(GuestAddress(part.gpa)) else { return Err(error) };
    let end = start.raw_value().checked_add(part.bytes).filter(|end| *end <= region.len());
    let (Some(_), Ok(length), Ok(offset)) = (end, usize::try_from(part.bytes), i64::try_from(part.offset)) else {
        return Err(error);
    };
    let address = region.get_host_address(start).map_err(|_| error)?;
    let (rights, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_NORESERVE | libc::MAP_FIXED);
    // SAFETY: `address` to `address + length` is inside one mapping that `memory` owns, as was checked, so nothing else
    // is unmapped; nobody has a reference into it yet. The new mapping lives and ends with that one's range.
    let mapped = unsafe { libc::mmap(address.cast(), length, rights, flags, file.as_raw_fd(), offset) };
    if mapped == libc::MAP_FAILED {
        let source = MmapRegionError::Mmap(std::io::Error::last_os_error());
        return Err(MemoryError::MapFile { size: bytes, source });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_checked() {
        assert!(matches!(check_size(63 << 20), Err(MemoryError::TooSmall { asked_mib: 63 })));
        assert!(matches!(check_size((64 << 20) + 5), Err(MemoryError::NotWholePages { .. })));
        assert!(matches!(check_size(1 << 41), Err(MemoryError::TooLarge { .. })));
        assert!(check_size(64 << 20).is_ok());
    }

    #[test]
    fn ram_goes_around_the_gap() {
        assert_eq!(regions(256 << 20), [(0, 256 << 20)]);
        assert_eq!(regions(4 << 30), [(0, 0xc000_0000), (0x1_0000_0000, 1 << 30)]);
    }
}

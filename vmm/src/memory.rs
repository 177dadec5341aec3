//! Guest RAM: sizes checked, regions mapped, nothing copied.

use supermachine_hv::GuestMemory;
use vm_memory::{GuestAddress, mmap::FromRangesError};

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

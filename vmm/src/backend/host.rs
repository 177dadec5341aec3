//! Small host ends: entropy, wall clock, memory given back.
//!
//! UNSAFETY: giving memory back is `madvise` on the guest's mapping, which has no safe form.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::mman::{MmapAdvise, madvise};
use supermachine_devices::balloon::MemoryReclaimer;
use supermachine_devices::rng::EntropySource;
use supermachine_devices::rtc::WallClock;
use supermachine_hv::GuestMemory;
use vm_memory::{GuestAddress, GuestMemoryBackend as _};

/// The host kernel's random numbers.
pub struct HostEntropy(File);

impl HostEntropy {
    /// Opens the source.
    pub fn open() -> io::Result<Self> {
        File::open("/dev/urandom").map(Self)
    }
}

impl EntropySource for HostEntropy {
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact(buffer)
    }
}

/// The host's wall clock.
pub struct HostClock;

impl WallClock for HostClock {
    fn unix_time_s(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}

/// Gives pages of guest RAM back to the host.
pub struct Reclaimer {
    /// The guest's RAM.
    pub memory: GuestMemory,
    /// Bytes given back so far.
    pub reclaimed: Arc<AtomicU64>,
}

impl MemoryReclaimer for Reclaimer {
    fn discard(&mut self, gpa: u64, len: u64) {
        let Ok(len) = usize::try_from(len) else { return };
        let Ok(slice) = self.memory.get_slice(GuestAddress(gpa), len) else { return };
        if discard(&slice).is_ok() {
            self.reclaimed.fetch_add(len as u64, Ordering::Relaxed);
        }
    }
}

/// Linux drops the pages at once; macOS when it needs them.
#[cfg(target_os = "linux")]
const ADVICE: MmapAdvise = MmapAdvise::MADV_DONTNEED;
#[cfg(not(target_os = "linux"))]
const ADVICE: MmapAdvise = MmapAdvise::MADV_FREE;

#[expect(unsafe_code, reason = "madvise on guest RAM")]
fn discard(slice: &vm_memory::VolatileSlice<'_>) -> nix::Result<()> {
    let guard = slice.ptr_guard_mut();
    let Some(start) = std::ptr::NonNull::new(guard.as_ptr().cast()) else { return Ok(()) };
    // SAFETY: `get_slice` proved that the whole range is inside one mapping of guest RAM, which lives as long as
    // `self.memory`. No Rust reference points into guest RAM; everything reads it through volatile accesses, which
    // see zeroes (or old bytes) afterwards: any bytes are valid there, the guest can write them itself.
    unsafe { madvise(start, slice.len(), ADVICE) }
}

//! Guest time: a TSC of exactly 1 GHz from the host's monotonic clock, and kvmclock from the same source.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// TSC frequency: one tick is one nanosecond, so that no scaling is ever needed.
pub(crate) const TSC_HZ: u64 = 1_000_000_000;
/// The same in kHz, as guests are told.
pub(crate) const TSC_KHZ: u32 = 1_000_000;

/// TSC and kvmclock of a machine.
pub(crate) struct Clock {
    start: Instant,
    /// TSC value at `start`.
    offset: AtomicU64,
    /// What kvmclock's system time adds to the TSC.
    system_offset: AtomicU64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Clock { start: Instant::now(), offset: AtomicU64::new(0), system_offset: AtomicU64::new(0) }
    }

    /// The time-stamp counter.
    pub(crate) fn tsc(&self) -> u64 {
        (self.start.elapsed().as_nanos() as u64).wrapping_add(self.offset.load(Relaxed))
    }

    /// Sets the time-stamp counter; kvmclock does not jump with it.
    pub(crate) fn set_tsc(&self, v: u64) {
        let change = v.wrapping_sub(self.tsc());
        self.offset.fetch_add(change, Relaxed);
        self.system_offset.fetch_sub(change, Relaxed);
    }

    /// A TSC value and kvmclock's nanoseconds at that moment.
    pub(crate) fn now(&self) -> (u64, u64) {
        let tsc = self.tsc();
        (tsc, tsc.wrapping_add(self.system_offset.load(Relaxed)))
    }

    /// Sets kvmclock's nanoseconds.
    pub(crate) fn set_system_ns(&self, ns: u64) {
        self.system_offset.store(ns.wrapping_sub(self.tsc()), Relaxed);
    }

    /// Nanoseconds of wall clock at kvmclock zero.
    pub(crate) fn boot_wall_ns(&self) -> u64 {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
        wall.saturating_sub(self.now().1)
    }
}

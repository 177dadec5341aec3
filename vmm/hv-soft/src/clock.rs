//! Guest time: a TSC of exactly 1 GHz from the host's monotonic clock, and kvmclock from the same source.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
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
    /// Both were put back together, and the vCPU's TSC is still to come.
    restored: AtomicBool,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Clock {
            start: Instant::now(),
            offset: AtomicU64::new(0),
            system_offset: AtomicU64::new(0),
            restored: AtomicBool::new(false),
        }
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

    /// Moves both on by so many nanoseconds.
    pub(crate) fn advance(&self, ns: u64) {
        self.offset.fetch_add(ns, Relaxed);
    }

    /// A TSC value and kvmclock's nanoseconds at that moment.
    pub(crate) fn now(&self) -> (u64, u64) {
        let tsc = self.tsc();
        (tsc, tsc.wrapping_add(self.system_offset.load(Relaxed)))
    }

    /// Sets both, as [`now`](Self::now) gave them.
    pub(crate) fn restore(&self, tsc: u64, system_ns: u64) {
        self.set_tsc(tsc);
        self.system_offset.store(system_ns.wrapping_sub(tsc), Relaxed);
        self.restored.store(true, Relaxed);
    }

    /// Sets the time-stamp counter to a saved one. If a saved machine's clocks were put back before, kvmclock goes with
    /// it: they were saved a little apart, and a guest that compares the two (Linux's clocksource watchdog) must not
    /// see that. Of the two moments the later one counts, so that neither clock goes back.
    pub(crate) fn restore_tsc(&self, v: u64) {
        if self.restored.swap(false, Relaxed) {
            let ahead = v.wrapping_sub(self.tsc());
            if ahead.cast_signed() > 0 {
                self.offset.fetch_add(ahead, Relaxed);
            }
        } else {
            self.set_tsc(v);
        }
    }

    /// Nanoseconds of wall clock at kvmclock zero.
    pub(crate) fn boot_wall_ns(&self) -> u64 {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
        wall.saturating_sub(self.now().1)
    }
}

//! What other threads may touch: the machine's board, and each vCPU's mailbox.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use supermachine_hv::Idle;

use crate::chips::ioapic::{IoApic, Message};
use crate::chips::legacy::Legacy;
use crate::clock::Clock;

/// The part of the machine that vCPUs share.
pub(crate) struct Board {
    ioapic: Mutex<IoApic>,
    legacy: Mutex<Legacy>,
    /// Time.
    pub(crate) clock: Arc<Clock>,
    /// Grows whenever a device may have written guest RAM.
    epoch: AtomicU64,
    mailboxes: Mutex<Vec<Arc<Shared>>>,
}

/// A vCPU's mailbox.
pub(crate) struct Shared {
    attention: AtomicBool,
    kicked: AtomicBool,
    /// Vectors posted and not yet taken, edge and level.
    edges: [AtomicU64; 4],
    levels: [AtomicU64; 4],
    sleeping: Mutex<Sleep>,
    wake: Condvar,
    fell_asleep: Condvar,
    /// The machine.
    pub(crate) board: Arc<Board>,
}

/// A vCPU's halt, as others see it.
#[derive(Default)]
struct Sleep {
    /// Whether its thread sleeps, and nobody has woken it.
    asleep: bool,
    /// TSC value at which its timer is due; 0 for none.
    timer: u64,
    /// Threads that wait for it to fall asleep.
    watchers: usize,
}

/// A lock whose holder panicked still guards plain data that is valid in every state.
fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Board {
            ioapic: Mutex::new(IoApic::new()),
            legacy: Mutex::new(Legacy::default()),
            clock: Arc::new(Clock::new()),
            epoch: AtomicU64::new(1),
            mailboxes: Mutex::new(Vec::new()),
        })
    }

    /// Adds a vCPU's mailbox; its index is its APIC id.
    pub(crate) fn add_vcpu(self: &Arc<Self>) -> Arc<Shared> {
        let zero = || [const { AtomicU64::new(0) }; 4];
        let shared = Arc::new(Shared {
            attention: AtomicBool::new(false),
            kicked: AtomicBool::new(false),
            edges: zero(),
            levels: zero(),
            sleeping: Mutex::default(),
            wake: Condvar::new(),
            fell_asleep: Condvar::new(),
            board: self.clone(),
        });
        lock(&self.mailboxes).push(shared.clone());
        shared
    }

    /// The I/O APIC.
    pub(crate) fn ioapic(&self) -> MutexGuard<'_, IoApic> {
        lock(&self.ioapic)
    }

    /// PIC and PIT stubs.
    pub(crate) fn legacy(&self) -> MutexGuard<'_, Legacy> {
        lock(&self.legacy)
    }

    /// Sets an interrupt line and delivers what that causes.
    pub(crate) fn set_line(&self, pin: u32, level: bool) {
        self.device_activity();
        let message = self.ioapic().set_line(pin, level);
        self.deliver(message);
    }

    /// A guest write to the I/O APIC.
    pub(crate) fn ioapic_write(&self, offset: u32, value: u32) {
        let message = self.ioapic().write(offset, value);
        self.deliver(message);
    }

    /// End of interrupt for a level-triggered vector.
    pub(crate) fn end_of_interrupt(&self, vector: u8) {
        let messages = self.ioapic().end_of_interrupt(vector);
        messages.into_iter().for_each(|m| self.deliver(Some(m)));
    }

    fn deliver(&self, message: Option<Message>) {
        let Some(m) = message else { return };
        for (id, mailbox) in lock(&self.mailboxes).iter().enumerate() {
            if m.reaches(id as u32) {
                mailbox.post(m.vector, m.level);
            }
        }
    }

    /// Lets the guest's idle time be over at once; see [`supermachine_hv::Vm::skip_idle`].
    pub(crate) fn skip_idle(&self, within: Duration, patience: Duration) -> Idle {
        let (until, mailboxes) = (Instant::now() + patience, lock(&self.mailboxes).clone());
        let mut first = None;
        for mailbox in &mailboxes {
            let Some(timer) = mailbox.timer_when_asleep(until) else { return Idle::Busy };
            first = [first, (timer != 0).then_some(timer)].into_iter().flatten().min();
        }
        let left = first.map(|timer| timer.saturating_sub(self.clock.tsc()));
        let Some(left) = left.filter(|&ns| Duration::from_nanos(ns) <= within) else { return Idle::Quiet };
        self.clock.advance(left);
        mailboxes.iter().for_each(|mailbox| mailbox.wake_up());
        Idle::Passed(Duration::from_nanos(left))
    }

    /// A device may have written guest RAM.
    pub(crate) fn device_activity(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Changes whenever a device may have written guest RAM.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }
}

impl Shared {
    /// Makes the vCPU look up after at most some thousand instructions.
    pub(crate) fn attention(&self) {
        self.attention.store(true, Ordering::Release);
    }

    /// Whether something wants the vCPU to look up.
    pub(crate) fn wants_attention(&self) -> bool {
        self.attention.load(Ordering::Relaxed)
    }

    /// Takes the attention flag.
    pub(crate) fn take_attention(&self) -> bool {
        self.attention.swap(false, Ordering::AcqRel)
    }

    /// Posts an interrupt and wakes the vCPU.
    pub(crate) fn post(&self, vector: u8, level: bool) {
        let (word, bit) = (usize::from(vector >> 6) & 3, 1u64 << (vector & 63));
        if level {
            self.levels[word].fetch_or(bit, Ordering::AcqRel);
        }
        self.edges[word].fetch_or(bit, Ordering::AcqRel);
        self.wake_up();
    }

    /// Takes posted vectors: (vectors, which of them are level-triggered).
    pub(crate) fn take_posted(&self) -> ([u64; 4], [u64; 4]) {
        let take = |a: &[AtomicU64; 4]| {
            let mut out = [0; 4];
            for (o, w) in out.iter_mut().zip(a) {
                if w.load(Ordering::Relaxed) != 0 {
                    *o = w.swap(0, Ordering::AcqRel);
                }
            }
            out
        };
        let vectors = take(&self.edges);
        (vectors, take(&self.levels))
    }

    /// Makes `run` return.
    pub(crate) fn kick(&self) {
        self.kicked.store(true, Ordering::Release);
        self.wake_up();
    }

    /// Takes the kick.
    pub(crate) fn take_kick(&self) -> bool {
        self.kicked.load(Ordering::Relaxed) && self.kicked.swap(false, Ordering::AcqRel)
    }

    fn wake_up(&self) {
        self.attention();
        // Taking the lock orders this wake after a sleeper's last look at the flags.
        lock(&self.sleeping).asleep = false;
        self.wake.notify_all();
    }

    /// Sleeps until something is posted, a kick, or the time is over. `timer` is the TSC value at which the vCPU's timer
    /// is due, or 0.
    pub(crate) fn sleep(&self, timeout: Option<Duration>, timer: u64) {
        let mut sleep = lock(&self.sleeping);
        if self.attention.load(Ordering::Acquire) {
            return;
        }
        (sleep.asleep, sleep.timer) = (true, timer);
        if sleep.watchers > 0 {
            self.fell_asleep.notify_all();
        }
        let mut sleep = match timeout {
            Some(t) => self.wake.wait_timeout(sleep, t).unwrap_or_else(PoisonError::into_inner).0,
            None => self.wake.wait(sleep).unwrap_or_else(PoisonError::into_inner),
        };
        sleep.asleep = false;
    }

    /// Waits until the vCPU sleeps in a halt; gives when its timer is due (0 for none), or nothing once it is `until`.
    fn timer_when_asleep(&self, until: Instant) -> Option<u64> {
        let mut sleep = lock(&self.sleeping);
        sleep.watchers += 1;
        let left = until.saturating_duration_since(Instant::now());
        let waited = self.fell_asleep.wait_timeout_while(sleep, left, |sleep| !sleep.asleep);
        let (mut sleep, _) = waited.unwrap_or_else(PoisonError::into_inner);
        sleep.watchers -= 1;
        sleep.asleep.then_some(sleep.timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn idle_time_passes_at_once_and_no_further_than_asked() {
        let board = Board::new();
        let vcpu = board.add_vcpu();
        let timer = board.clock.tsc() + HOUR.as_nanos() as u64;
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| vcpu.sleep(None, timer));
            assert_eq!(board.skip_idle(LONG, LONG), Idle::Quiet);
            assert!(board.clock.tsc() < timer, "nothing passes before its time");
            let Idle::Passed(time) = board.skip_idle(HOUR, LONG) else { panic!("the hour is over") };
            assert!(time <= HOUR && board.clock.tsc() >= timer);
            sleeper.join().expect("it is woken");
        });
        assert_eq!(board.skip_idle(HOUR, Duration::ZERO), Idle::Busy, "it is awake");
    }

    #[test]
    fn a_halt_without_a_timer_goes_on() {
        let board = Board::new();
        let vcpu = board.add_vcpu();
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| vcpu.sleep(None, 0));
            assert_eq!(board.skip_idle(HOUR, LONG), Idle::Quiet);
            vcpu.kick();
            sleeper.join().expect("it is woken");
        });
    }
}

//! What other threads may touch: the machine's board, and each vCPU's mailbox.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
    sleeping: Mutex<()>,
    wake: Condvar,
    /// The machine.
    pub(crate) board: Arc<Board>,
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
            sleeping: Mutex::new(()),
            wake: Condvar::new(),
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
        drop(lock(&self.sleeping));
        self.wake.notify_all();
    }

    /// Sleeps until something is posted, a kick, or the time is over.
    pub(crate) fn sleep(&self, timeout: Option<Duration>) {
        let guard = lock(&self.sleeping);
        if self.attention.load(Ordering::Acquire) {
            return;
        }
        match timeout {
            Some(t) => drop(self.wake.wait_timeout(guard, t)),
            None => drop(self.wake.wait(guard)),
        }
    }
}

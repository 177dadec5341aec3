//! The outside of a running guest: interrupts at random, and a kick when its time is over.

use std::io::{Write, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use supermachine_hv::{Kick, Vm};

use crate::rng::Rng;

/// What a kicked vCPU may take to come back, on a busy host.
const GRACE: Duration = Duration::from_secs(20);
/// Interrupt lines that are played with.
const LINES: u64 = 26;

/// One guest to watch.
struct Guest {
    vm: Arc<dyn Vm>,
    kick: Arc<dyn Kick>,
    rng: Rng,
    time: Duration,
    case: u64,
    last: Arc<AtomicBool>,
}

/// A thread that watches one guest after the other.
pub(crate) struct Watchdog {
    guests: Sender<Option<Guest>>,
    /// Whether the guest's last kick was given.
    last: Arc<AtomicBool>,
}

impl Watchdog {
    pub(crate) fn start() -> Self {
        let (guests, inbox) = channel::<Option<Guest>>();
        thread::spawn(move || {
            while let Ok(guest) = inbox.recv() {
                if let Some(guest) = guest {
                    guest.watch(&inbox);
                }
            }
        });
        Watchdog { guests, last: Arc::default() }
    }

    /// Begins to watch a guest, until [`over`](Self::over) is called.
    pub(crate) fn guard(&mut self, vm: &Arc<dyn Vm>, kick: Arc<dyn Kick>, mut rng: Rng, case: u64) {
        let most_us = if rng.chance(1) { 100_000 } else { 4_000 };
        let time = Duration::from_micros(1000 + rng.below(most_us));
        // A new flag for each guest: the one before may still be on its way.
        self.last = Arc::default();
        let guest = Guest { vm: Arc::clone(vm), kick, rng, time, case, last: Arc::clone(&self.last) };
        self.guests.send(Some(guest)).expect("the watchdog lives");
    }

    /// Whether the kick that ends this guest was given; then no other comes.
    pub(crate) fn is_last(&self) -> bool {
        self.last.load(Ordering::SeqCst)
    }

    pub(crate) fn over(&self) {
        self.guests.send(None).expect("the watchdog lives");
    }
}

impl Guest {
    fn watch(mut self, inbox: &Receiver<Option<Guest>>) {
        let end = Instant::now() + self.time;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            let wait = left.min(Duration::from_micros(20 + self.rng.below(2000)));
            if !matches!(inbox.recv_timeout(wait), Err(RecvTimeoutError::Timeout)) {
                return;
            }
            let line = self.rng.below(LINES) as u32;
            // Lines that do not exist are refused; that is all they may do.
            let _ = self.vm.set_irq_line(line, self.rng.chance(50));
            if self.rng.chance(5) {
                self.kick.kick();
            }
        }
        self.last.store(true, Ordering::SeqCst);
        self.kick.kick();
        if matches!(inbox.recv_timeout(GRACE), Err(RecvTimeoutError::Timeout)) {
            // The test's captured output is lost in an abort; this is not captured.
            let _ = writeln!(stderr(), "case {} hangs and cannot be kicked", self.case);
            std::process::abort();
        }
    }
}

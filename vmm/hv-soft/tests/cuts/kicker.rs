//! Kicks from another thread.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use supermachine_hv::Kick;

/// Last stretch of a delay that is spun through, because a sleep is not as exact.
const SPUN: Duration = Duration::from_micros(150);

/// A thread that kicks at given times.
pub(super) struct Kicker {
    jobs: Option<Sender<(Arc<dyn Kick>, Instant)>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Kicker {
    pub(super) fn start() -> Self {
        let (jobs, todo) = channel::<(Arc<dyn Kick>, Instant)>();
        let thread = thread::spawn(move || {
            for (kick, when) in todo {
                wait_until(when);
                kick.kick();
            }
        });
        Self { jobs: Some(jobs), thread: Some(thread) }
    }

    /// Kicks after a while.
    pub(super) fn kick_after(&self, kick: Arc<dyn Kick>, ns: u64) {
        let when = Instant::now() + Duration::from_nanos(ns);
        self.jobs.as_ref().and_then(|jobs| jobs.send((kick, when)).ok()).expect("the kicking thread lives");
    }
}

fn wait_until(when: Instant) {
    loop {
        let left = when.saturating_duration_since(Instant::now());
        match left.checked_sub(SPUN) {
            Some(long) => thread::park_timeout(long),
            None if left.is_zero() => return,
            None => std::hint::spin_loop(),
        }
    }
}

impl Drop for Kicker {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

//! Time limits for laws, and things that happen a little later.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::Kick;

/// What a law may take; generous, for nested and emulated machines on a busy host.
const LIMIT: Duration = Duration::from_secs(60);
/// What a kicked vCPU may take to come back.
const GRACE: Duration = Duration::from_secs(15);

/// Kicks its vCPUs when the law takes too long; dropped when the law is over.
pub(super) struct Watch {
    kickers: Arc<Mutex<Vec<Arc<dyn Kick>>>>,
    expired: Arc<AtomicBool>,
    _done: Sender<()>,
}

impl Watch {
    pub(super) fn start() -> Self {
        let (done, waits) = channel::<()>();
        let kickers: Arc<Mutex<Vec<Arc<dyn Kick>>>> = Arc::default();
        let expired = Arc::new(AtomicBool::new(false));
        let watch = Self { kickers: Arc::clone(&kickers), expired: Arc::clone(&expired), _done: done };
        thread::spawn(move || {
            if waits.recv_timeout(LIMIT) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            expired.store(true, Ordering::SeqCst);
            for kicker in kickers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                kicker.kick();
            }
            if waits.recv_timeout(GRACE) == Err(RecvTimeoutError::Timeout) {
                eprintln!("a law hangs and its vCPU cannot be kicked");
                std::process::abort();
            }
        });
        watch
    }

    /// Adds a vCPU to kick.
    pub(super) fn guard(&self, kicker: Arc<dyn Kick>) {
        self.kickers.lock().unwrap_or_else(PoisonError::into_inner).push(kicker);
    }

    /// Whether the time is over; asked after each exit.
    pub(super) fn expired(&self) -> bool {
        self.expired.load(Ordering::SeqCst)
    }
}

/// Does something later, for vCPUs whose sleep nothing announces. Dropping it waits until it is done.
pub(super) struct Later {
    thread: Option<thread::JoinHandle<()>>,
}

/// Long enough for a guest to reach its halt on most hosts; the laws hold whether or not it did.
const SOON: Duration = Duration::from_millis(30);

/// Runs `action` on a thread of its own after a short while.
pub(super) fn soon(action: impl FnOnce() + Send + 'static) -> Later {
    let thread = thread::spawn(move || {
        thread::park_timeout(SOON);
        action();
    });
    Later { thread: Some(thread) }
}

impl Drop for Later {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

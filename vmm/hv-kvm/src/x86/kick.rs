//! Interrupting `KVM_RUN` from another thread, without a lost wake-up.
//!
//! A kick is remembered in `requested`, then written into the run page's `immediate_exit` byte, then a signal is
//! sent to the vCPU's thread. Before `KVM_RUN` looks at the byte, the byte stops it; after that, the signal does.
// UNSAFETY: installing a signal handler and sending a thread-directed signal are raw system calls.
#![expect(unsafe_code, reason = "signals")]

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};

use supermachine_hv::{HvError, Kick};

use super::run_page::RunPage;

/// The signal above `SIGRTMIN` that kicks; glibc keeps the first few real-time signals for itself already.
const SIGNAL_OFFSET: i32 = 6;
const UNBOUND: i32 = 0;

/// A vCPU's kick, shared between its thread and all kickers.
pub(super) struct Kicker {
    page: Arc<RunPage>,
    thread: AtomicI32,
    requested: AtomicBool,
}

impl Kicker {
    pub(super) fn new(page: Arc<RunPage>) -> Self {
        Self { page, thread: AtomicI32::new(UNBOUND), requested: AtomicBool::new(false) }
    }

    /// Makes the calling thread the one that kicks go to.
    pub(super) fn bind(&self) -> Result<(), HvError> {
        install_handler().map_err(|source| HvError::Os { operation: "sigaction", source })?;
        unblock_signal().map_err(|source| HvError::Os { operation: "pthread_sigmask", source })?;
        // SAFETY: gettid takes nothing and cannot fail.
        self.thread.store(unsafe { libc::gettid() }, Ordering::SeqCst);
        Ok(())
    }

    /// No thread is to be signalled any more.
    pub(super) fn unbind(&self) {
        self.thread.store(UNBOUND, Ordering::SeqCst);
    }

    /// Takes the kick that waits, if any. Called by the vCPU's thread after `KVM_RUN` was interrupted.
    pub(super) fn take(&self) -> bool {
        // The byte first: a kick between the two lines leaves the byte set, which costs one idle entry at most.
        self.page.immediate_exit().store(0, Ordering::SeqCst);
        self.requested.swap(false, Ordering::SeqCst)
    }

    /// Makes the next `KVM_RUN` finish what it owes and come back without running the guest.
    pub(super) fn hold_back(&self) {
        self.page.immediate_exit().store(1, Ordering::SeqCst);
    }

    /// Ends [`hold_back`](Self::hold_back); a kick that came meanwhile stays.
    pub(super) fn let_go(&self) {
        self.page.immediate_exit().store(0, Ordering::SeqCst);
        if self.requested.load(Ordering::SeqCst) {
            self.page.immediate_exit().store(1, Ordering::SeqCst);
        }
    }
}

impl Kick for Kicker {
    fn kick(&self) {
        self.requested.store(true, Ordering::SeqCst);
        self.page.immediate_exit().store(1, Ordering::SeqCst);
        let thread = self.thread.load(Ordering::SeqCst);
        if thread != UNBOUND {
            // SAFETY: plain numbers. Had the thread ended and its number gone to another thread of this process,
            // that one would see a signal whose handler does nothing; other processes are out of reach.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal_number()) };
        }
    }
}

fn signal_number() -> i32 {
    libc::SIGRTMIN() + SIGNAL_OFFSET
}

extern "C" fn ignore(_signal: libc::c_int) {}

/// Installs the handler once per process, without `SA_RESTART`: interrupting the call is its only purpose.
fn install_handler() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let handler: extern "C" fn(libc::c_int) = ignore;
    let result = INSTALLED.get_or_init(|| {
        // SAFETY: all-zero is a valid sigaction (no flags, empty mask); the handler touches nothing.
        let failed = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as libc::sighandler_t;
            libc::sigaction(signal_number(), &raw const action, std::ptr::null_mut()) != 0
        };
        if failed { Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL)) } else { Ok(()) }
    });
    result.map_err(io::Error::from_raw_os_error)
}

/// The thread may have inherited a mask that blocks the signal.
fn unblock_signal() -> io::Result<()> {
    // SAFETY: the set is initialised by sigemptyset before use; only this thread's mask changes.
    let error = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal_number());
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut())
    };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

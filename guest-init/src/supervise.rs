//! The rest of PID 1's life: reap every orphan, forward signals to the agent, and end everything after it.

use std::fmt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use crate::error::InitError;

/// What PID 1 forwards to the agent.
const FORWARDED: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// How long processes have for their end after SIGTERM, and again after SIGKILL.
const PATIENCE: Duration = Duration::from_secs(2);

/// How the agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The host asked for it.
    Orderly,
    /// It could not go on.
    Failed {
        /// Its exit status.
        status: i32,
    },
    /// It crashed or was killed.
    Killed {
        /// The signal's number.
        signal: i32,
    },
}

impl End {
    fn from_wait_status(status: i32) -> Self {
        if libc::WIFSIGNALED(status) {
            return Self::Killed { signal: libc::WTERMSIG(status) };
        }
        match libc::WEXITSTATUS(status) {
            0 => Self::Orderly,
            status => Self::Failed { status },
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Orderly => f.write_str("orderly shutdown"),
            Self::Failed { status } => write!(f, "failed with exit status {status}"),
            Self::Killed { signal } => write!(f, "killed by signal {signal}"),
        }
    }
}

/// The signals that PID 1 waits for must not arrive before it does.
pub(crate) fn block_signals() -> Result<(), InitError> {
    awaited().thread_block().map_err(InitError::os("block signals"))
}

/// Reaps and forwards until the agent ends, then ends every other process.
pub(crate) fn until_end(agent: Pid) -> Result<End, InitError> {
    let signals = awaited();
    loop {
        let signal = signals.wait().map_err(InitError::os("wait for a signal"))?;
        if signal != Signal::SIGCHLD {
            // If it has just ended, its SIGCHLD comes next.
            let _ = kill(agent, signal);
            continue;
        }
        while let Reaped::Child { pid, status } = reap() {
            if pid == agent.as_raw() {
                end_others();
                return Ok(End::from_wait_status(status));
            }
        }
    }
}

fn awaited() -> SigSet {
    FORWARDED.iter().chain([&Signal::SIGCHLD]).copied().collect()
}

fn end_others() {
    let everyone = Pid::from_raw(-1);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // A stopped process only ends once it goes on.
        let found = kill(everyone, signal).and_then(|()| kill(everyone, Signal::SIGCONT));
        if found == Err(Errno::ESRCH) || reap_all(Instant::now() + PATIENCE) {
            return;
        }
    }
}

/// Reaps until no child is left; false if some still are at the deadline.
fn reap_all(deadline: Instant) -> bool {
    loop {
        match reap() {
            Reaped::Child { .. } => {}
            Reaped::Nobody => return true,
            Reaped::NotYet => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return false;
                }
                wait_for_child(left);
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reaped {
    Child { pid: i32, status: i32 },
    NotYet,
    Nobody,
}

use raw::{reap, wait_for_child};

mod raw {
    //! Two waits whose wrappers know too few signals or none.
    // UNSAFETY: raw system calls on locals.
    #![expect(unsafe_code, reason = "waitpid with real-time signals, sigtimedwait")]

    use std::time::Duration;

    use super::Reaped;

    /// Reaps one child, if one has ended.
    pub(super) fn reap() -> Reaped {
        let mut status = 0;
        // SAFETY: waitpid writes one int, and `status` is one.
        match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) } {
            0 => Reaped::NotYet,
            pid if pid > 0 => Reaped::Child { pid, status },
            _ => Reaped::Nobody,
        }
    }

    /// Waits until a child ends, but not longer than `most`.
    pub(super) fn wait_for_child(most: Duration) {
        let tv_sec = libc::time_t::try_from(most.as_secs()).unwrap_or(1);
        let most = libc::timespec { tv_sec, tv_nsec: most.subsec_nanos().into() };
        // SAFETY: the set is a local that the first two calls write; sigtimedwait reads it and the timespec, and
        // may be given no place for details.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGCHLD);
            libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const most);
        }
    }
}

//! A child's session, signals, streams and terminal.
// UNSAFETY: dup2, sigprocmask and terminal ioctls on integers and locals.
#![expect(unsafe_code, reason = "raw system calls")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Uid, fchown, setsid};
use supermachine_agent_protocol::WindowSize;

use crate::reply::{Step, failed, os_error};
use crate::sys;

/// A terminal that was just opened.
#[derive(Debug)]
pub(crate) struct Terminal {
    master: OwnedFd,
    slave: OwnedFd,
}

impl Terminal {
    /// Opens one at a `ptmx` device.
    pub(crate) fn open(ptmx: &str, size: WindowSize) -> Step<Self> {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = open(ptmx, flags, Mode::empty()).map_err(failed(|| format!("cannot open a terminal: {ptmx}")))?;
        Self::with_master(master, size).map_err(failed(|| "cannot open a terminal".to_owned()))
    }

    /// Opens one at a handle of a `ptmx` device.
    pub(crate) fn open_at(ptmx: BorrowedFd<'_>, size: WindowSize) -> Step<Self> {
        Self::open(&format!("/proc/self/fd/{}", ptmx.as_raw_fd()), size)
    }

    fn with_master(master: OwnedFd, size: WindowSize) -> std::io::Result<Self> {
        sys::unlock_terminal(&master)?;
        let slave = sys::open_terminal(&master)?;
        sys::set_window_size(&master, size)?;
        Ok(Self { master, slave })
    }

    /// The agent's end.
    pub(crate) fn master(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }

    /// The process's end.
    pub(crate) fn slave(&self) -> BorrowedFd<'_> {
        self.slave.as_fd()
    }
}

/// A session of its own, with everything at its default that the agent and the Rust runtime changed.
pub(super) fn begin() -> Step {
    setsid().map_err(failed(|| "cannot prepare the process".to_owned()))?;
    default_signals();
    // Modes are meant as they are given until the program is entered.
    umask(Mode::empty());
    Ok(())
}

/// Makes pipes the standard streams.
pub(super) fn take_pipes(pipes: &[OwnedFd; 3]) -> Step {
    take(pipes.each_ref().map(AsFd::as_fd))
}

/// Makes a terminal the standard streams, controls the session with it and gives it to its user.
pub(super) fn take_terminal(terminal: &Terminal, owner: Uid) -> Step {
    take([terminal.slave(); 3])?;
    // Where the user cannot own it (in a user namespace without that id), it stays as it is.
    let _ = fchown(terminal.slave(), Some(owner), None);
    // SAFETY: the call takes integers.
    Errno::result(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) })
        .map(drop)
        .map_err(|errno| os_error("cannot take the terminal", errno))
}

fn take(fds: [BorrowedFd<'_>; 3]) -> Step {
    for (number, fd) in (0..).zip(fds) {
        // SAFETY: the call takes two integers. The agent's descriptors are above 2 (the standard library opens the
        // first three at start), so no source is overwritten before its turn.
        Errno::result(unsafe { libc::dup2(fd.as_raw_fd(), number) })
            .map_err(|errno| os_error("cannot prepare the process", errno))?;
    }
    Ok(())
}

fn default_signals() {
    // SAFETY: an all-zero signal set is a valid value to be overwritten, and the pointers are to that local.
    // The calls cannot fail with these arguments.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

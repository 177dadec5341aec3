//! Processes by descriptor: an end is an event, and a number that was used again is not taken for the old process.

use std::fs;
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A process that stays the same whatever becomes of its number.
#[derive(Debug)]
pub struct Process {
    pidfd: OwnedFd,
}

impl Process {
    /// The process that has this number now.
    pub fn open(pid: u32) -> io::Result<Self> {
        Ok(Self { pidfd: raw::pidfd_open(pid)? })
    }

    /// The process with this number that started at this time, see [`start_time`]; `None` if it is gone.
    pub fn find(pid: u32, started: u64) -> Option<Self> {
        let process = Self::open(pid).ok()?;
        // Read after the descriptor was opened: if it is still the same, the descriptor is its.
        (start_time(pid) == Some(started)).then_some(process)
    }

    /// Waits until it has ended; `false` if it has not after `timeout`.
    pub fn wait(&self, timeout: PollTimeout) -> io::Result<bool> {
        let mut fds = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        loop {
            match poll(&mut fds, timeout) {
                Err(nix::errno::Errno::EINTR) => {}
                other => return Ok(other? > 0),
            }
        }
    }

    /// Sends it a signal; one that has ended takes none.
    pub fn signal(&self, number: i32) -> io::Result<()> {
        match raw::pidfd_send_signal(&self.pidfd, number) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other,
        }
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// When a process started, in clock ticks since the host's boot (proc_pid_stat(5), field 22).
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may have blanks and parentheses in it.
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

mod raw {
    //! System calls without a wrapper.
    // UNSAFETY: raw system calls on numbers and descriptors that are owned here.
    #![expect(unsafe_code, reason = "pidfd_open, pidfd_send_signal")]

    use super::{FromRawFd, OwnedFd, io};
    use std::os::fd::AsRawFd;

    pub(super) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
        // SAFETY: takes two numbers and no memory.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given this descriptor to us alone.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    pub(super) fn pidfd_send_signal(pidfd: &OwnedFd, number: i32) -> io::Result<()> {
        // SAFETY: a null `info` is allowed, no other memory is taken.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                pidfd.as_raw_fd(),
                number,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

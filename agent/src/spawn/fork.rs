//! Making a child that may go on as ordinary Rust: this program has one thread, so the copy is whole.
// UNSAFETY: clone3 and _exit have no wrappers.
#![expect(unsafe_code, reason = "clone3 without CLONE_VM, _exit")]

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use crate::sys;

/// `include/uapi/linux/sched.h`; the constants of the libc crate have too narrow a type for these fields.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const CLONE_PIDFD: u64 = 0x1000;

/// Who goes on after the call.
#[derive(Debug)]
pub(crate) enum Forked {
    /// The new process. It must end with [`leave`].
    Child,
    /// The caller.
    Parent {
        /// The child's process id.
        pid: libc::pid_t,
        /// Readable when the child has ended.
        pidfd: OwnedFd,
    },
}

/// Forks into new namespaces and a control group.
pub(crate) fn fork(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> nix::Result<Forked> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: the arguments are plain data, for which all zero is a value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = CLONE_PIDFD | namespaces;
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(cgroup.as_raw_fd()).map_err(|_| Errno::EBADF)?;
    }
    // SAFETY: callers pass namespace flags only, so without CLONE_VM this is fork: the agent has one thread and the
    // child's copy of its memory is whole. `pidfd` is a local that the kernel writes.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match Errno::result(pid)? {
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent { pid: pid.try_into().unwrap_or(-1), pidfd: sys::own(pidfd) }),
    }
}

/// Ends a child at once: nothing of the agent's is flushed or dropped.
pub(crate) fn leave(status: libc::c_int) -> ! {
    // SAFETY: _exit takes an integer and does not return.
    unsafe { libc::_exit(status) }
}

/// Ends the process when it is dropped: a child that panics must not unwind into the agent's loop.
#[derive(Debug)]
pub(crate) struct LeaveOnDrop;

impl Drop for LeaveOnDrop {
    fn drop(&mut self) {
        leave(127)
    }
}

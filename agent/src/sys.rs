//! System calls that have no safe wrapper (or one that knows too few signals).
// UNSAFETY: raw system calls; each takes only integers, or pointers to locals that outlive it.
#![expect(unsafe_code, reason = "raw system calls")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use supermachine_agent_protocol::{ExitStatus, WindowSize};

/// Undoes what the agent's own parent left it, so that processes do not inherit it: ignored signals, and
/// descriptors that are open across an exec.
pub(crate) fn drop_inheritance() {
    // All zero is the kernel's `struct sigaction` for the default action, on every architecture.
    let default = [0_u64; 4];
    let set_size = size_of::<u64>();
    // SAFETY: the calls take integers and a pointer to a local that is as large as the kernel's struct; a default
    // action is always sound. They fail for signals that cannot be changed and on kernels without the call, which
    // is no error here. The C library's wrapper would leave out two signals, which its posix_spawn ignores.
    unsafe {
        for signal in (1..=64).filter(|signal| *signal != libc::SIGPIPE) {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null_mut::<u64>(), set_size);
        }
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
}

/// Closes all descriptors from 3 on but those in `keep`. To be called in a child that touches no others.
pub(crate) fn close_others(keep: &mut [RawFd]) {
    keep.sort_unstable();
    let mut first: libc::c_uint = 3;
    for fd in keep.iter().filter_map(|fd| libc::c_uint::try_from(*fd).ok()) {
        if let Some(last) = fd.checked_sub(1).filter(|last| *last >= first) {
            // SAFETY: takes numbers; whoever owns the descriptors is not run in this process again.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
        first = fd.saturating_add(1).max(first);
    }
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
}

/// Owns a descriptor that a system call has just returned.
pub(crate) fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: callers pass a descriptor that the kernel has just made for them, so nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A descriptor that becomes readable when the child `pid` ends; `pid` is not yet reaped.
pub(crate) fn pidfd_open(pid: libc::pid_t) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers; it makes a close-on-exec descriptor or fails.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    RawFd::try_from(fd).ok().filter(|fd| *fd >= 0).map(own).ok_or_else(io::Error::last_os_error)
}

/// How many bytes can be read from a pipe now.
pub(crate) fn readable_bytes(fd: impl AsFd) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, and `count` is one.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut count) };
    checked(result)?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Sets a terminal's size; the kernel tells its foreground processes.
pub(crate) fn set_window_size(terminal: impl AsFd, size: WindowSize) -> io::Result<()> {
    let size = libc::winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize, and `size` is one.
    let result = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    checked(result)
}

/// Lets the other end of a pseudo-terminal be opened.
pub(crate) fn unlock_terminal(master: impl AsFd) -> io::Result<()> {
    let locked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int, and `locked` is one.
    checked(unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCSPTLCK, &raw const locked) })
}

/// Opens the other end of a pseudo-terminal without a path, so whatever is mounted at `/dev/pts`.
pub(crate) fn open_terminal(master: impl AsFd) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags by value and returns a new descriptor or fails.
    let fd = unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCGPTPEER, flags) };
    checked(fd)?;
    Ok(own(fd))
}

/// Sends a signal to a process, or with a negative number to a process group.
pub(crate) fn kill(pid: libc::pid_t, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: the call takes two integers.
    checked(unsafe { libc::kill(pid, signal) })
}

/// Whether a signal ends a process that does nothing about it.
pub(crate) fn ends_by_default(signal: libc::c_int) -> bool {
    let others = [
        0,
        libc::SIGCHLD,
        libc::SIGCONT,
        libc::SIGSTOP,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGURG,
        libc::SIGWINCH,
    ];
    (1..=64).contains(&signal) && !others.contains(&signal)
}

/// Reaps the child `pid` if it has ended.
pub(crate) fn reap(pid: libc::pid_t) -> io::Result<Option<ExitStatus>> {
    let mut status: libc::c_int = 0;
    // SAFETY: waitpid writes one int, and `status` is one.
    let reaped = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) };
    checked(reaped)?;
    let number = |value: libc::c_int| u32::try_from(value).unwrap_or(0);
    Ok(match reaped {
        0 => None,
        _ if libc::WIFSIGNALED(status) => Some(ExitStatus::Signaled(number(libc::WTERMSIG(status)))),
        _ => Some(ExitStatus::Exited(number(libc::WEXITSTATUS(status)))),
    })
}

/// Kills the child `pid` and waits for its end.
pub(crate) fn kill_and_reap(pid: libc::pid_t) {
    // It is a child that is not reaped, so neither call has a reason to fail.
    let _ = kill(pid, libc::SIGKILL);
    // SAFETY: waitpid may be given no place for the status.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
}

/// Most bytes of one [`add_entropy`].
const ENTROPY_MAX: usize = supermachine_agent_protocol::identity::ENTROPY_MAX;

/// The kernel's `struct rand_pool_info` with its buffer.
#[repr(C)]
struct Entropy {
    bits: libc::c_int,
    bytes: libc::c_int,
    buffer: [u8; ENTROPY_MAX],
}

/// Adds bytes to the kernel's pool and counts all their bits.
pub(crate) fn add_entropy(random: RawFd, bytes: &[u8]) -> io::Result<()> {
    let mut entropy = Entropy { bits: 0, bytes: 0, buffer: [0; ENTROPY_MAX] };
    let space = entropy.buffer.get_mut(..bytes.len()).ok_or(io::ErrorKind::InvalidInput)?;
    space.copy_from_slice(bytes);
    entropy.bytes = libc::c_int::try_from(bytes.len()).map_err(io::Error::other)?;
    entropy.bits = entropy.bytes.saturating_mul(8);
    // SAFETY: RNDADDENTROPY reads the two numbers and then as many bytes as the second says, which is at most the buffer.
    checked(unsafe { libc::ioctl(random, RNDADDENTROPY, &raw const entropy) })
}

/// Has the kernel's generator take its pool into use at once.
pub(crate) fn reseed(random: RawFd) -> io::Result<()> {
    // SAFETY: RNDRESEEDCRNG takes no argument.
    checked(unsafe { libc::ioctl(random, RNDRESEEDCRNG) })
}

/// `_IOW('R', 0x03, int[2])` and `_IO('R', 0x07)` of `linux/random.h`; the request's type is the C library's.
const RNDADDENTROPY: libc::Ioctl = 0x4008_5203;
const RNDRESEEDCRNG: libc::Ioctl = 0x5207;
/// `BLKPG`, `BLKPG_ADD_PARTITION` and `BLKPG_DEL_PARTITION` of `linux/blkpg.h`, `BLKROSET` of `linux/fs.h`.
const BLKPG: libc::Ioctl = 0x1269;
const ADD_PARTITION: libc::c_int = 1;
const DEL_PARTITION: libc::c_int = 2;
const BLKROSET: libc::Ioctl = 0x125d;

/// `struct blkpg_partition` of `linux/blkpg.h`.
#[repr(C)]
struct Partition {
    start: libc::c_longlong,
    length: libc::c_longlong,
    number: libc::c_int,
    names: [[u8; 64]; 2],
}

/// `struct blkpg_ioctl_arg` of `linux/blkpg.h`.
#[repr(C)]
struct PartitionArgument {
    operation: libc::c_int,
    flags: libc::c_int,
    length: libc::c_int,
    data: *mut Partition,
}

/// Makes a part of a block device, in bytes, its partition `number`, instead of what that was before.
pub(crate) fn add_partition(disk: impl AsFd, number: u8, start: u64, length: u64) -> io::Result<()> {
    let bytes = |count: u64| libc::c_longlong::try_from(count).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL));
    let (start, length) = (bytes(start)?, bytes(length)?);
    let mut data = Partition { start, length, number: number.into(), names: [[0; 64]; 2] };
    let mut call = |operation| {
        let length = size_of::<Partition>() as libc::c_int;
        let argument = PartitionArgument { operation, flags: 0, length, data: &raw mut data };
        // SAFETY: BLKPG reads the argument and the partition it points to; both are locals of the kernel's shape that
        // outlive the call.
        checked(unsafe { libc::ioctl(disk.as_fd().as_raw_fd(), BLKPG, &raw const argument) })
    };
    match call(ADD_PARTITION) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            call(DEL_PARTITION)?;
            call(ADD_PARTITION)
        }
        other => other,
    }
}

/// Lets nobody write to a block device, the kernel's own file systems included.
pub(crate) fn set_disk_read_only(disk: impl AsFd) -> io::Result<()> {
    let read_only: libc::c_int = 1;
    // SAFETY: BLKROSET reads one int, and `read_only` is one.
    checked(unsafe { libc::ioctl(disk.as_fd().as_raw_fd(), BLKROSET, &raw const read_only) })
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

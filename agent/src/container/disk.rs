//! Block devices: waiting for their backing, and the partitions of one.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use supermachine_agent_protocol::container::Extent;

use crate::reply::{Step, failed, unavailable};

/// How long the kernel may take to notice what a device got, after the host was told that it has it.
const BACKING_LIMIT: Duration = Duration::from_secs(10);

/// Opens a block device that has, or soon has, `end` bytes.
pub(super) fn open(device: &str, end: u64) -> Step<File> {
    let error = || failed(|| format!("open disk {device:?}"));
    // Before the first look: what the kernel says after it is not missed.
    let log = KernelLog::open();
    let mut disk = File::open(device).map_err(error())?;
    let deadline = Instant::now() + BACKING_LIMIT;
    while length(&mut disk).map_err(error())? < end {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || !log.as_ref().is_ok_and(|log| log.wait(left)) {
            return Err(unavailable(format!("disk {device:?} has fewer than {end} bytes")));
        }
    }
    Ok(disk)
}

fn length(disk: &mut File) -> io::Result<u64> {
    disk.seek(SeekFrom::End(0))
}

/// Makes a part of a disk a device of its own; gives its name.
pub(super) fn partition(disk: &File, name: &str, number: u8, part: &Extent) -> Step<String> {
    crate::sys::add_partition(disk, number, part.offset, part.length)
        .map_err(failed(|| format!("make partition {number} of {name:?}")))?;
    let separator = if name.ends_with(|last: char| last.is_ascii_digit()) { "p" } else { "" };
    Ok(format!("{name}{separator}{number}"))
}

/// The kernel's messages. A device that gets its first backing makes no other event that can be waited for.
struct KernelLog(File);

impl KernelLog {
    fn open() -> io::Result<Self> {
        let mut log = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg")?;
        log.seek(SeekFrom::End(0))?;
        Ok(Self(log))
    }

    /// Waits for a message and takes all there are; `false` if none came.
    fn wait(&self, limit: Duration) -> bool {
        let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        if !poll(&mut fds, timeout).is_ok_and(|count| count > 0) {
            return false;
        }
        // Each read gives one message; it fails when there is none, or when one was overwritten.
        while (&self.0).read(&mut [0; 8192]).is_ok() {}
        true
    }
}

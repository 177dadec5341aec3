//! Changing files that are there.

use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FallocateFlags};

use super::super::common::{new_owner, permissions, timestamps};
use super::{Host, Pin};
use crate::error::Errno;
use crate::spec;
use crate::stat::NewTimes;

impl Host {
    /// Sets permissions, setuid, setgid and sticky.
    pub(crate) fn change_mode(&self, pin: &Pin, mode: u32) -> Result<(), Errno> {
        Ok(rustix::fs::chmodat(&self.descriptors, self.link(pin), permissions(mode), AtFlags::empty())?)
    }

    pub(crate) fn change_owner(&self, pin: &Pin, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        let (uid, gid) = new_owner(uid, gid)?;
        Ok(rustix::fs::chownat(&pin.0, c"", uid, gid, AtFlags::EMPTY_PATH)?)
    }

    pub(crate) fn change_times(&self, pin: &Pin, times: NewTimes) -> Result<(), Errno> {
        Ok(rustix::fs::utimensat(&self.descriptors, self.link(pin), &timestamps(times)?, AtFlags::empty())?)
    }

    /// Allocates, frees or clears a range of an open file.
    pub(crate) fn allocate(&self, fd: BorrowedFd<'_>, mode: u32, offset: u64, len: u64) -> Result<(), Errno> {
        let keep = spec::FALLOC_FL_KEEP_SIZE;
        let flags = match mode & !keep {
            0 => FallocateFlags::empty(),
            spec::FALLOC_FL_PUNCH_HOLE if mode & keep != 0 => FallocateFlags::PUNCH_HOLE,
            spec::FALLOC_FL_ZERO_RANGE => FallocateFlags::ZERO_RANGE,
            _ => return Err(Errno::OPNOTSUPP),
        };
        let kept = if mode & keep == 0 { FallocateFlags::empty() } else { FallocateFlags::KEEP_SIZE };
        Ok(rustix::fs::fallocate(fd, flags | kept, offset, len)?)
    }

    /// Copies between open files inside the host; gives the bytes copied.
    pub(crate) fn copy_range(
        &self,
        (from, mut from_offset): (BorrowedFd<'_>, u64),
        (to, mut to_offset): (BorrowedFd<'_>, u64),
        len: usize,
    ) -> Result<usize, Errno> {
        Ok(rustix::fs::copy_file_range(from, Some(&mut from_offset), to, Some(&mut to_offset), len)?)
    }

    /// Writes an open file's data to its disk.
    pub(crate) fn sync_data(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        Ok(rustix::fs::fdatasync(fd)?)
    }

    /// Writes everything of the file system of an open file to its disk.
    pub(crate) fn sync_file_system(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        Ok(rustix::fs::syncfs(fd)?)
    }
}

//! Changing files that are there.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FallocateFlags, RenameFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::process::{Gid, Uid};

use super::{Host, Pin, permissions};
use crate::error::Errno;
use crate::spec;
use crate::stat::{NewTimes, Time};

impl Host {
    /// Sets permissions, setuid, setgid and sticky.
    pub(crate) fn change_mode(&self, pin: &Pin, mode: u32) -> Result<(), Errno> {
        Ok(rustix::fs::chmodat(&self.descriptors, self.link(pin), permissions(mode), AtFlags::empty())?)
    }

    pub(crate) fn change_owner(&self, pin: &Pin, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
            return Err(Errno::INVAL);
        }
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        Ok(rustix::fs::chownat(&pin.0, c"", uid, gid, AtFlags::EMPTY_PATH)?)
    }

    pub(crate) fn change_times(&self, pin: &Pin, times: NewTimes) -> Result<(), Errno> {
        let times = Timestamps { last_access: timespec(times.atime)?, last_modification: timespec(times.mtime)? };
        Ok(rustix::fs::utimensat(&self.descriptors, self.link(pin), &times, AtFlags::empty())?)
    }

    /// Renames within one file system; `flags` are those of renameat2.
    pub(crate) fn rename(
        &self,
        (from, name): (BorrowedFd<'_>, &CStr),
        (to, new_name): (BorrowedFd<'_>, &CStr),
        flags: u32,
    ) -> Result<(), Errno> {
        let flags = match flags {
            0 => RenameFlags::empty(),
            spec::RENAME_NOREPLACE => RenameFlags::NOREPLACE,
            spec::RENAME_EXCHANGE => RenameFlags::EXCHANGE,
            _ => return Err(Errno::INVAL),
        };
        Ok(rustix::fs::renameat_with(from, name, to, new_name, flags)?)
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

fn timespec(time: Option<Option<Time>>) -> Result<Timespec, Errno> {
    let special = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    match time {
        None => Ok(special(UTIME_OMIT)),
        Some(None) => Ok(special(UTIME_NOW)),
        Some(Some(time)) if time.nsec < 1_000_000_000 => Ok(Timespec { tv_sec: time.sec, tv_nsec: time.nsec.into() }),
        Some(Some(_)) => Err(Errno::INVAL),
    }
}

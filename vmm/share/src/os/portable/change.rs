//! Changing files that are there.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, RenameFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::process::{Gid, Uid};

use super::{Host, Pin, permissions};
use crate::error::Errno;
use crate::spec;
use crate::stat::{NewTimes, OpenMode, Place, Time};

impl Host {
    /// Sets permissions, setuid, setgid and sticky.
    pub(crate) fn change_mode(&self, pin: &Pin, mode: u32) -> Result<(), Errno> {
        let mode = permissions(mode);
        let (dir, name) = match &pin.place {
            Place::Fd(fd) => return Ok(rustix::fs::fchmod(fd, mode)?),
            Place::At { dir, name } => (dir, name),
        };
        match rustix::fs::chmodat(dir, name, mode, AtFlags::SYMLINK_NOFOLLOW) {
            // Not every system can do that without following links.
            Err(rustix::io::Errno::OPNOTSUPP) => Ok(rustix::fs::fchmod(self.open(pin, OpenMode::READ)?, mode)?),
            changed => Ok(changed?),
        }
    }

    pub(crate) fn change_owner(&self, pin: &Pin, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
            return Err(Errno::INVAL);
        }
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        match &pin.place {
            Place::Fd(fd) => rustix::fs::fchown(fd, uid, gid)?,
            Place::At { dir, name } => rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?,
        }
        Ok(())
    }

    pub(crate) fn change_times(&self, pin: &Pin, times: NewTimes) -> Result<(), Errno> {
        let times = Timestamps { last_access: timespec(times.atime)?, last_modification: timespec(times.mtime)? };
        match &pin.place {
            Place::Fd(fd) => rustix::fs::futimens(fd, &times)?,
            Place::At { dir, name } => rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)?,
        }
        Ok(())
    }

    /// Renames within one file system; `flags` are those of renameat2.
    pub(crate) fn rename(
        &self,
        (from, name): (BorrowedFd<'_>, &CStr),
        (to, new_name): (BorrowedFd<'_>, &CStr),
        flags: u32,
    ) -> Result<(), Errno> {
        let flags = match flags {
            0 => return Ok(rustix::fs::renameat(from, name, to, new_name)?),
            spec::RENAME_NOREPLACE => RenameFlags::NOREPLACE,
            spec::RENAME_EXCHANGE => RenameFlags::EXCHANGE,
            _ => return Err(Errno::INVAL),
        };
        Ok(rustix::fs::renameat_with(from, name, to, new_name, flags)?)
    }

    /// Not on these systems.
    pub(crate) fn allocate(&self, _fd: BorrowedFd<'_>, _mode: u32, _offset: u64, _len: u64) -> Result<(), Errno> {
        Err(Errno::OPNOTSUPP)
    }

    /// Not on these systems: the guest copies.
    pub(crate) fn copy_range(
        &self,
        _from: (BorrowedFd<'_>, u64),
        _to: (BorrowedFd<'_>, u64),
        _len: usize,
    ) -> Result<usize, Errno> {
        Err(Errno::OPNOTSUPP)
    }

    /// Writes an open file's data to its disk, and here its attributes too.
    pub(crate) fn sync_data(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        Ok(rustix::fs::fsync(fd)?)
    }

    /// Writes an open file or directory to its disk: no call does that for one file system.
    pub(crate) fn sync_file_system(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        self.sync_data(fd.as_fd())
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

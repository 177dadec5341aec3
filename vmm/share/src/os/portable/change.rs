//! Changing files that are there.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::AtFlags;

use super::super::common::{new_owner, permissions, timestamps};
use super::{Host, Pin};
use crate::error::Errno;
use crate::stat::{NewTimes, OpenMode, Place};

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
        let (uid, gid) = new_owner(uid, gid)?;
        match &pin.place {
            Place::Fd(fd) => rustix::fs::fchown(fd, uid, gid)?,
            Place::At { dir, name } => rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?,
        }
        Ok(())
    }

    pub(crate) fn change_times(&self, pin: &Pin, times: NewTimes) -> Result<(), Errno> {
        let times = timestamps(times)?;
        match &pin.place {
            Place::Fd(fd) => rustix::fs::futimens(fd, &times)?,
            Place::At { dir, name } => rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)?,
        }
        Ok(())
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

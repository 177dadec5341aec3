//! Making files.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::process::{Gid, Uid};

use super::super::common::permissions;
use super::{Host, Pin, name_of, open_flags, stat_fd};
use crate::error::Errno;
use crate::spec;
use crate::stat::{OpenMode, Owner};

impl Host {
    /// Makes and opens a regular file that was not there.
    pub(crate) fn create(
        &self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        (permission, owner): (u32, Owner),
        mode: OpenMode,
    ) -> Result<OwnedFd, Errno> {
        let flags = open_flags(mode) | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let (owner, _) = inherited(dir, owner)?;
        let fd = rustix::fs::openat(dir, name, flags, private(permission))?;
        self.settle(fd.as_fd(), permission, owner)?;
        Ok(fd)
    }

    /// Not on these systems.
    pub(crate) fn create_unnamed(
        &self,
        _dir: BorrowedFd<'_>,
        _made: (u32, Owner),
        _mode: OpenMode,
    ) -> Result<OwnedFd, Errno> {
        Err(Errno::OPNOTSUPP)
    }

    pub(crate) fn make_directory(
        &self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        (permission, owner): (u32, Owner),
    ) -> Result<(), Errno> {
        let (owner, setgid) = inherited(dir, owner)?;
        rustix::fs::mkdirat(dir, name, private(permission | 0o700))?;
        let made = self.directory(dir, name)?;
        self.settle(made.as_fd(), permission | setgid, owner)
    }

    /// Not on these systems; devices on none.
    pub(crate) fn make_special(
        &self,
        _dir: BorrowedFd<'_>,
        _name: &CStr,
        mode: u32,
        _owner: Owner,
    ) -> Result<(), Errno> {
        match mode & spec::S_IFMT {
            spec::S_IFIFO | spec::S_IFSOCK => Err(Errno::OPNOTSUPP),
            _ => Err(Errno::PERM),
        }
    }

    pub(crate) fn make_link(&self, target: &CStr, dir: BorrowedFd<'_>, name: &CStr, owner: Owner) -> Result<(), Errno> {
        let (owner, _) = inherited(dir, owner)?;
        rustix::fs::symlinkat(target, dir, name)?;
        if let (true, Some((uid, gid))) = (self.root, ids(owner)) {
            rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }

    /// Gives the file another name.
    pub(crate) fn link_to(&self, pin: &Pin, dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        let (from, old) = name_of(&pin.place).ok_or(Errno::OPNOTSUPP)?;
        Ok(rustix::fs::linkat(from, old, dir, name, AtFlags::empty())?)
    }

    /// Gives a new file its owner, then its mode.
    fn settle(&self, fd: BorrowedFd<'_>, permission: u32, owner: Owner) -> Result<(), Errno> {
        if let (true, Some((uid, gid))) = (self.root, ids(owner)) {
            rustix::fs::fchown(fd, Some(uid), Some(gid))?;
        }
        Ok(rustix::fs::fchmod(fd, permissions(permission))?)
    }
}

/// Linux's rule: in a setgid directory everything new has its group, and directories are setgid as well.
fn inherited(dir: BorrowedFd<'_>, owner: Owner) -> Result<(Owner, u32), Errno> {
    let parent = stat_fd(dir)?;
    match parent.mode & spec::S_ISGID {
        0 => Ok((owner, 0)),
        setgid => Ok((Owner { gid: parent.gid, ..owner }, setgid)),
    }
}

/// What the owner may, and nobody else yet.
fn private(permission: u32) -> Mode {
    permissions(permission & 0o700)
}

fn ids(owner: Owner) -> Option<(Uid, Gid)> {
    let valid = owner.uid != u32::MAX && owner.gid != u32::MAX;
    valid.then(|| (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid)))
}

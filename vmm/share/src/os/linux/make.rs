//! Making files.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::super::common::permissions;
use super::credentials::assume;
use super::{Host, Pin, open_flags, stat_fd};
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
        self.create_with(dir, name, (permission, owner), flags)
    }

    /// Makes and opens a regular file without a name in the file system of `dir`.
    pub(crate) fn create_unnamed(
        &self,
        dir: BorrowedFd<'_>,
        (permission, owner): (u32, Owner),
        mode: OpenMode,
    ) -> Result<OwnedFd, Errno> {
        self.create_with(dir, c".", (permission, owner), open_flags(mode) | OFlags::TMPFILE)
    }

    fn create_with(
        &self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        (permission, owner): (u32, Owner),
        flags: OFlags,
    ) -> Result<OwnedFd, Errno> {
        let fd = {
            let _assumed = assume(owner)?;
            rustix::fs::openat(dir, name, flags, permissions(permission))?
        };
        let lost = permission & self.umask;
        if lost != 0 {
            let now = stat_fd(fd.as_fd())?.mode;
            rustix::fs::fchmod(&fd, permissions(now | lost))?;
        }
        Ok(fd)
    }

    pub(crate) fn make_directory(
        &self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        (permission, owner): (u32, Owner),
    ) -> Result<(), Errno> {
        {
            let _assumed = assume(owner)?;
            rustix::fs::mkdirat(dir, name, permissions(permission))?;
        }
        self.restore_mode(dir, name, permission, spec::S_IFDIR)
    }

    /// Makes a fifo or a socket.
    pub(crate) fn make_special(&self, dir: BorrowedFd<'_>, name: &CStr, mode: u32, owner: Owner) -> Result<(), Errno> {
        let kind = match mode & spec::S_IFMT {
            spec::S_IFIFO => FileType::Fifo,
            spec::S_IFSOCK => FileType::Socket,
            _ => return Err(Errno::PERM),
        };
        {
            let _assumed = assume(owner)?;
            rustix::fs::mknodat(dir, name, kind, permissions(mode), 0)?;
        }
        self.restore_mode(dir, name, mode, mode & spec::S_IFMT)
    }

    pub(crate) fn make_link(&self, target: &CStr, dir: BorrowedFd<'_>, name: &CStr, owner: Owner) -> Result<(), Errno> {
        let _assumed = assume(owner)?;
        Ok(rustix::fs::symlinkat(target, dir, name)?)
    }

    /// Gives the file another name.
    pub(crate) fn link_to(&self, pin: &Pin, dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        Ok(rustix::fs::linkat(&self.descriptors, self.link(pin), dir, name, AtFlags::SYMLINK_FOLLOW)?)
    }

    /// Puts back what the process's umask took from a new file, which is still of this kind.
    fn restore_mode(&self, dir: BorrowedFd<'_>, name: &CStr, mode: u32, kind: u32) -> Result<(), Errno> {
        let lost = mode & self.umask & spec::PERMISSIONS;
        if lost == 0 {
            return Ok(());
        }
        let pin = self.pin_name(dir, name)?;
        let now = stat_fd(pin.0.as_fd())?;
        if now.identity.kind != kind {
            return Err(Errno::STALE);
        }
        self.change_mode(&pin, Mode::bits(&permissions(now.mode | lost)))
    }
}

//! What the host says about a file, in neutral form.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::spec;

/// A point in time, as files have it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) sec: i64,
    pub(crate) nsec: u32,
}

/// What makes a file this file: it stays the same when the file is renamed, and differs from that of a later file with the
/// same number where the host's file system keeps the time of creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    /// Time of creation, in ns since 1970; 0 if unknown.
    pub(crate) born_ns: i64,
    /// The type, one of the `S_IF…`.
    pub(crate) kind: u32,
}

/// The attributes of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stat {
    pub(crate) identity: Identity,
    /// Type and permissions.
    pub(crate) mode: u32,
    pub(crate) nlink: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) rdev: (u32, u32),
    pub(crate) size: u64,
    /// Of 512 bytes.
    pub(crate) blocks: u64,
    pub(crate) blksize: u32,
    pub(crate) atime: Time,
    pub(crate) mtime: Time,
    pub(crate) ctime: Time,
    pub(crate) btime: Option<Time>,
}

impl Time {
    /// In ns since 1970, clamped.
    pub(crate) fn as_ns(self) -> i64 {
        self.sec.saturating_mul(1_000_000_000).saturating_add(i64::from(self.nsec))
    }
}

impl Stat {
    /// The permissions that a write leaves by somebody of group `gid` who may not keep setuid and setgid; none if
    /// those that are there. A member of the file's group keeps a setgid that does not mean execution; the groups
    /// that a caller has besides are not known here.
    pub(crate) fn without_privileges(&self, gid: u32) -> Option<u32> {
        let keeps_setgid = self.mode & spec::S_IXGRP == 0 && self.gid == gid;
        let lost = if keeps_setgid { spec::S_ISUID } else { spec::S_ISUID | spec::S_ISGID };
        (self.mode & lost != 0).then_some(self.mode & spec::PERMISSIONS & !lost)
    }
}

/// Where the file of a node is reached.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// This descriptor is of the file itself.
    Fd(Arc<OwnedFd>),
    /// It has, or had, this name in this directory.
    At {
        /// The directory.
        dir: Arc<OwnedFd>,
        /// One component.
        name: CString,
    },
}

/// Whom a new file belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Times to set: none keeps, `Some(None)` is now.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NewTimes {
    pub(crate) atime: Option<Option<Time>>,
    pub(crate) mtime: Option<Option<Time>>,
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OpenMode {
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) truncate: bool,
    /// O_SYNC, which has `dsync` as well, or O_DSYNC of the guest.
    pub(crate) sync: bool,
    pub(crate) dsync: bool,
    /// Leave the time of the last access alone.
    pub(crate) no_atime: bool,
}

impl OpenMode {
    pub(crate) const READ: Self =
        Self { read: true, write: false, truncate: false, sync: false, dsync: false, no_atime: false };
    pub(crate) const WRITE: Self = Self { read: false, write: true, ..Self::READ };

    /// From the open flags of a request. What makes files or waits is another's business.
    pub(crate) fn from_guest(flags: u32) -> Self {
        let access = flags & spec::O_ACCMODE;
        Self {
            read: access != spec::O_WRONLY,
            write: access != spec::O_RDONLY,
            truncate: flags & spec::O_TRUNC != 0,
            sync: flags & spec::O_SYNC_BIT != 0,
            dsync: flags & spec::O_DSYNC != 0,
            no_atime: flags & spec::O_NOATIME != 0,
        }
    }

    /// Whether the file may be other afterwards.
    pub(crate) fn changes(self) -> bool {
        self.write || self.truncate
    }
}

/// An entry of a directory.
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a std::ffi::CStr,
    pub(crate) ino: u64,
    /// One of the `S_IF…`, 0 if the file system does not tell.
    pub(crate) kind: u32,
    /// Where reading goes on after this entry.
    pub(crate) next: u64,
}

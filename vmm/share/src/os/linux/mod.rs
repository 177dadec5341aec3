//! Linux: files are held by `O_PATH` descriptors and opened through `/proc/self/fd`, which leads to the file itself and
//! to nothing else; new files get their owner from the credentials of the thread that makes them.

mod change;
mod credentials;
mod list;
mod make;

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatVfs, Statx, StatxFlags, StatxTimestamp};

pub(crate) use list::Listing;

use super::common;
use crate::error::{Errno, ShareError, stale};
use crate::spec;
use crate::stat::{Identity, OpenMode, Place, Stat, Time};

/// Any descriptor leads to its file, with other rights than its own too.
pub(crate) const PREFERS_NAMES: bool = false;

/// What this process has for serving files. Threads share it; another process cannot use it.
#[derive(Debug)]
pub(crate) struct Host {
    /// `/proc/self/fd`
    descriptors: OwnedFd,
    /// Bits that the system takes from the mode of every new file.
    umask: u32,
}

/// A file that was found to be the one that was meant.
#[derive(Debug)]
pub(crate) struct Pin(Arc<OwnedFd>);

impl Host {
    pub(crate) fn new() -> Result<Self, ShareError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptors = rustix::fs::openat(CWD, c"/proc/self/fd", flags, Mode::empty())
            .map_err(|error| ShareError::System { what: "/proc/self/fd", source: error.into() })?;
        Ok(Self { descriptors, umask: umask()? })
    }

    /// Holds on to the file at `place`.
    ///
    /// # Errors
    /// ESTALE: it is not the one with `identity`, or no longer there.
    pub(crate) fn pin(&self, place: &Place, identity: &Identity) -> Result<Pin, Errno> {
        match place {
            Place::Fd(fd) => Ok(Pin(Arc::clone(fd))),
            Place::At { dir, name } => {
                let pin = self.pin_name(dir.as_fd(), name).map_err(stale)?;
                let same = stat_fd(pin.0.as_fd())?.identity == *identity;
                if same { Ok(pin) } else { Err(Errno::STALE) }
            }
        }
    }

    /// Holds on to whatever has the name.
    pub(crate) fn pin_name(&self, dir: BorrowedFd<'_>, name: &CStr) -> Result<Pin, Errno> {
        let fd = rustix::fs::openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Pin(Arc::new(fd)))
    }

    /// A descriptor of directory `name` that others can be found from.
    pub(crate) fn directory(&self, dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?)
    }

    /// Opens a regular file or a directory. Anything else is refused: opening it would do something.
    pub(crate) fn open(&self, pin: &Pin, mode: OpenMode) -> Result<OwnedFd, Errno> {
        let kind = stat_fd(pin.0.as_fd())?.identity.kind;
        match kind {
            spec::S_IFREG => self.reopen(pin, open_flags(mode)),
            spec::S_IFDIR => self.reopen(pin, open_flags(mode) | OFlags::DIRECTORY),
            spec::S_IFLNK => Err(Errno::LOOP),
            _ => Err(Errno::ACCES),
        }
    }

    fn reopen(&self, pin: &Pin, flags: OFlags) -> Result<OwnedFd, Errno> {
        Ok(rustix::fs::openat(&self.descriptors, self.link(pin), flags, Mode::empty())?)
    }

    /// The name in `self.descriptors` that leads to the file.
    fn link(&self, pin: &Pin) -> CString {
        CString::new(pin.0.as_raw_fd().to_string()).unwrap_or_default()
    }

    /// The attributes of a file.
    pub(crate) fn stat_pinned(&self, pin: &Pin) -> Result<Stat, Errno> {
        stat_fd(pin.0.as_fd())
    }

    /// Sizes of the file system that a file is on.
    pub(crate) fn file_system(&self, pin: &Pin) -> Result<StatVfs, Errno> {
        Ok(rustix::fs::fstatvfs(&pin.0)?)
    }

    /// The target of a symbolic link.
    pub(crate) fn read_link(&self, pin: &Pin) -> Result<Vec<u8>, Errno> {
        Ok(rustix::fs::readlinkat(&pin.0, c"", Vec::new())?.into_bytes())
    }
}

/// The flags for opening. Only regular files and directories are opened: no waiting.
fn open_flags(mode: OpenMode) -> OFlags {
    let mut flags = common::open_flags(mode);
    flags.set(OFlags::TRUNC, mode.truncate);
    flags.set(OFlags::NOATIME, mode.no_atime);
    flags
}

/// Opens what is to be shared.
pub(crate) fn open_root(path: &std::path::Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

/// The process's umask. Reading it by umask(2) would change it for a moment, for all threads.
fn umask() -> Result<u32, ShareError> {
    let status = std::fs::read_to_string("/proc/self/status")
        .map_err(|source| ShareError::System { what: "/proc/self/status", source })?;
    let field = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    Ok(field.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).unwrap_or(0o777))
}

/// The attributes of an open file.
pub(crate) fn stat_fd(fd: BorrowedFd<'_>) -> Result<Stat, Errno> {
    stat(fd, c"", AtFlags::EMPTY_PATH)
}

/// The attributes of what has the name, be it a symbolic link.
pub(crate) fn stat_at(dir: BorrowedFd<'_>, name: &CStr) -> Result<Stat, Errno> {
    stat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

fn stat(fd: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> Result<Stat, Errno> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let raw = rustix::fs::statx(fd, name, flags | AtFlags::NO_AUTOMOUNT, wanted)?;
    Ok(neutral(&raw))
}

fn neutral(raw: &Statx) -> Stat {
    let btime = (raw.stx_mask & StatxFlags::BTIME.bits() != 0).then(|| time(raw.stx_btime));
    let mode = u32::from(raw.stx_mode);
    Stat {
        identity: Identity {
            dev: u64::from(raw.stx_dev_major) << 32 | u64::from(raw.stx_dev_minor),
            ino: raw.stx_ino,
            born_ns: btime.map_or(0, Time::as_ns),
            kind: mode & spec::S_IFMT,
        },
        mode,
        nlink: raw.stx_nlink,
        uid: raw.stx_uid,
        gid: raw.stx_gid,
        rdev: (raw.stx_rdev_major, raw.stx_rdev_minor),
        size: raw.stx_size,
        blocks: raw.stx_blocks,
        blksize: raw.stx_blksize,
        atime: time(raw.stx_atime),
        mtime: time(raw.stx_mtime),
        ctime: time(raw.stx_ctime),
        btime,
    }
}

fn time(raw: StatxTimestamp) -> Time {
    Time { sec: raw.tv_sec, nsec: raw.tv_nsec }
}

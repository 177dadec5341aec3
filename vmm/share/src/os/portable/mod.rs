//! Any Unix: no descriptor holds a file without opening it, so a file is a checked name in an open directory. It is
//! checked again after each opening. Whoever exchanges files on the host at the right moment can have a change of mode,
//! owner or times hit another file of the same directory, and no other one.
//!
//! Without counterpart here: fifos and sockets, files without names, fallocate, copy_file_range, O_NOATIME. A new file
//! has its owner an instant after it has its name; nobody else may open it before.

mod change;
mod list;
mod make;

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatVfs};

pub(crate) use list::Listing;

use super::common;
use crate::error::{Errno, ShareError, stale};
use crate::spec;
use crate::stat::{Identity, OpenMode, Place, Stat, Time};

/// A descriptor can do what it was opened for, and nothing else.
pub(crate) const PREFERS_NAMES: bool = true;

/// What this process has for serving files.
#[derive(Debug)]
pub(crate) struct Host {
    /// Whether new files can be given to others.
    root: bool,
}

/// A file that was found to be the one that was meant.
#[derive(Debug)]
pub(crate) struct Pin {
    place: Place,
    identity: Identity,
}

impl Host {
    pub(crate) fn new() -> Result<Self, ShareError> {
        Ok(Self { root: rustix::process::geteuid().is_root() })
    }

    /// Holds on to the file at `place`.
    ///
    /// # Errors
    /// ESTALE: it is not the one with `identity`, or no longer there.
    pub(crate) fn pin(&self, place: &Place, identity: &Identity) -> Result<Pin, Errno> {
        match place {
            Place::Fd(fd) => Ok(Pin { place: place.clone(), identity: stat_fd(fd.as_fd())?.identity }),
            Place::At { dir, name } => {
                let now = stat_at(dir.as_fd(), name).map_err(stale)?.identity;
                if now == *identity { Ok(Pin { place: place.clone(), identity: now }) } else { Err(Errno::STALE) }
            }
        }
    }

    /// Holds on to whatever has the name.
    pub(crate) fn pin_name(&self, dir: BorrowedFd<'_>, name: &CStr) -> Result<Pin, Errno> {
        let identity = stat_at(dir, name)?.identity;
        let dir = dir.try_clone_to_owned().map_err(|_| Errno::NFILE)?;
        Ok(Pin { place: Place::At { dir: Arc::new(dir), name: name.to_owned() }, identity })
    }

    /// A descriptor of directory `name` that others can be found from.
    pub(crate) fn directory(&self, dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?)
    }

    /// Opens a regular file or a directory. Anything else is refused: opening it would do something.
    pub(crate) fn open(&self, pin: &Pin, mode: OpenMode) -> Result<OwnedFd, Errno> {
        match pin.identity.kind {
            spec::S_IFREG | spec::S_IFDIR => {}
            spec::S_IFLNK => return Err(Errno::LOOP),
            _ => return Err(Errno::ACCES),
        }
        match &pin.place {
            Place::At { dir, name } => {
                // It is emptied only when it is known to be the right one.
                let writable = OpenMode { write: mode.write || mode.truncate, ..mode };
                let file = self.open_name(dir.as_fd(), name, writable)?;
                if stat_fd(file.as_fd())?.identity != pin.identity {
                    return Err(Errno::STALE);
                }
                emptied(file, mode)
            }
            Place::Fd(fd) if pin.identity.kind == spec::S_IFDIR => self.open_name(fd.as_fd(), c".", mode),
            Place::Fd(fd) => emptied(duplicate(fd, mode)?, mode),
        }
    }

    fn open_name(&self, dir: BorrowedFd<'_>, name: &CStr, mode: OpenMode) -> Result<OwnedFd, Errno> {
        let opened = rustix::fs::openat(dir, name, open_flags(mode) | OFlags::NOFOLLOW, Mode::empty());
        opened.map_err(|error| stale(error.into()))
    }

    /// The attributes of a file.
    pub(crate) fn stat_pinned(&self, pin: &Pin) -> Result<Stat, Errno> {
        match &pin.place {
            Place::Fd(fd) => stat_fd(fd.as_fd()),
            Place::At { dir, name } => stat_at(dir.as_fd(), name).map_err(stale),
        }
    }

    /// Sizes of the file system that a file is on. A file that is a mount of its own has those of its directory.
    pub(crate) fn file_system(&self, pin: &Pin) -> Result<StatVfs, Errno> {
        Ok(match &pin.place {
            Place::Fd(fd) => rustix::fs::fstatvfs(fd)?,
            Place::At { .. } if pin.identity.kind == spec::S_IFDIR => {
                rustix::fs::fstatvfs(self.open(pin, OpenMode::READ)?)?
            }
            Place::At { dir, .. } => rustix::fs::fstatvfs(dir)?,
        })
    }

    /// The target of a symbolic link.
    pub(crate) fn read_link(&self, pin: &Pin) -> Result<Vec<u8>, Errno> {
        match &pin.place {
            Place::Fd(_) => Err(Errno::INVAL),
            Place::At { dir, name } => Ok(rustix::fs::readlinkat(dir.as_fd(), name, Vec::new())?.into_bytes()),
        }
    }
}

/// A second descriptor for a file whose name is not known, if the first may do what is asked.
fn duplicate(fd: &OwnedFd, mode: OpenMode) -> Result<OwnedFd, Errno> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    let access = flags & OFlags::RWMODE;
    let enough = access == OFlags::RDWR || access == open_flags(mode) & OFlags::RWMODE;
    if enough { fd.try_clone().map_err(|_| Errno::NFILE) } else { Err(Errno::ACCES) }
}

fn emptied(file: OwnedFd, mode: OpenMode) -> Result<OwnedFd, Errno> {
    if mode.truncate {
        rustix::fs::ftruncate(&file, 0)?;
    }
    Ok(file)
}

/// The flags for opening, which never wait for a file.
fn open_flags(mode: OpenMode) -> OFlags {
    common::open_flags(mode) | OFlags::NONBLOCK
}

/// Opens what is to be shared: a directory, or a file to read and write where that is permitted.
pub(crate) fn open_root(path: &std::path::Path) -> rustix::io::Result<OwnedFd> {
    let open = |flags| rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty());
    match FileType::from_raw_mode(rustix::fs::stat(path)?.st_mode) {
        FileType::RegularFile => open(OFlags::RDWR).or_else(|_| open(OFlags::RDONLY)),
        FileType::Directory => open(OFlags::RDONLY),
        _ => Err(rustix::io::Errno::OPNOTSUPP),
    }
}

/// The attributes of an open file.
pub(crate) fn stat_fd(fd: BorrowedFd<'_>) -> Result<Stat, Errno> {
    Ok(neutral(&rustix::fs::fstat(fd)?))
}

/// The attributes of what has the name, be it a symbolic link.
pub(crate) fn stat_at(dir: BorrowedFd<'_>, name: &CStr) -> Result<Stat, Errno> {
    Ok(neutral(&rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?))
}

fn neutral(raw: &rustix::fs::Stat) -> Stat {
    let btime = birth(raw);
    let mode = narrow(raw.st_mode);
    Stat {
        identity: Identity {
            dev: wide(raw.st_dev),
            ino: wide(raw.st_ino),
            born_ns: btime.map_or(0, Time::as_ns),
            kind: mode & spec::S_IFMT,
        },
        mode,
        nlink: narrow(raw.st_nlink),
        uid: raw.st_uid,
        gid: raw.st_gid,
        rdev: (rustix::fs::major(raw.st_rdev), rustix::fs::minor(raw.st_rdev)),
        size: wide(raw.st_size),
        blocks: wide(raw.st_blocks),
        blksize: narrow(raw.st_blksize),
        atime: Time { sec: raw.st_atime, nsec: narrow(raw.st_atime_nsec) },
        mtime: Time { sec: raw.st_mtime, nsec: narrow(raw.st_mtime_nsec) },
        ctime: Time { sec: raw.st_ctime, nsec: narrow(raw.st_ctime_nsec) },
        btime,
    }
}

#[cfg(target_vendor = "apple")]
fn birth(raw: &rustix::fs::Stat) -> Option<Time> {
    Some(Time { sec: raw.st_birthtime, nsec: narrow(raw.st_birthtime_nsec) })
}

#[cfg(not(target_vendor = "apple"))]
fn birth(_raw: &rustix::fs::Stat) -> Option<Time> {
    None
}

/// The systems' fields have different widths and signs, and values that fit here.
fn narrow(value: impl TryInto<u32>) -> u32 {
    value.try_into().unwrap_or(u32::MAX)
}

fn wide(value: impl TryInto<u64>) -> u64 {
    value.try_into().unwrap_or(u64::MAX)
}

/// The name, which only a file that was found by it has.
fn name_of(place: &Place) -> Option<(BorrowedFd<'_>, &CString)> {
    match place {
        Place::Fd(_) => None,
        Place::At { dir, name } => Some((dir.as_fd(), name)),
    }
}

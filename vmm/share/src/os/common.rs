//! What both variants do in the same way.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Mode, OFlags, RawMode, RenameFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::process::{Gid, Uid};

use super::Host;
use crate::error::Errno;
use crate::spec;
use crate::stat::{NewTimes, OpenMode, Time};

impl Host {
    /// Renames within one file system; `flags` are those of renameat2.
    pub(crate) fn rename(
        &self,
        (from, name): (BorrowedFd<'_>, &CStr),
        (to, new_name): (BorrowedFd<'_>, &CStr),
        flags: u32,
    ) -> Result<(), Errno> {
        let flags = match flags {
            // The plain call is there where the other one is not.
            0 => return Ok(rustix::fs::renameat(from, name, to, new_name)?),
            spec::RENAME_NOREPLACE => RenameFlags::NOREPLACE,
            spec::RENAME_EXCHANGE => RenameFlags::EXCHANGE,
            _ => return Err(Errno::INVAL),
        };
        Ok(rustix::fs::renameat_with(from, name, to, new_name, flags)?)
    }
}

/// Permissions, setuid, setgid and sticky of a mode.
pub(super) fn permissions(mode: u32) -> Mode {
    Mode::from_bits_truncate((mode & spec::PERMISSIONS) as RawMode)
}

/// The flags for opening that all systems have, but for emptying. They never make a file.
pub(super) fn open_flags(mode: OpenMode) -> OFlags {
    let mut flags = OFlags::CLOEXEC | OFlags::NOCTTY;
    flags |= match (mode.read, mode.write) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        _ => OFlags::RDONLY,
    };
    if mode.dsync {
        flags |= if mode.sync { OFlags::SYNC } else { OFlags::DSYNC };
    }
    flags
}

/// What kind of file an entry of a directory is said to be, as in a mode; 0 if that is not said.
pub(super) fn kind_of(entry: FileType) -> u32 {
    match entry {
        FileType::Unknown => 0,
        // Wider on some systems than on others, and always in 16 bits.
        known => u32::from(known.as_raw_mode() as u16),
    }
}

/// A new owner.
///
/// # Errors
/// EINVAL: a number that means none.
pub(super) fn new_owner(uid: Option<u32>, gid: Option<u32>) -> Result<(Option<Uid>, Option<Gid>), Errno> {
    if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
        return Err(Errno::INVAL);
    }
    Ok((uid.map(Uid::from_raw), gid.map(Gid::from_raw)))
}

/// New times.
///
/// # Errors
/// EINVAL: more nanoseconds than a second has.
pub(super) fn timestamps(times: NewTimes) -> Result<Timestamps, Errno> {
    Ok(Timestamps { last_access: timespec(times.atime)?, last_modification: timespec(times.mtime)? })
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

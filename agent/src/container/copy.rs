//! Copies the content of a directory that a new file system hides.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstat, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat, symlinkat};

use super::inside::kind;

/// Copies what is in one directory into another, with owners, modes and times, and the directory's own.
pub(super) fn copy_folder(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> nix::Result<()> {
    let from = reopen(from)?;
    for name in names(&from)? {
        copy_entry(&from, to, &name)?;
    }
    dress(to, OsStr::new("."), &fstat(&from)?)
}

fn copy_entry(from: &OwnedFd, to: BorrowedFd<'_>, name: &OsStr) -> nix::Result<()> {
    let handle = openat(from, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    let status = fstat(&handle)?;
    match kind(&status) {
        SFlag::S_IFDIR => {
            mkdirat(to, name, Mode::from_bits_truncate(0o700))?;
            let folder = openat(to, name, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
            return copy_folder(handle.as_fd(), folder.as_fd());
        }
        SFlag::S_IFLNK => symlinkat(readlinkat(&handle, "")?.as_os_str(), to, name)?,
        SFlag::S_IFREG => {
            let source = openat(from, name, OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            let target = openat(to, name, flags, Mode::from_bits_truncate(0o600))?;
            let copied = std::io::copy(&mut File::from(source), &mut File::from(target));
            copied.map_err(|error| crate::reply::errno_of(&error))?;
        }
        other => mknodat(to, name, other, Mode::from_bits_truncate(0o600), status.st_rdev)?,
    }
    dress(to, name, &status)
}

/// Gives an entry the owner, mode and times of another.
fn dress(folder: BorrowedFd<'_>, name: &OsStr, like: &FileStat) -> nix::Result<()> {
    let (uid, gid) = (Uid::from_raw(like.st_uid), Gid::from_raw(like.st_gid));
    fchownat(folder, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if kind(like) != SFlag::S_IFLNK {
        fchmodat(folder, name, Mode::from_bits_truncate(like.st_mode & 0o7777), FchmodatFlags::FollowSymlink)?;
    }
    let accessed = TimeSpec::new(like.st_atime, like.st_atime_nsec);
    let modified = TimeSpec::new(like.st_mtime, like.st_mtime_nsec);
    utimensat(folder, name, &accessed, &modified, nix::sys::stat::UtimensatFlags::NoFollowSymlink)
}

/// A handle of a directory that can be read.
fn reopen(folder: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    openat(folder, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

fn names(folder: &OwnedFd) -> nix::Result<Vec<OsString>> {
    let copy = folder.try_clone().map_err(|error| crate::reply::errno_of(&error))?;
    let mut entries = nix::dir::Dir::from_fd(copy)?;
    let mut names = Vec::new();
    for entry in entries.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name.to_vec()));
        }
    }
    Ok(names)
}

//! Finding and making paths inside a root that is not this process's, never leaving it.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, mkdirat};

/// Links followed in one path, as many as the kernel would.
const MOST_LINKS: usize = 40;
const FOLDER_MODE: Mode = Mode::from_bits_truncate(0o755);
const FILE_MODE: Mode = Mode::from_bits_truncate(0o644);

/// What is done where a path does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// It is an error.
    Refuse,
    /// A directory is made, and those above it.
    MakeDirectory,
    /// An empty file is made, and the directories above it.
    MakeFile,
}

/// A directory as a root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inside<'a>(pub(crate) BorrowedFd<'a>);

impl Inside<'_> {
    /// Finds `path`: links are followed, and lead nowhere but inside.
    pub(crate) fn find(&self, path: &str, missing: Missing) -> nix::Result<OwnedFd> {
        match self.find_there(path) {
            Ok(found) => Ok(found),
            Err(Errno::ENOENT) if missing == Missing::Refuse => Err(Errno::ENOENT),
            // What is missing is made on the way; and one of `/proc`'s links is followed by its text.
            Err(_) => self.walk(path, missing),
        }
    }

    /// The kernel's own way, in one step.
    fn find_there(&self, path: &str) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        openat2(self.0, path, OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_IN_ROOT))
    }

    fn walk(&self, path: &str, missing: Missing) -> nix::Result<OwnedFd> {
        let mut above: Vec<OwnedFd> = Vec::new();
        let mut todo = components(OsStr::new(path));
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == ".." {
                above.pop();
                continue;
            }
            let here = above.last().map_or(self.0, AsFd::as_fd);
            let fd = step(here, &name, if todo.is_empty() { missing } else { missing.above() })?;
            if kind(&fstat(&fd)?) != SFlag::S_IFLNK {
                above.push(fd);
                continue;
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno::ELOOP);
            }
            let target = readlinkat(&fd, "")?;
            if target.as_bytes().starts_with(b"/") {
                above.clear();
            }
            todo.extend(components(&target));
        }
        match above.pop() {
            Some(fd) => Ok(fd),
            None => self.0.try_clone_to_owned().map_err(|_| Errno::EMFILE),
        }
    }

    /// Finds the directory that holds `path`, made if missing, and gives it with the last part of the name.
    pub(crate) fn find_parent(&self, path: &str) -> nix::Result<(OwnedFd, OsString)> {
        let mut parts = components(OsStr::new(path));
        if parts.is_empty() || parts.iter().any(|part| part == "..") {
            return Err(Errno::EINVAL);
        }
        let name = parts.remove(0);
        parts.reverse();
        let parent = parts.join(OsStr::new("/"));
        let parent = self.find(parent.to_str().ok_or(Errno::EINVAL)?, Missing::MakeDirectory)?;
        Ok((parent, name))
    }
}

impl Missing {
    fn above(self) -> Self {
        if self == Self::Refuse { self } else { Self::MakeDirectory }
    }
}

/// The type of a file.
pub(crate) fn kind(status: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(status.st_mode & SFlag::S_IFMT.bits())
}

/// Names of a path, the last first.
fn components(path: &OsStr) -> Vec<OsString> {
    let parts = path.as_bytes().split(|byte| *byte == b'/').rev();
    parts.filter(|part| !part.is_empty() && *part != b".").map(|part| OsStr::from_bytes(part).to_owned()).collect()
}

fn step(here: BorrowedFd<'_>, name: &OsStr, missing: Missing) -> nix::Result<OwnedFd> {
    let open = || openat(here, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty());
    match (open(), missing) {
        (Err(Errno::ENOENT), Missing::MakeDirectory) => mkdirat(here, name, FOLDER_MODE)?,
        (Err(Errno::ENOENT), Missing::MakeFile) => {
            drop(openat(here, name, OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC, FILE_MODE)?);
        }
        (other, _) => return other,
    }
    open()
}

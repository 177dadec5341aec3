//! Errors of the library, and the error numbers that the guest gets.

use std::io;

use crate::spec::errno;

/// Why a share or a server could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// The root of the share cannot be opened.
    #[error("cannot open {path:?} to share it")]
    Open {
        /// The path as it was given.
        path: std::path::PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The root of the share cannot be examined.
    #[error("cannot examine the root of a share")]
    Root {
        /// What the system said.
        source: io::Error,
    },
    /// The root of a share is a symbolic link.
    #[error("the root of a share is a symbolic link")]
    RootIsLink,
    /// One more share than [`crate::Limits::shares`].
    #[error("more than {limit} shares")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// What the server needs of the system is not there.
    #[error("cannot use {what}")]
    System {
        /// The missing thing.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// An error number of Linux, positive, as the guest gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) i32);

macro_rules! named {
    ($($name:ident = $value:ident),* $(,)?) => {
        impl Errno {
            $(pub(crate) const $name: Self = Self(errno::$value);)*
        }
    };
}

named!(
    PERM = EPERM,
    NOENT = ENOENT,
    IO = EIO,
    TOOBIG = E2BIG,
    BADF = EBADF,
    ACCES = EACCES,
    EXIST = EEXIST,
    XDEV = EXDEV,
    NOTDIR = ENOTDIR,
    ISDIR = EISDIR,
    INVAL = EINVAL,
    NFILE = ENFILE,
    ROFS = EROFS,
    RANGE = ERANGE,
    NAMETOOLONG = ENAMETOOLONG,
    NOSYS = ENOSYS,
    LOOP = ELOOP,
    NODATA = ENODATA,
    PROTO = EPROTO,
    OVERFLOW = EOVERFLOW,
    OPNOTSUPP = EOPNOTSUPP,
    STALE = ESTALE,
);

impl From<rustix::io::Errno> for Errno {
    fn from(host: rustix::io::Errno) -> Self {
        crate::os::guest_errno(host)
    }
}

/// Of a node that was found once: what is gone now is a stale node, not a missing name.
pub(crate) fn stale(error: Errno) -> Errno {
    if matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP) { Errno::STALE } else { error }
}

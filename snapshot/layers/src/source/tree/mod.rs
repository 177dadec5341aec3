//! A directory tree of the host.
//!
//! One descriptor stands in the directory that is read. Down it goes by a name that must not be a symbolic link, up by `..`, which must
//! be the directory it came from. So the walk cannot be led out of the tree, needs no more descriptors for a deep tree than for a
//! flat one, and sees when the tree changes under it.

#[cfg_attr(target_os = "linux", path = "linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "other.rs")]
mod beside;
mod file;
mod stat;
mod walk;
mod xattr;

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::squashfs::{ImageError, ImageWriter};

/// Errors with directory trees.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Something cannot be read.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Something was written, removed or replaced between the first look at it and the last.
    #[error("{} changed while it was read", path.display())]
    Changed {
        /// What did.
        path: PathBuf,
    },
    /// A kind of file that an image cannot hold.
    #[error("{} is of no kind that squashfs can hold", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// The image cannot hold it.
    #[error("{}", path.display())]
    Image {
        /// What the image cannot hold.
        path: PathBuf,
        /// Why not.
        #[source]
        source: ImageError,
    },
}

/// Puts the tree below `root` into the image.
pub(crate) fn read_tree(root: &Path, image: &mut ImageWriter) -> Result<(), TreeError> {
    walk::Walk::new(root, image)?.run()
}

/// What went wrong at a place that is not yet named.
enum Trouble {
    Errno(&'static str, Errno),
    Io(&'static str, io::Error),
    Image(ImageError),
    Changed,
    Kind,
}

impl Trouble {
    fn at(self, path: PathBuf) -> TreeError {
        match self {
            Self::Errno(what, errno) => TreeError::Io { what, path, source: errno.into() },
            Self::Io(what, source) => TreeError::Io { what, path, source },
            Self::Image(source) => TreeError::Image { path, source },
            Self::Changed => TreeError::Changed { path },
            Self::Kind => TreeError::Kind { path },
        }
    }

    /// What it means that something just listed cannot be opened or looked at.
    fn gone(what: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| match errno {
            Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::NXIO | Errno::STALE => Self::Changed,
            other => Self::Errno(what, other),
        }
    }
}

impl From<ImageError> for Trouble {
    fn from(error: ImageError) -> Self {
        Self::Image(error)
    }
}

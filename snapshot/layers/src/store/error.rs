//! Errors of the store.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::fingerprint::FingerprintError;

/// Why the store cannot do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or directory of the store.
    #[error("layer store: cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// An image that something names is gone.
    #[error("layer store: image {image} is not there; make the bundle again")]
    NoImage {
        /// The image.
        image: Digest,
    },
    /// What was to be packed cannot be read.
    #[error(transparent)]
    Fingerprint(#[from] FingerprintError),
    /// A tree that never stood still.
    #[error("{} changed each of {tries} times while it was packed", path.display())]
    Changing {
        /// The tree.
        path: PathBuf,
        /// How often it was packed.
        tries: u32,
    },
    /// A converter wrote something else than it says.
    #[error("layer store: the image has {found} bytes, its writer said {said}")]
    Length {
        /// Bytes of the file.
        found: u64,
        /// Bytes by the writer's word.
        said: u64,
    },
}

/// Why there is no image: the store's errors, or those `E` of who was to write it.
#[derive(Debug, thiserror::Error)]
pub enum MakeError<E: std::error::Error + 'static> {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The writer of the image.
    #[error(transparent)]
    Make(E),
}

pub(super) fn io_error<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |source| StoreError::Io { what, path: path.to_owned(), source }
}

/// Nothing instead of an error about something that is not there.
pub(super) fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

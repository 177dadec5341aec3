//! What can go wrong in the store.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use crate::error::SnapshotError;

/// Whatever the one who bakes failed with.
pub type BakeFailure = Box<dyn Error + Send + Sync>;

/// The store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The baker failed. Nothing is left of it.
    #[error("the template could not be baked")]
    Bake {
        /// With this.
        #[source]
        source: BakeFailure,
    },
    /// Another process's baker failed while this one waited for it.
    #[error("the template could not be baked by another process: {message}")]
    BakeElsewhere {
        /// With this.
        message: String,
    },
    /// What the baker made is no snapshot.
    #[error("the baker made no snapshot")]
    NotBaked {
        /// Why it is none.
        #[source]
        source: SnapshotError,
    },
    /// What the baker made has other parts in its manifest than the key it was made for.
    #[error("the baker made a snapshot for another key")]
    OtherKey,
    /// Parts of a key that are too long for a manifest.
    #[error("the parts of the template's key do not fit a manifest")]
    Parts {
        /// Why not.
        #[source]
        source: SnapshotError,
    },
    /// A template that cannot be read now, for want of descriptors, memory or permission: it is not removed for that.
    #[error("the template cannot be read")]
    Unreadable {
        /// Why not.
        #[source]
        source: BakeFailure,
    },
}

/// For `map_err`: an I/O error of `path`.
pub(super) fn io_error(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.into();
    move |source| StoreError::Io { what, path, source }
}

//! What can go wrong while the guest starts.

use nix::errno::Errno;

/// Errors of the start; each ends the guest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    /// A file system could not be mounted.
    #[error("mount {fstype} on {target}: {source}")]
    Mount {
        /// Its type.
        fstype: &'static str,
        /// Where.
        target: &'static str,
        /// Why.
        source: Errno,
    },
    /// A file or directory could not be made or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Another system call failed.
    #[error("{action}: {source}")]
    Os {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: Errno,
    },
}

impl InitError {
    /// For `map_err` of system calls.
    pub(crate) fn os(action: &'static str) -> impl FnOnce(Errno) -> Self {
        move |source| Self::Os { action, source }
    }

    /// For `map_err` of file operations.
    pub(crate) fn file(path: &str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { path: path.to_owned(), source }
    }
}

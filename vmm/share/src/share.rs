//! One share: a file or directory of the host, and what the guest may do with it.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use crate::error::ShareError;
use crate::os;
use crate::spec;
use crate::stat::{Identity, OpenMode};

/// What becomes of symbolic links on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SymlinkPolicy {
    /// The guest sees that there is a link, but not where to; it can make none.
    Deny,
    /// Links are data: the guest reads them and resolves them in its own name space.
    #[default]
    Opaque,
    /// The server resolves them, and the guest sees what they lead to, as if the share's root were `/`. A link that
    /// leads nowhere in the share is seen as itself.
    Follow,
}

/// What is shared, and how.
#[derive(Debug)]
pub struct ShareConfig {
    /// A directory, a regular file, or a special file. On Linux `O_PATH` is enough.
    pub root: OwnedFd,
    /// Nothing is changed on the host, not even times of access where that can be avoided.
    pub read_only: bool,
    /// What becomes of symbolic links.
    pub symlinks: SymlinkPolicy,
}

impl ShareConfig {
    /// Shares what is at `path` now, links followed: writable, with opaque links.
    ///
    /// # Errors
    /// The path cannot be opened.
    pub fn open(path: &Path) -> Result<Self, ShareError> {
        let root = os::open_root(path).map_err(|error| ShareError::Open { path: path.into(), source: error.into() })?;
        Ok(Self { root, read_only: false, symlinks: SymlinkPolicy::default() })
    }
}

impl From<File> for ShareConfig {
    /// Shares an open file or directory: writable, with opaque links.
    fn from(file: File) -> Self {
        Self { root: file.into(), read_only: false, symlinks: SymlinkPolicy::default() }
    }
}

/// A share that is served.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) index: u32,
    pub(crate) root: Arc<OwnedFd>,
    pub(crate) identity: Identity,
    pub(crate) read_only: bool,
    pub(crate) symlinks: SymlinkPolicy,
}

/// Node numbers of the shares' roots: always the same, so that they outlive a server.
pub(crate) const FIRST_ROOT: u64 = 2;
/// No share's root has this number or a larger one.
pub(crate) const FIRST_NODE: u64 = 1 << 32;

impl Share {
    pub(crate) fn new(index: u32, config: ShareConfig) -> Result<Self, ShareError> {
        let ShareConfig { root, read_only, symlinks } = config;
        let stat = os::stat_fd(root.as_fd())
            .map_err(|error| ShareError::Root { source: std::io::Error::from_raw_os_error(error.0) })?;
        if stat.identity.kind == spec::S_IFLNK {
            return Err(ShareError::RootIsLink);
        }
        Ok(Self { index, root: Arc::new(root), identity: stat.identity, read_only, symlinks })
    }

    /// The node of the share's root.
    pub(crate) fn node(&self) -> u64 {
        FIRST_ROOT.saturating_add(self.index.into())
    }

    /// `mode`, without traces of reading if the share is read-only.
    pub(crate) fn open_mode(&self, mode: OpenMode) -> OpenMode {
        OpenMode { no_atime: mode.no_atime || self.read_only, ..mode }
    }
}

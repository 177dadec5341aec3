//! The files and directories that the guest has open.

use std::collections::HashMap;
use std::hash::RandomState;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::error::Errno;
use crate::nodes::random_start;
use crate::os::Listing;
use crate::share::Share;

/// An open file or directory.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) node: u64,
    pub(crate) share: Arc<Share>,
    pub(crate) fd: Arc<OwnedFd>,
    /// Of a directory.
    pub(crate) listing: Option<Listing>,
}

impl Handle {
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// All open handles, by the number that the guest has of them. No number is given twice.
#[derive(Debug)]
pub(crate) struct Handles {
    open: HashMap<u64, Arc<Handle>>,
    next: u64,
    most: usize,
}

impl Handles {
    pub(crate) fn new(most: usize) -> Self {
        Self { open: HashMap::new(), next: random_start(&RandomState::new(), "handles") | 1, most }
    }

    pub(crate) fn reset(&mut self) {
        let Self { open, next: _, most: _ } = self;
        open.clear();
    }

    /// Whether one more can be opened.
    pub(crate) fn have_room(&self) -> Result<(), Errno> {
        if self.open.len() < self.most { Ok(()) } else { Err(Errno::NFILE) }
    }

    pub(crate) fn insert(&mut self, handle: Handle) -> Result<u64, Errno> {
        self.have_room()?;
        let fh = self.next;
        self.next = self.next.checked_add(1).ok_or(Errno::NFILE)?;
        self.open.insert(fh, Arc::new(handle));
        Ok(fh)
    }

    /// Handle `fh`, which must be one of `node`.
    pub(crate) fn get(&self, node: u64, fh: u64) -> Result<Arc<Handle>, Errno> {
        self.open.get(&fh).filter(|handle| handle.node == node).cloned().ok_or(Errno::BADF)
    }

    pub(crate) fn remove(&mut self, node: u64, fh: u64) -> Result<Arc<Handle>, Errno> {
        self.get(node, fh)?;
        self.open.remove(&fh).ok_or(Errno::BADF)
    }

    /// A descriptor of any handle of the node.
    pub(crate) fn any_of(&self, node: u64) -> Option<Arc<OwnedFd>> {
        self.open.values().find(|handle| handle.node == node).map(|handle| Arc::clone(&handle.fd))
    }

    /// The number of open handles.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }
}

//! Reading directories: the file system's own positions are the guest's.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{RawDir, SeekFrom};

use super::super::common::kind_of;
use crate::error::Errno;
use crate::stat::Entry;

/// Room for entries in one call, in bytes: at least one of the longest, at most this.
const SMALLEST: usize = 512;
const LARGEST: usize = 64 * 1024;

/// An open directory.
#[derive(Debug)]
pub(crate) struct Listing {
    fd: Arc<OwnedFd>,
    /// Held from seek to read: the position belongs to the descriptor.
    position: Mutex<()>,
}

impl Listing {
    pub(crate) fn new(fd: Arc<OwnedFd>) -> Self {
        Self { fd, position: Mutex::new(()) }
    }

    /// Gives entries from position `offset` on until `each` wants no more; about `size` bytes of them.
    pub(crate) fn read(&self, offset: u64, size: usize, each: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<(), Errno> {
        let mut room = Vec::with_capacity(size.clamp(SMALLEST, LARGEST));
        let _held = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        // Positions are signed 64-bit numbers; one of a hostile guest may be none.
        rustix::fs::seek(self.fd.as_fd(), SeekFrom::Start(offset)).map_err(|_| Errno::INVAL)?;
        let mut entries = RawDir::new(self.fd.as_fd(), room.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let (kind, next) = (kind_of(entry.file_type()), entry.next_entry_cookie());
            if !each(Entry { name: entry.file_name(), ino: entry.ino(), kind, next }) {
                break;
            }
        }
        Ok(())
    }
}

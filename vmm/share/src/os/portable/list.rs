//! Reading directories: positions are places in a list of all entries, made when reading begins, so that they stay
//! what they are while files come and go.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use super::super::common::kind_of;
use crate::error::Errno;
use crate::stat::Entry;

/// Most entries of a directory.
const MOST: usize = 1 << 20;

#[derive(Debug)]
struct Listed {
    name: CString,
    ino: u64,
    kind: u32,
}

/// An open directory.
#[derive(Debug)]
pub(crate) struct Listing {
    fd: Arc<OwnedFd>,
    entries: Mutex<Option<Arc<[Listed]>>>,
}

impl Listing {
    pub(crate) fn new(fd: Arc<OwnedFd>) -> Self {
        Self { fd, entries: Mutex::new(None) }
    }

    /// Gives entries from position `offset` on until `each` wants no more.
    pub(crate) fn read(&self, offset: u64, _size: usize, each: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<(), Errno> {
        let entries = self.entries(offset == 0)?;
        let first = usize::try_from(offset).map_err(|_| Errno::INVAL)?;
        for (next, listed) in (1u64..).zip(entries.iter()).skip(first) {
            if !each(Entry { name: &listed.name, ino: listed.ino, kind: listed.kind, next }) {
                break;
            }
        }
        Ok(())
    }

    fn entries(&self, anew: bool) -> Result<Arc<[Listed]>, Errno> {
        let mut known = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let (false, Some(entries)) = (anew, known.as_ref()) {
            return Ok(Arc::clone(entries));
        }
        let mut all = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd)? {
            let entry = entry?;
            let kind = kind_of(entry.file_type());
            all.push(Listed { name: entry.file_name().to_owned(), ino: entry.ino(), kind });
            if all.len() > MOST {
                return Err(Errno::OVERFLOW);
            }
        }
        let entries: Arc<[Listed]> = all.into();
        *known = Some(Arc::clone(&entries));
        Ok(entries)
    }
}

//! Extended attributes of the entries of a directory, on Linux.
//!
//! No system call older than Linux 6.13 takes an open directory and a name for them. By path they take a third of the time that
//! they take through `/proc/self/fd`, which is left to paths that are too long. Somebody who puts a link into the path meanwhile
//! changes the tree, and is found out by all that is read beside the attributes.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{lgetxattr, llistxattr};
use rustix::io::Errno;

/// Longest list of names, and longest value, that Linux has (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX` of `linux/limits.h`).
const MAX: usize = 65536;
/// Longest path of a directory whose entries have paths that Linux takes (`PATH_MAX` of `linux/limits.h` is 4096).
const PATH_MAX: usize = 3800;

/// Reads the attributes of entries of one directory.
pub(super) struct Reader {
    path: Vec<u8>,
    /// Bytes of `path` before the name.
    prefix: usize,
    list: Vec<u8>,
    value: Vec<u8>,
}

impl Reader {
    /// For the directory `dir`, which stays open as long as this is used, and its path.
    pub(super) fn new(dir: BorrowedFd<'_>, path: &[u8]) -> Self {
        // The longest name of an entry has 255 bytes.
        let mut path = match path.len() {
            0..PATH_MAX => path.to_vec(),
            _ => format!("/proc/self/fd/{}", dir.as_raw_fd()).into_bytes(),
        };
        path.push(b'/');
        Self { prefix: path.len(), path, list: vec![0; 256], value: Vec::new() }
    }

    /// Adds number, names and values of the attributes of the entry `name`, not followed.
    pub(super) fn of(&mut self, name: &CStr, bytes: &mut Vec<u8>) -> Result<(), Errno> {
        self.path.truncate(self.prefix);
        self.path.extend_from_slice(name.to_bytes());
        let path = self.path.as_slice();
        let len = match llistxattr(path, self.list.as_mut_slice()) {
            Err(Errno::RANGE) => {
                self.list.resize(MAX, 0);
                llistxattr(path, self.list.as_mut_slice())?
            }
            // This file system has none.
            Err(Errno::OPNOTSUPP) => 0,
            other => other?,
        };
        bytes.extend_from_slice(&(len as u64).to_le_bytes());
        let list = self.list.get(..len).unwrap_or_default();
        for name in list.split_inclusive(|byte| *byte == 0) {
            self.value.resize(MAX, 0);
            let Ok(text) = CStr::from_bytes_with_nul(name) else { continue };
            let len = match lgetxattr(path, text, self.value.as_mut_slice()) {
                // Removed meanwhile, or not for us to read.
                Err(Errno::NODATA | Errno::ACCESS | Errno::PERM | Errno::OPNOTSUPP) => 0,
                other => other?,
            };
            bytes.extend_from_slice(name);
            bytes.extend_from_slice(&(len as u64).to_le_bytes());
            bytes.extend_from_slice(self.value.get(..len).unwrap_or_default());
        }
        Ok(())
    }
}

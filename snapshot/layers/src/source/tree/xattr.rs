//! Extended attributes of files of the host.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{fgetxattr, flistxattr, lgetxattr, llistxattr};
use rustix::io::Errno;

use super::Trouble;
use crate::squashfs::{XattrSet, can_hold};

const WHAT: &str = "read the extended attributes of";
/// `XATTR_LIST_MAX` and `XATTR_SIZE_MAX` of Linux.
const MOST_BYTES: usize = 65536;

/// Buffers that are used again for each file.
pub(super) struct Reader {
    names: Vec<u8>,
    value: Vec<u8>,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self { names: vec![0; MOST_BYTES], value: vec![0; MOST_BYTES] }
    }

    /// Those of an open file or directory.
    pub(super) fn of(&mut self, file: impl AsFd) -> Result<XattrSet, Trouble> {
        let file = file.as_fd();
        let length = flistxattr(file, &mut self.names[..]);
        self.set(length, |name, value| fgetxattr(file, name, value))
    }

    /// Those of the file that is named, even if it is a symbolic link.
    pub(super) fn at(&mut self, path: &Path) -> Result<XattrSet, Trouble> {
        let length = llistxattr(path, &mut self.names[..]);
        self.set(length, |name, value| lgetxattr(path, name, value))
    }

    fn set(
        &mut self,
        length: rustix::io::Result<usize>,
        get: impl Fn(&CStr, &mut [u8]) -> rustix::io::Result<usize>,
    ) -> Result<XattrSet, Trouble> {
        let mut set = XattrSet::new();
        let length = match length {
            Err(Errno::NOTSUP) => 0,
            other => other.map_err(Trouble::gone(WHAT))?,
        };
        let listed = self.names.get(..length).unwrap_or_default();
        for name in listed.split_inclusive(|byte| *byte == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok()) {
            // What cannot be kept need not be read; it is counted where it is given up.
            let value = if can_hold(name.to_bytes()) {
                let length = get(name, &mut self.value).map_err(|errno| match errno {
                    Errno::NODATA => Trouble::Changed,
                    other => Trouble::gone(WHAT)(other),
                })?;
                self.value.get(..length).unwrap_or_default()
            } else {
                &[]
            };
            set.insert(name.to_bytes().into(), value.into());
        }
        Ok(set)
    }
}

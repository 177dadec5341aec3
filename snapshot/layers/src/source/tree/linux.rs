//! Paths for the calls that take nothing else, on Linux: through the descriptor of the directory.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A path to a name in a directory. Only the name itself can be a symbolic link.
pub(super) fn path(directory: impl AsFd, name: &CStr, _full: impl FnOnce() -> PathBuf) -> PathBuf {
    let number = directory.as_fd().as_raw_fd();
    Path::new("/proc/self/fd").join(number.to_string()).join(OsStr::from_bytes(name.to_bytes()))
}

//! Holes in files: space of the host that the guest does not use any more.

use std::fs::File;
use std::io;

/// Frees a range of a file, which reads as zeroes then. Both numbers are bytes.
#[cfg(target_os = "linux")]
pub(super) fn punch(file: &File, offset: u64, len: u64) -> io::Result<()> {
    use nix::fcntl::{FallocateFlags, fallocate};
    let number = |value: u64| i64::try_from(value).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    Ok(fallocate(file, flags, number(offset)?, number(len)?)?)
}

/// Frees a range of a file: only Linux can.
#[cfg(not(target_os = "linux"))]
pub(super) fn punch(_file: &File, _offset: u64, _len: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

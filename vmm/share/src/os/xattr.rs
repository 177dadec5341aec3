//! Extended attributes of open files, on the systems that have them in common.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use rustix::fs::XattrFlags;

use crate::error::Errno;
use crate::spec;

/// The value of attribute `name`, at most 64 KiB.
pub(crate) fn get_attribute(fd: BorrowedFd<'_>, name: &CStr) -> Result<Vec<u8>, Errno> {
    read_all(&|value| rustix::fs::fgetxattr(fd, name, value))
}

/// The names of all attributes, each with a final zero; at most 64 KiB.
pub(crate) fn list_attributes(fd: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    read_all(&|names| rustix::fs::flistxattr(fd, names))
}

/// Sets attribute `name`; `flags` are XATTR_CREATE and XATTR_REPLACE of the guest.
pub(crate) fn set_attribute(fd: BorrowedFd<'_>, name: &CStr, value: &[u8], flags: u32) -> Result<(), Errno> {
    let flags = match flags {
        0 => XattrFlags::empty(),
        spec::XATTR_CREATE => XattrFlags::CREATE,
        spec::XATTR_REPLACE => XattrFlags::REPLACE,
        _ => return Err(Errno::INVAL),
    };
    Ok(rustix::fs::fsetxattr(fd, name, value, flags)?)
}

/// Removes attribute `name`.
pub(crate) fn remove_attribute(fd: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    Ok(rustix::fs::fremovexattr(fd, name)?)
}

/// Reads into a small buffer, and into one of the largest size there is when the small one is too small.
fn read_all(read: &dyn Fn(&mut [u8]) -> rustix::io::Result<usize>) -> Result<Vec<u8>, Errno> {
    for size in [1024, spec::XATTR_SIZE_MAX] {
        let mut value = vec![0; size];
        match read(&mut value) {
            Ok(len) => {
                value.truncate(len);
                return Ok(value);
            }
            Err(rustix::io::Errno::RANGE) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::RANGE)
}

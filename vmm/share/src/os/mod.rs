//! The system calls on files. Everything above works on descriptors, single names and neutral values.
//!
//! Both variants offer the same functions:
//! - `Host`: what the process may do, and all calls that need to know it.
//! - `Pin`: a file that was found to be the one that was meant, and stays it. On Linux a descriptor that opens nothing
//!   (`O_PATH`); elsewhere a checked name.
//! - `Listing`: a directory that is being read.
//! - `PREFERS_NAMES`: whether a name does more than a descriptor where there are both.

mod common;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod linux;
#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
mod portable;
mod xattr;

#[cfg(all(target_os = "linux", not(feature = "portable")))]
pub(crate) use linux::{Host, Listing, PREFERS_NAMES, Pin, open_root, stat_at, stat_fd};
#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
pub(crate) use portable::{Host, Listing, PREFERS_NAMES, Pin, open_root, stat_at, stat_fd};
pub(crate) use xattr::{get_attribute, list_attributes, remove_attribute, set_attribute};

use crate::error::Errno;

/// Linux's number of an error of the host. A full table of descriptors in this process is one in the guest's system.
pub(crate) fn guest_errno(host: rustix::io::Errno) -> Errno {
    use rustix::io::Errno as Host;
    match host {
        Host::MFILE => Errno::NFILE,
        other => numbers::translate(other),
    }
}

#[cfg(target_os = "linux")]
mod numbers {
    use crate::error::Errno;

    pub(super) fn translate(host: rustix::io::Errno) -> Errno {
        Errno(host.raw_os_error())
    }
}

#[cfg(not(target_os = "linux"))]
mod numbers {
    use crate::error::Errno;
    use rustix::io::Errno as Host;

    /// Errors whose numbers are Linux's on all systems are below 35.
    const COMMON: i32 = 35;
    /// macOS's ENOATTR.
    const NO_ATTRIBUTE: i32 = 93;

    pub(super) fn translate(host: Host) -> Errno {
        match host {
            Host::AGAIN => Errno(11),
            Host::DEADLK => Errno(35),
            Host::NAMETOOLONG => Errno::NAMETOOLONG,
            Host::NOSYS => Errno::NOSYS,
            Host::NOTEMPTY => Errno(39),
            Host::LOOP => Errno::LOOP,
            Host::NODATA => Errno::NODATA,
            Host::OVERFLOW => Errno::OVERFLOW,
            Host::OPNOTSUPP | Host::NOTSUP => Errno::OPNOTSUPP,
            Host::STALE => Errno::STALE,
            Host::DQUOT => Errno(122),
            other if other.raw_os_error() == NO_ATTRIBUTE => Errno::NODATA,
            other if other.raw_os_error() < COMMON => Errno(other.raw_os_error()),
            _ => Errno::IO,
        }
    }
}

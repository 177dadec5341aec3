//! File data between files and guest memory, without a copy in between.

// UNSAFETY: preadv and pwritev take addresses. No safe interface takes those of guest memory, which a `&mut [u8]` may
// never point to: the guest changes it at any time.
#![expect(unsafe_code, reason = "system calls on guest memory")]

use std::os::fd::{AsRawFd, BorrowedFd};

use vm_memory::VolatileSlice;

use crate::error::Errno;

/// Most pieces in one system call (IOV_MAX is 1024 on Linux and macOS).
const PIECES: usize = 1024;

/// One system call on pieces of memory: descriptor, pieces, their number, offset in the file.
type Call<'c> = &'c dyn Fn(libc::c_int, *const libc::iovec, libc::c_int, libc::off_t) -> libc::ssize_t;

/// Reads from `offset` on until the slices are full or the file ends; gives the bytes read.
pub(crate) fn read_at(fd: BorrowedFd<'_>, slices: &[VolatileSlice<'_>], offset: u64) -> Result<usize, Errno> {
    // SAFETY: `transfer` gives addresses and lengths of live guest memory, which is writable.
    transfer(fd, slices, offset, &|fd, pieces, count, at| unsafe { libc::preadv(fd, pieces, count, at) })
}

/// Writes the slices at `offset`; gives the bytes written.
pub(crate) fn write_at(fd: BorrowedFd<'_>, slices: &[VolatileSlice<'_>], offset: u64) -> Result<usize, Errno> {
    // SAFETY: `transfer` gives addresses and lengths of live guest memory.
    transfer(fd, slices, offset, &|fd, pieces, count, at| unsafe { libc::pwritev(fd, pieces, count, at) })
}

/// Writes the slices at the end of the file, wherever that is by then; gives the bytes written. `end` is where the guest
/// thinks that the file ends: overlayfs of some kernels (seen in Linux 6.1) takes the flag, does not pass it on, and writes at the offset.
#[cfg(all(target_os = "linux", not(feature = "portable")))]
pub(crate) fn append(fd: BorrowedFd<'_>, slices: &[VolatileSlice<'_>], end: u64) -> Result<usize, Errno> {
    // SAFETY: `transfer` gives addresses and lengths of live guest memory.
    transfer(fd, slices, end, &|fd, pieces, count, at| unsafe {
        libc::pwritev2(fd, pieces, count, at, libc::RWF_APPEND)
    })
}

/// Writes the slices at the end of the file; gives the bytes written. Another writer may come in between.
#[cfg(not(all(target_os = "linux", not(feature = "portable"))))]
pub(crate) fn append(fd: BorrowedFd<'_>, slices: &[VolatileSlice<'_>], _: u64) -> Result<usize, Errno> {
    let end = rustix::fs::seek(fd, rustix::fs::SeekFrom::End(0))?;
    write_at(fd, slices, end)
}

fn transfer(fd: BorrowedFd<'_>, slices: &[VolatileSlice<'_>], offset: u64, call: Call<'_>) -> Result<usize, Errno> {
    let mut total = 0usize;
    for pieces in slices.chunks(PIECES) {
        let wanted = pieces.iter().fold(0usize, |sum, piece| sum.saturating_add(piece.len()));
        let at = u64::try_from(total).ok().and_then(|total| offset.checked_add(total)).ok_or(Errno::INVAL)?;
        match once(fd, pieces, at, call) {
            Ok(done) => {
                total = total.saturating_add(done);
                if done < wanted {
                    break;
                }
            }
            Err(error) if total == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(total)
}

fn once(fd: BorrowedFd<'_>, slices: &[VolatileSlice<'_>], offset: u64, call: Call<'_>) -> Result<usize, Errno> {
    let offset = libc::off_t::try_from(offset).map_err(|_| Errno::INVAL)?;
    // The guards keep the memory of the slices mapped while the kernel uses it.
    let guards: Vec<_> = slices.iter().map(VolatileSlice::ptr_guard_mut).collect();
    let pieces: Vec<_> =
        guards.iter().map(|guard| libc::iovec { iov_base: guard.as_ptr().cast(), iov_len: guard.len() }).collect();
    let count = libc::c_int::try_from(pieces.len()).map_err(|_| Errno::INVAL)?;
    loop {
        let done = call(fd.as_raw_fd(), pieces.as_ptr(), count, offset);
        if let Ok(done) = usize::try_from(done) {
            return Ok(done);
        }
        match rustix::io::Errno::from_io_error(&std::io::Error::last_os_error()) {
            Some(rustix::io::Errno::INTR) => {}
            Some(error) => return Err(error.into()),
            None => return Err(Errno::IO),
        }
    }
}

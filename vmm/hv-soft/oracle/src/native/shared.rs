//! The memory that the parent and the native child both map: code, window, and the batch with its results.

// UNSAFETY: memory shared with another process is raw by nature.
#![expect(unsafe_code, reason = "maps and views memory shared with the child")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr::NonNull;

use crate::generate::{SCRUBS, Scrub};
use crate::layout::{BATCH, CODE_LEN, INT3, WINDOW_LEN};
use crate::state::{CpuState, WATCH_LEN};

/// Bytes for the initial memory contents of a batch.
pub(crate) const POOL: usize = 192 * 1024;
/// Most pokes per case.
pub(crate) const POKES: usize = 4;

/// Bytes to be written into the window before a case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Poke {
    /// Offset in the window.
    pub offset: u32,
    /// Number of bytes.
    pub len: u32,
    /// Where in the batch's pool they are.
    pub pool: u32,
}

/// A case as the child reads it.
#[repr(C)]
pub(super) struct NativeCase {
    pub(super) state: CpuState,
    pub(super) pokes: [Poke; POKES],
    pub(super) watch: [u32; 2],
    pub(super) scrubs: [Scrub; SCRUBS],
}

/// What the child writes.
#[repr(C)]
pub(super) struct NativeResult {
    pub(super) state: CpuState,
    pub(super) watch: [[u8; WATCH_LEN]; 2],
    /// A landing, or [`SIGNAL`].
    pub(super) how: u64,
    pub(super) vector: u64,
    pub(super) error: u64,
    pub(super) address: u64,
}

/// [`NativeResult::how`] of a case that ended in a signal.
pub(super) const SIGNAL: u64 = 3;

/// The whole of it. Code and window are page aligned and mapped a second time, at their fixed addresses, in the child.
#[repr(C)]
pub(super) struct Shared {
    pub(super) code: [u8; CODE_LEN],
    pub(super) window: [u8; WINDOW_LEN],
    pub(super) first: u32,
    pub(super) count: u32,
    /// The case that runs; read by the parent when the child dies.
    pub(super) current: u32,
    pub(super) cases: [NativeCase; BATCH],
    pub(super) results: [NativeResult; BATCH],
    pub(super) pool: [u8; POOL],
}

/// An owned mapping of a [`Shared`] and its file.
pub(super) struct SharedMap {
    pub(super) file: File,
    pointer: NonNull<Shared>,
}

impl SharedMap {
    pub(super) fn new() -> io::Result<Self> {
        let len = size_of::<Shared>();
        // SAFETY: a constant name and flags; the descriptor is checked and owned from here on.
        let fd = unsafe { libc::memfd_create(c"soft-oracle".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` is new and nobody else has it.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(len as u64)?;
        // SAFETY: asks for a new mapping wherever there is room; the result is checked.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                file.as_raw_fd(),
                0,
            )
        };
        let pointer = match NonNull::new(address.cast()) {
            Some(pointer) if address != libc::MAP_FAILED => pointer,
            _ => return Err(io::Error::last_os_error()),
        };
        let mut map = SharedMap { file, pointer };
        map.get_mut().code.fill(INT3);
        Ok(map)
    }

    /// The address, for the child.
    pub(super) fn as_ptr(&self) -> *mut Shared {
        self.pointer.as_ptr()
    }

    pub(super) fn get(&self) -> &Shared {
        // SAFETY: the mapping lives as long as `self`, zero bytes are valid for every field, and the child
        // writes only between a command and its answer, while the parent waits in a method that has `&mut self`.
        unsafe { self.pointer.as_ref() }
    }

    pub(super) fn get_mut(&mut self) -> &mut Shared {
        // SAFETY: as for `get`.
        unsafe { self.pointer.as_mut() }
    }
}

impl Drop for SharedMap {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made; no reference to it outlives `self`.
        unsafe { libc::munmap(self.pointer.as_ptr().cast(), size_of::<Shared>()) };
    }
}

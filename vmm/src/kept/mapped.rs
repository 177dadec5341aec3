//! A file that is mapped to be read.
// UNSAFETY: a file is mapped, and read through a slice.
#![expect(unsafe_code, reason = "a mapping of a file as a slice")]

use std::fs::OpenOptions;
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::NonNull;

use nix::fcntl::OFlag;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// Larger ones are none of ours.
const MAX_BYTES: u64 = 32 << 20;

/// See the module.
pub(super) struct Mapped {
    start: NonNull<u8>,
    length: NonZeroUsize,
}

// SAFETY: nothing writes to the mapping, which belongs to the value and not to a thread.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Maps a regular file, never through a link. Its bytes change under nobody: it is only ever replaced as a whole, and like
    /// the snapshot's memory beside it, it is for its owner alone.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
        let metadata = file.metadata()?;
        let length = usize::try_from(metadata.len()).ok().and_then(NonZeroUsize::new);
        let length = length.filter(|_| metadata.is_file() && metadata.len() <= MAX_BYTES);
        let length = length.ok_or_else(|| io::Error::other("its length is wrong"))?;
        // SAFETY: a new mapping at a place of the system's choice takes nothing from anybody.
        let start = unsafe { mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE, &file, 0)? };
        Ok(Self { start: start.cast(), length })
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the mapping has that many bytes, can be read as long as the value lives, and is not written to. A byte
        // that somebody changed in the file all the same is still a byte.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length.get()) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is the value's own, and no slice of it outlives the value.
        let _gone = unsafe { munmap(self.start.cast(), self.length.get()) };
    }
}

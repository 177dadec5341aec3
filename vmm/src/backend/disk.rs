//! A disk image in a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use supermachine_devices::blk::BlockBackend;
use vm_memory::{ReadVolatile, VolatileSlice, WriteVolatile};

/// A disk image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// It cannot be opened in the wanted mode.
    #[error("disk {}", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no regular file.
    #[error("disk {}: not a regular file", path.display())]
    NotAFile {
        /// Which file.
        path: PathBuf,
    },
    /// It is empty or has a part of a sector at its end.
    #[error("disk {}: {length} bytes is not a positive multiple of 512", path.display())]
    Length {
        /// Which file.
        path: PathBuf,
        /// Its size in bytes.
        length: u64,
    },
}

/// Byte counters, shared with whoever wants to read them.
#[derive(Debug, Default)]
pub struct DiskCounters {
    /// Bytes read by the guest.
    pub read_bytes: AtomicU64,
    /// Bytes written by the guest.
    pub written_bytes: AtomicU64,
}

/// See the module.
pub struct FileDisk {
    file: File,
    length: u64,
    read_only: bool,
    counters: Arc<DiskCounters>,
}

impl FileDisk {
    /// Opens an image of a whole number of 512-byte sectors.
    pub fn open(path: &Path, read_only: bool, counters: Arc<DiskCounters>) -> Result<Self, DiskError> {
        let open = |source| DiskError::Open { path: path.to_owned(), source };
        let file = OpenOptions::new().read(true).write(!read_only).open(path).map_err(open)?;
        let metadata = file.metadata().map_err(open)?;
        if !metadata.is_file() {
            return Err(DiskError::NotAFile { path: path.to_owned() });
        }
        let length = metadata.len();
        if length == 0 || !length.is_multiple_of(512) {
            return Err(DiskError::Length { path: path.to_owned(), length });
        }
        Ok(Self { file, length, read_only, counters })
    }
}

impl BlockBackend for FileDisk {
    fn len_bytes(&self) -> u64 {
        self.length
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)?;
        self.counters.read_bytes.fetch_add(buf.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.file.write_all_at(buf, offset)?;
        self.counters.written_bytes.fetch_add(buf.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn read_slices_at(&mut self, offset: u64, slices: &[VolatileSlice<'_>]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(offset))?;
        for slice in slices {
            self.file.read_exact_volatile(&mut slice.clone()).map_err(io::Error::other)?;
            self.counters.read_bytes.fetch_add(slice.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    fn write_slices_at(&mut self, offset: u64, slices: &[VolatileSlice<'_>]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(offset))?;
        for slice in slices {
            self.file.write_all_volatile(slice).map_err(io::Error::other)?;
            self.counters.written_bytes.fetch_add(slice.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}

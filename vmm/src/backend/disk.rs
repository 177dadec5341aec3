//! A disk image in a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use supermachine_devices::blk::BlockBackend;
use vm_memory::{ReadVolatile, VolatileSlice, WriteVolatile};

use super::hole;

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
        Self::new(file, path, read_only, counters)
    }

    /// A disk of an open image, which errors call `name`.
    pub fn new(file: File, name: &Path, read_only: bool, counters: Arc<DiskCounters>) -> Result<Self, DiskError> {
        let path = name;
        let open = |source| DiskError::Open { path: path.to_owned(), source };
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

impl FileDisk {
    /// For hosts and file systems without holes.
    fn write_zero_bytes(&self, offset: u64, len: u64) -> io::Result<()> {
        let zeroes = [0; 64 << 10];
        let (mut offset, mut left) = (offset, len);
        while left > 0 {
            let count = left.min(zeroes.len() as u64);
            self.file.write_all_at(zeroes.get(..count as usize).unwrap_or_default(), offset)?;
            (offset, left) = (offset.saturating_add(count), left - count);
        }
        Ok(())
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

    fn discard(&mut self, offset: u64, len: u64) -> io::Result<()> {
        hole::punch(&self.file, offset, len)
    }

    fn write_zeroes(&mut self, offset: u64, len: u64) -> io::Result<()> {
        match hole::punch(&self.file, offset, len) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => self.write_zero_bytes(offset, len),
            other => other,
        }
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn what_is_discarded_or_zeroed_takes_no_space_and_reads_as_zeroes() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), vec![7; 1 << 20]).expect("written");
        let mut disk = FileDisk::open(file.path(), false, Arc::default()).expect("a disk");
        disk.flush().expect("flushed");
        let blocks = || file.as_file().metadata().expect("a file").blocks();
        let before = blocks();
        disk.discard(0, 256 << 10).expect("discards");
        disk.write_zeroes(512 << 10, 256 << 10).expect("zeroes");
        assert!(before - blocks() >= 1024, "{before} blocks before, {} after", blocks());
        let mut bytes = vec![1; 1 << 20];
        disk.read_at(0, &mut bytes).expect("reads");
        let expected = |index: usize| if index & (256 << 10) == 0 { 0 } else { 7 };
        assert!(bytes.iter().enumerate().all(|(index, byte)| *byte == expected(index)));
        disk.write_zero_bytes(768 << 10, 100_000).expect("zeroes");
        disk.read_at(0, &mut bytes).expect("reads");
        assert!(bytes[768 << 10..(768 << 10) + 100_000].iter().all(|byte| *byte == 0));
        assert_eq!(bytes[(768 << 10) + 100_000], 7);
    }
}

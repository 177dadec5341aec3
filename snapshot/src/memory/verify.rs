//! Reads all pages of a memory file and compares their digest: O(pages in it), for `verify`, not for a restore.

use std::fs::File;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use crate::error::{Part, SnapshotError, io_error};
use crate::manifest::MemoryRecord;
use crate::spec::MEMORY_FILE;

use super::Run;
use super::digest::PageDigest;

/// Checks the pages.
pub(crate) fn verify(file: &File, record: &MemoryRecord) -> Result<(), SnapshotError> {
    let mut digest = PageDigest::new(record.page_bytes);
    let mut buffer = super::buffer();
    let mut position = 0;
    while let Some(run) = next_data(file, position, record) {
        read(file, run, &mut digest, &mut buffer)?;
        position = run.end();
    }
    let found = digest.finish();
    if found.digest != record.digest || found.stored_bytes != record.stored_bytes {
        return Err(SnapshotError::Damaged { part: Part::Memory });
    }
    Ok(())
}

/// The next pages from `position` on that may hold something; all the rest where the file system cannot tell.
fn next_data(file: &File, position: u64, record: &MemoryRecord) -> Option<Run> {
    let (ram_bytes, page) = (record.ram_bytes(), u64::from(record.page_bytes));
    let start = match seek(file, position, Whence::SeekData) {
        Ok(data) => data.max(position),
        Err(Errno::ENXIO) => return None,
        Err(_) => position,
    };
    if start >= ram_bytes {
        return None;
    }
    let end = seek(file, start, Whence::SeekHole).unwrap_or(ram_bytes);
    let start = start - start.checked_rem(page)?;
    let end = end.checked_next_multiple_of(page)?.min(ram_bytes);
    Some(Run { position: start, bytes: end.checked_sub(start).filter(|bytes| *bytes > 0)? })
}

fn seek(file: &File, position: u64, whence: Whence) -> Result<u64, Errno> {
    let found = lseek(file, i64::try_from(position).map_err(|_| Errno::EOVERFLOW)?, whence)?;
    u64::try_from(found).map_err(|_| Errno::EOVERFLOW)
}

fn read(file: &File, run: Run, digest: &mut PageDigest, buffer: &mut [u8]) -> Result<(), SnapshotError> {
    for (piece, len) in run.pieces() {
        let pages = buffer.get_mut(..len).unwrap_or_default();
        file.read_exact_at(pages, piece.position).map_err(io_error("read", MEMORY_FILE))?;
        digest.feed(piece.position, pages, |_, _| Ok::<_, SnapshotError>(()))?;
    }
    Ok(())
}

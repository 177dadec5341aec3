//! What a block device reads from and writes to.

use std::io;

use vm_memory::{Bytes, VolatileSlice};

/// Bytes copied at a time where a backend does not reach guest memory by itself.
const BOUNCE_SIZE: usize = 64 * 1024;

/// Storage of a fixed length. The device checks every range against [`len_bytes`](Self::len_bytes) before it asks.
pub trait BlockBackend: Send {
    /// Length in bytes; a tail shorter than a sector is not visible to the guest. Constant.
    fn len_bytes(&self) -> u64;

    /// Whether every write fails. Constant.
    fn read_only(&self) -> bool;

    /// Fills `buf` from `offset`, wholly.
    ///
    /// # Errors
    /// Whatever the storage says; the guest sees an I/O error.
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Writes `buf` at `offset`, wholly.
    ///
    /// # Errors
    /// As for [`read_at`](Self::read_at).
    fn write_at(&mut self, offset: u64, buf: &[u8]) -> io::Result<()>;

    /// Makes everything written before durable.
    ///
    /// # Errors
    /// As for [`read_at`](Self::read_at).
    fn flush(&mut self) -> io::Result<()>;

    /// Forgets a range; it may read as anything afterwards.
    ///
    /// # Errors
    /// As for [`read_at`](Self::read_at). [`io::ErrorKind::Unsupported`] tells the guest so.
    fn discard(&mut self, _offset: u64, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes a range read as zeroes.
    ///
    /// # Errors
    /// As for [`read_at`](Self::read_at).
    fn write_zeroes(&mut self, offset: u64, len: u64) -> io::Result<()> {
        let zeroes = [0u8; 4096];
        let (mut offset, mut left) = (offset, len);
        while left > 0 {
            let count = left.min(zeroes.len() as u64);
            self.write_at(offset, zeroes.get(..count as usize).unwrap_or_default())?;
            offset = offset.saturating_add(count);
            left -= count;
        }
        Ok(())
    }

    /// Fills pieces of guest memory, one after the other, from `offset`. A backend that can read straight into
    /// memory (`preadv`, a mapping) overrides this.
    ///
    /// # Errors
    /// As for [`read_at`](Self::read_at).
    fn read_slices_at(&mut self, offset: u64, slices: &[VolatileSlice<'_>]) -> io::Result<()> {
        each_piece(offset, slices, |offset, piece, bounce| {
            self.read_at(offset, bounce)?;
            piece.write_slice(bounce, 0).map_err(io::Error::other)
        })
    }

    /// Writes pieces of guest memory, one after the other, at `offset`; the reverse of
    /// [`read_slices_at`](Self::read_slices_at).
    ///
    /// # Errors
    /// As for [`read_at`](Self::read_at).
    fn write_slices_at(&mut self, offset: u64, slices: &[VolatileSlice<'_>]) -> io::Result<()> {
        each_piece(offset, slices, |offset, piece, bounce| {
            piece.read_slice(bounce, 0).map_err(io::Error::other)?;
            self.write_at(offset, bounce)
        })
    }
}

/// Calls `copy` with bounded pieces of the slices, each with a buffer of its length.
fn each_piece(
    mut offset: u64,
    slices: &[VolatileSlice<'_>],
    mut copy: impl FnMut(u64, VolatileSlice<'_>, &mut [u8]) -> io::Result<()>,
) -> io::Result<()> {
    let longest = slices.iter().map(VolatileSlice::len).max().unwrap_or(0);
    let mut bounce = vec![0; longest.min(BOUNCE_SIZE)];
    for slice in slices {
        let mut done = 0;
        while done < slice.len() {
            let count = (slice.len() - done).min(bounce.len());
            let piece = slice.subslice(done, count).map_err(io::Error::other)?;
            copy(offset, piece, bounce.get_mut(..count).unwrap_or_default())?;
            done += count;
            offset = offset.saturating_add(count as u64);
        }
    }
    Ok(())
}

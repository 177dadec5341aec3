//! The bytes of an archive, in blocks of 512.

use std::io::{self, Read};

use super::EntryError;
use crate::caps::Budget;
use crate::squashfs::ImageError;

/// Bytes of a block.
pub(super) const BLOCK: usize = 512;
/// How much of what nobody wants is read at once.
const SKIP_BYTES: usize = 64 << 10;

/// The bytes of an archive.
pub(super) struct Stream<R> {
    input: R,
}

impl<R: Read> Stream<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input }
    }

    /// The next block; none at the end.
    pub(super) fn block(&mut self) -> Result<Option<[u8; BLOCK]>, EntryError> {
        let mut block = [0; BLOCK];
        match fill(&mut self.input, &mut block).map_err(EntryError::read)? {
            0 => Ok(None),
            BLOCK => Ok(Some(block)),
            _ => Err(EntryError::Truncated),
        }
    }

    /// The next block, which must be there.
    pub(super) fn must_block(&mut self) -> Result<[u8; BLOCK], EntryError> {
        self.block()?.ok_or(EntryError::Truncated)
    }

    /// A content that is small enough to keep: the caller has checked `length` against a cap. What fills its last block is passed over.
    pub(super) fn keep(&mut self, length: usize) -> Result<Vec<u8>, EntryError> {
        let mut bytes = Vec::new();
        let got = self.input.by_ref().take(length as u64).read_to_end(&mut bytes).map_err(EntryError::read)?;
        if got < length {
            return Err(EntryError::Truncated);
        }
        self.pad(length as u64)?;
        Ok(bytes)
    }

    /// The content itself, for a reader that takes as much as there is.
    pub(super) fn content(&mut self) -> &mut R {
        &mut self.input
    }

    /// Passes over what fills the last block of a content of `length` bytes.
    pub(super) fn pad(&mut self, length: u64) -> Result<(), EntryError> {
        let rest = (BLOCK as u64 - length % BLOCK as u64) % BLOCK as u64;
        self.pass(rest)
    }

    /// Passes over a content of `length` bytes, which count as those of files do, and what fills its last block.
    pub(super) fn skip(&mut self, length: u64, budget: &mut Budget) -> Result<(), EntryError> {
        budget.bytes(length).map_err(ImageError::from)?;
        self.pass(length)?;
        self.pad(length)
    }

    /// Reads to the end, so that what decompresses sees its own end.
    pub(super) fn drain(&mut self, budget: &mut Budget) -> Result<(), EntryError> {
        let mut buffer = vec![0; SKIP_BYTES];
        loop {
            let got = fill(&mut self.input, &mut buffer).map_err(EntryError::read)?;
            budget.bytes(got as u64).map_err(ImageError::from)?;
            if got < buffer.len() {
                return Ok(());
            }
        }
    }

    fn pass(&mut self, length: u64) -> Result<(), EntryError> {
        let passed = io::copy(&mut self.input.by_ref().take(length), &mut io::sink()).map_err(EntryError::read)?;
        if passed < length { Err(EntryError::Truncated) } else { Ok(()) }
    }
}

/// Reads until the buffer is full or the input at its end; gives how much there is.
pub(super) fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
        match input.read(room) {
            Ok(0) => break,
            Ok(got) => filled += got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

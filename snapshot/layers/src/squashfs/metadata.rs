//! Blocks of tables: 8 KiB each, compressed, with a header of two bytes.

use super::codec::Codec;
use super::{Compressor, ImageError, spec};

/// A place in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// Where the block begins, from the table's start.
    pub(super) block: u32,
    /// Where in the block, once unpacked; below 8192.
    pub(super) offset: u16,
}

impl Position {
    /// As inodes are told in tables and the superblock.
    pub(super) fn reference(self) -> u64 {
        u64::from(self.block) << 16 | u64::from(self.offset)
    }
}

/// Writes a table into memory.
pub(super) struct MetadataWriter {
    codec: Codec,
    /// What is not yet a block.
    pending: Vec<u8>,
    blocks: Vec<u8>,
    /// Where in `blocks` each begins.
    starts: Vec<u32>,
}

impl MetadataWriter {
    pub(super) fn new(compressor: Compressor) -> Result<Self, ImageError> {
        let codec = Codec::new(compressor)?;
        Ok(Self { codec, pending: Vec::new(), blocks: Vec::new(), starts: Vec::new() })
    }

    /// Where the next byte goes.
    pub(super) fn position(&self) -> Result<Position, ImageError> {
        let too_large = |_| ImageError::TooLarge { what: "a table" };
        let block = u32::try_from(self.blocks.len()).map_err(too_large)?;
        // Always less than a block, see `write`.
        let offset = u16::try_from(self.pending.len()).map_err(too_large)?;
        Ok(Position { block, offset })
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<(), ImageError> {
        while !bytes.is_empty() {
            let room = spec::METADATA_BYTES - self.pending.len();
            let (now, later) = bytes.split_at(bytes.len().min(room));
            self.pending.extend_from_slice(now);
            bytes = later;
            if self.pending.len() == spec::METADATA_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// All blocks.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, ImageError> {
        self.flush()?;
        Ok(self.blocks)
    }

    /// All blocks and where each begins.
    pub(super) fn finish_indexed(mut self) -> Result<(Vec<u8>, Vec<u32>), ImageError> {
        self.flush()?;
        Ok((self.blocks, self.starts))
    }

    fn flush(&mut self) -> Result<(), ImageError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.starts.push(self.position()?.block);
        let packed = self.codec.pack(std::mem::take(&mut self.pending))?;
        self.blocks.extend_from_slice(&header(packed.bytes.len(), packed.raw)?);
        self.blocks.extend_from_slice(&packed.bytes);
        Ok(())
    }
}

/// A block on its own, not compressed: the compressor's options.
pub(super) fn plain_block(bytes: &[u8]) -> Result<Vec<u8>, ImageError> {
    Ok([&header(bytes.len(), true)?, bytes].concat())
}

fn header(length: usize, raw: bool) -> Result<[u8; 2], ImageError> {
    let length = u16::try_from(length).map_err(|_| ImageError::TooLarge { what: "a block of a table" })?;
    Ok((if raw { length | spec::METADATA_RAW } else { length }).to_le_bytes())
}

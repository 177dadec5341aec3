//! Tables of a squashfs image: a chain of blocks of up to 8 KiB, each with its length before it.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::ReadError;

const BLOCK: usize = 8192;
/// In a block's length: it is not compressed.
const RAW: u16 = 1 << 15;

/// How blocks are compressed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Codec {
    None,
    Lz4,
    Zstd,
}

impl Codec {
    /// By its number in the superblock. Images without compression have zlib's, and use it for nothing.
    pub(super) fn new(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::None),
            5 => Some(Self::Lz4),
            6 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Unpacks a block of at most `most` bytes.
    pub(super) fn unpack(self, bytes: &[u8], most: usize) -> Result<Vec<u8>, ReadError> {
        let damaged = ReadError::Damaged("a block cannot be unpacked");
        let mut out = vec![0; most];
        let count = match self {
            Self::None => return Err(damaged),
            Self::Lz4 => lz4_flex::block::decompress_into(bytes, &mut out).map_err(|_| damaged)?,
            Self::Zstd => zstd::bulk::decompress_to_buffer(bytes, &mut out).map_err(|_| damaged)?,
        };
        out.truncate(count);
        Ok(out)
    }
}

/// A number in the file itself.
pub(super) fn long_at(file: &File, at: u64) -> Result<u64, ReadError> {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, at).map_err(ReadError::Io)?;
    Ok(u64::from_le_bytes(bytes))
}

/// A place in a table.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    file: &'a File,
    codec: Codec,
    /// Where the block that was read last begins, and where the next does.
    here: u64,
    next: u64,
    block: Vec<u8>,
    offset: usize,
}

impl<'a> Cursor<'a> {
    /// In the block at `at` of the file.
    pub(super) fn new(file: &'a File, codec: Codec, at: u64, offset: u16) -> Self {
        Self { file, codec, here: at, next: at, block: Vec::new(), offset: offset.into() }
    }

    /// Where it is, to come back.
    pub(super) fn place(&self) -> (u64, u16) {
        (self.here, u16::try_from(self.offset).unwrap_or(u16::MAX))
    }

    /// Gives back the block; it is read again when it is needed.
    pub(super) fn rest(&mut self) {
        if !self.block.is_empty() {
            self.next = self.here;
            self.block = Vec::new();
        }
    }

    fn advance(&mut self) -> Result<(), ReadError> {
        let mut head = [0; 2];
        self.file.read_exact_at(&mut head, self.next).map_err(ReadError::Io)?;
        let head = u16::from_le_bytes(head);
        let size = usize::from(head & !RAW);
        if size > BLOCK {
            return Err(ReadError::Damaged("a block of a table is too large"));
        }
        let mut bytes = vec![0; size];
        self.file.read_exact_at(&mut bytes, self.next.saturating_add(2)).map_err(ReadError::Io)?;
        self.block = if head & RAW == 0 { self.codec.unpack(&bytes, BLOCK)? } else { bytes };
        if self.block.is_empty() {
            return Err(ReadError::Damaged("a block of a table is empty"));
        }
        self.here = self.next;
        self.next = self.next.saturating_add(2 + size as u64);
        Ok(())
    }

    /// The next `count` bytes, which may go over the end of a block.
    pub(super) fn bytes(&mut self, count: usize) -> Result<Vec<u8>, ReadError> {
        let mut out = Vec::new();
        if self.block.is_empty() {
            self.advance()?;
        }
        while out.len() < count {
            if self.offset >= self.block.len() {
                if self.offset > self.block.len() {
                    return Err(ReadError::Damaged("a place beyond its block"));
                }
                self.offset = 0;
                self.advance()?;
            }
            let rest = self.block.get(self.offset..).unwrap_or_default();
            let part = rest.get(..count - out.len()).unwrap_or(rest);
            out.extend_from_slice(part);
            self.offset += part.len();
        }
        Ok(out)
    }

    pub(super) fn skip(&mut self, count: usize) -> Result<(), ReadError> {
        self.bytes(count).map(drop)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        <[u8; N]>::try_from(self.bytes(N)?.as_slice()).map_err(|_| ReadError::Damaged("a table ends early"))
    }

    pub(super) fn short(&mut self) -> Result<u16, ReadError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn word(&mut self) -> Result<u32, ReadError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn long(&mut self) -> Result<u64, ReadError> {
        self.array().map(u64::from_le_bytes)
    }
}

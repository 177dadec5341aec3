//! Reads single files out of squashfs images that this crate has written, and out of stacks of them as overlayfs shows them.
//!
//! It is for what the host must know before a guest runs, such as who a user is. Images of the store are checked when they are
//! made, but they hold what a hostile image had: names, links and contents are whatever they are.

mod directory;
mod stack;
mod table;
mod xattrs;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub(crate) use directory::{Description, Directory, Entry, Listing};
use directory::{Head, Place};
pub use stack::{Stack, StackError};
use table::{Codec, Cursor};
use xattrs::NO_XATTRS;

/// Largest block of a file, bytes.
const BLOCK_MAX: u32 = 1 << 20;

/// An image that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file.
    #[error("cannot read the layer's image")]
    Io(#[source] io::Error),
    /// It is not as this crate writes it.
    #[error("the layer's image is damaged: {0}")]
    Damaged(&'static str),
    /// A file is larger than the caller takes.
    #[error("a file of {size} bytes is larger than {cap}")]
    TooLarge {
        /// Its size.
        size: u64,
        /// What the caller takes.
        cap: u64,
    },
}

/// An open image.
#[derive(Debug)]
pub(crate) struct Image {
    file: File,
    codec: Codec,
    block_size: u32,
    /// How many inodes it has.
    count: u32,
    root: u64,
    ids: u64,
    inodes: u64,
    directories: u64,
    fragments: u64,
    xattrs: u64,
}

/// What an entry is.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    Directory(Directory),
    /// A file: where its parts are.
    File(FileParts),
    /// A link and where it leads.
    Link(Vec<u8>),
    /// The mark that something below is gone.
    Whiteout,
    /// A device, a pipe, a socket.
    Other,
}

/// Where the content of a file is.
#[derive(Debug, Clone)]
pub(crate) struct FileParts {
    start: u64,
    size: u64,
    fragment: Option<(u32, u32)>,
    /// Place of the list of blocks.
    blocks: (u64, u16),
}

impl Image {
    pub(crate) fn open(path: &Path) -> Result<Self, ReadError> {
        let file = File::open(path).map_err(ReadError::Io)?;
        let mut head = [0; 96];
        file.read_exact_at(&mut head, 0).map_err(ReadError::Io)?;
        let short = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let word = |at: usize| u32::from(short(at)) | u32::from(short(at + 2)) << 16;
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        if word(0) != 0x7371_7368 || short(28) != 4 {
            return Err(ReadError::Damaged("no squashfs"));
        }
        if word(12) > BLOCK_MAX {
            return Err(ReadError::Damaged("its blocks are too large"));
        }
        Ok(Self {
            file,
            codec: Codec::new(short(20)).ok_or(ReadError::Damaged("an unknown compressor"))?,
            block_size: word(12),
            count: word(4),
            root: long(32),
            ids: long(48),
            xattrs: long(56),
            inodes: long(64),
            directories: long(72),
            fragments: long(80),
        })
    }

    pub(crate) fn root(&self) -> Result<Node, ReadError> {
        self.node(self.root)
    }

    /// How many inodes it has.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    fn cursor(&self, at: u64, offset: u16) -> Cursor<'_> {
        Cursor::new(&self.file, self.codec, at, offset)
    }

    /// The inode at a reference: its block's place in the table, and its place in the block.
    pub(crate) fn node(&self, reference: u64) -> Result<Node, ReadError> {
        let mut at = self.cursor(self.inodes.saturating_add(reference >> 16), reference as u16);
        let kind = at.short()?;
        let head = Head::read(&mut at)?;
        match kind {
            1 => {
                let block = at.word()?;
                at.skip(4)?;
                let (size, offset) = (u32::from(at.short()?), at.short()?);
                self.directory(Place { block, offset, size }, head, NO_XATTRS).map(Node::Directory)
            }
            8 => {
                at.skip(4)?;
                let (size, block) = (at.word()?, at.word()?);
                at.skip(6)?;
                let offset = at.short()?;
                self.directory(Place { block, offset, size }, head, at.word()?).map(Node::Directory)
            }
            2 => {
                let start = u64::from(at.word()?);
                let (fragment, offset, size) = (at.word()?, at.word()?, u64::from(at.word()?));
                Ok(file(start, size, (fragment, offset), at.place()))
            }
            9 => {
                let (start, size) = (at.long()?, at.long()?);
                at.skip(12)?;
                let (fragment, offset) = (at.word()?, at.word()?);
                at.skip(4)?;
                Ok(file(start, size, (fragment, offset), at.place()))
            }
            3 | 10 => {
                at.skip(4)?;
                let size = at.word()?;
                if size > 4096 {
                    return Err(ReadError::Damaged("a link is too long"));
                }
                Ok(Node::Link(at.bytes(size as usize)?))
            }
            5 | 12 => {
                at.skip(4)?;
                Ok(if at.word()? == 0 { Node::Whiteout } else { Node::Other })
            }
            4 | 6 | 7 | 11 | 13 | 14 => Ok(Node::Other),
            _ => Err(ReadError::Damaged("an inode of an unknown kind")),
        }
    }

    /// All of a file that is not larger than `cap`.
    pub(crate) fn read(&self, parts: &FileParts, cap: u64) -> Result<Vec<u8>, ReadError> {
        if parts.size > cap {
            return Err(ReadError::TooLarge { size: parts.size, cap });
        }
        let block_size = u64::from(self.block_size).max(1);
        let tail = if parts.fragment.is_some() { parts.size % block_size } else { 0 };
        let mut content = Vec::new();
        let (mut list, mut start) = (self.cursor(parts.blocks.0, parts.blocks.1), parts.start);
        while (content.len() as u64) < parts.size - tail {
            let size = list.word()?;
            let want = block_size.min(parts.size - content.len() as u64) as usize;
            let block = if size == 0 { vec![0; want] } else { self.block(start, size)? };
            if block.len() != want {
                return Err(ReadError::Damaged("a block has another size"));
            }
            content.extend(block);
            start = start.saturating_add(u64::from(size & !(1 << 24)));
        }
        if let Some((fragment, offset)) = parts.fragment {
            let pointer = self.fragments.saturating_add(u64::from(fragment / 512) * 8);
            let mut entry = self.cursor(table::long_at(&self.file, pointer)?, (fragment % 512 * 16) as u16);
            let (start, size) = (entry.long()?, entry.word()?);
            let block = self.block(start, size)?;
            let begin = offset as usize;
            let part = block.get(begin..begin.saturating_add(tail as usize));
            content.extend(part.ok_or(ReadError::Damaged("a file runs over its fragment"))?);
        }
        Ok(content)
    }

    /// A block of data; bit 24 of its size says that it is not compressed.
    fn block(&self, start: u64, size: u32) -> Result<Vec<u8>, ReadError> {
        let (raw, size) = (size & 1 << 24 != 0, size & !(1 << 24));
        if size > BLOCK_MAX {
            return Err(ReadError::Damaged("a block is too large"));
        }
        let mut bytes = vec![0; size as usize];
        self.file.read_exact_at(&mut bytes, start).map_err(ReadError::Io)?;
        if raw { Ok(bytes) } else { self.codec.unpack(&bytes, self.block_size as usize) }
    }
}

fn file(start: u64, size: u64, (fragment, offset): (u32, u32), blocks: (u64, u16)) -> Node {
    let fragment = (fragment != u32::MAX).then_some((fragment, offset));
    Node::File(FileParts { start, size, fragment, blocks })
}

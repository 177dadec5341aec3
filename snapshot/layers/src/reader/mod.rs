//! Reads single files out of squashfs images that this crate has written, and out of stacks of them as overlayfs shows them.
//!
//! It is for what the host must know before a guest runs, such as who a user is. Images of the store are checked when they are
//! made, but they hold what a hostile image had: names, links and contents are whatever they are.

mod stack;
mod table;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub use stack::{Stack, StackError};
use table::{Codec, Cursor};

/// Largest block of a file, bytes.
const BLOCK_MAX: u32 = 1 << 20;
/// Bytes of a directory's listing.
const LISTING_MAX: u32 = 64 << 20;
/// Prefix number of `trusted.` in tables of extended attributes.
const TRUSTED: u16 = 1;
/// The value is elsewhere.
const OUT_OF_LINE: u16 = 0x100;

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
    root: u64,
    inodes: u64,
    directories: u64,
    fragments: u64,
    xattrs: u64,
}

/// What an entry is.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    /// A directory: where its listing is, and whether it hides those below.
    Directory { block: u64, offset: u16, size: u32, opaque: bool },
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
            root: long(32),
            xattrs: long(56),
            inodes: long(64),
            directories: long(72),
            fragments: long(80),
        })
    }

    pub(crate) fn root(&self) -> Result<Node, ReadError> {
        self.node(self.root)
    }

    fn cursor(&self, at: u64, offset: u16) -> Cursor<'_> {
        Cursor::new(&self.file, self.codec, at, offset)
    }

    /// The inode at a reference: its block's place in the table, and its place in the block.
    fn node(&self, reference: u64) -> Result<Node, ReadError> {
        let mut at = self.cursor(self.inodes.saturating_add(reference >> 16), reference as u16);
        let kind = at.short()?;
        at.skip(14)?;
        match kind {
            1 => {
                let block = at.word()?;
                at.skip(4)?;
                let size = u32::from(at.short()?);
                self.directory(block, at.short()?, size, u32::MAX)
            }
            8 => {
                at.skip(4)?;
                let (size, block) = (at.word()?, at.word()?);
                at.skip(6)?;
                let offset = at.short()?;
                self.directory(block, offset, size, at.word()?)
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

    fn directory(&self, block: u32, offset: u16, size: u32, xattrs: u32) -> Result<Node, ReadError> {
        let opaque = xattrs != u32::MAX && self.is_opaque(xattrs)?;
        Ok(Node::Directory { block: self.directories.saturating_add(block.into()), offset, size, opaque })
    }

    /// Finds a name in a directory's listing.
    pub(crate) fn lookup(&self, directory: &Node, wanted: &[u8]) -> Result<Option<Node>, ReadError> {
        let Node::Directory { block, offset, size, .. } = directory else { return Ok(None) };
        if *size > LISTING_MAX {
            return Err(ReadError::Damaged("a directory is too long"));
        }
        // The length counts `.` and `..`, which are not there.
        let mut left = size.saturating_sub(3);
        let mut at = self.cursor(*block, *offset);
        while left > 0 {
            let (count, start) = (at.word()?, at.word()?);
            at.skip(4)?;
            left = left.saturating_sub(12);
            for _ in 0..=count {
                let place = at.short()?;
                at.skip(4)?;
                let length = at.short()?.saturating_add(1);
                let name = at.bytes(length.into())?;
                if name == wanted {
                    return self.node(u64::from(start) << 16 | u64::from(place)).map(Some);
                }
                let taken = 8 + u32::from(length);
                left = left.checked_sub(taken).ok_or(ReadError::Damaged("a directory runs over its end"))?;
            }
        }
        Ok(None)
    }

    /// Whether a set of extended attributes has overlayfs's mark.
    fn is_opaque(&self, set: u32) -> Result<bool, ReadError> {
        if self.xattrs == u64::MAX {
            return Ok(false);
        }
        let start = table::long_at(&self.file, self.xattrs)?;
        let lists = self.xattrs.saturating_add(16).saturating_add(u64::from(set / 512) * 8);
        let mut entry = self.cursor(table::long_at(&self.file, lists)?, (set % 512 * 16) as u16);
        let (reference, count) = (entry.long()?, entry.word()?);
        let mut at = self.cursor(start.saturating_add(reference >> 16), reference as u16);
        for _ in 0..count {
            let (kind, length) = (at.short()?, at.short()?);
            let name = at.bytes(length.into())?;
            let length = at.word()?;
            if kind == TRUSTED && name == b"overlay.opaque" && length == 1 {
                return Ok(at.bytes(1)? == b"y");
            }
            if kind == TRUSTED | OUT_OF_LINE && name == b"overlay.opaque" {
                let reference = at.long()?;
                let mut value = self.cursor(start.saturating_add(reference >> 16), reference as u16);
                return Ok(value.word()? == 1 && value.bytes(1)? == b"y");
            }
            at.skip(length as usize)?;
        }
        Ok(false)
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

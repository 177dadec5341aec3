//! The contents of files: cut into blocks; those smaller than a block are gathered in blocks of fragments.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::layout::Written;
use super::pipeline::{Pipeline, is_zeros};
use super::{ImageError, Options};

/// Where the content of a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// There is none.
    Empty,
    /// In blocks: the number of a layout.
    Blocks(usize),
    /// In a block of fragments.
    Fragment(Fragment),
}

/// A place in a block of fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub(super) block: u32,
    pub(super) offset: u32,
}

/// Why a file's content is not complete.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FillError {
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The source cannot be read.
    #[error(transparent)]
    Source(io::Error),
    /// The source ended.
    #[error("the source ends early")]
    Short,
}

/// Takes the contents of files, one after the other.
pub(crate) struct Data {
    pipeline: Pipeline,
    block_size: usize,
    /// The block of fragments that is being filled, and its number.
    fragments: Vec<u8>,
    fragments_block: u32,
    /// Memory for a small file.
    small_block: Vec<u8>,
    /// Small files by the SHA-256 of their content.
    small: HashMap<[u8; 32], Fragment>,
    files: usize,
    bytes: u64,
    duplicates: u64,
}

/// What is known when all contents are written.
pub(super) struct Stored {
    pub(super) written: Written,
    /// Bytes of all contents.
    pub(super) bytes: u64,
    /// Files whose content was there already.
    pub(super) duplicates: u64,
}

impl Data {
    /// The first content will be at `start`.
    pub(super) fn new(out: Arc<File>, start: u64, options: &Options) -> Result<Self, ImageError> {
        Ok(Self {
            pipeline: Pipeline::new(out, start, options)?,
            block_size: options.block_size as usize,
            fragments: Vec::new(),
            fragments_block: 0,
            small_block: Vec::new(),
            small: HashMap::new(),
            files: 0,
            bytes: 0,
            duplicates: 0,
        })
    }

    /// Begins a file of `size` bytes, which must then be filled exactly.
    pub(crate) fn begin(&mut self, size: u64) -> FileWriter<'_> {
        FileWriter { left: size, size, block: Vec::new(), data: self }
    }

    /// Writes what is left and waits for it.
    pub(super) fn finish(mut self) -> Result<Stored, ImageError> {
        self.flush_fragments()?;
        let written = self.pipeline.finish()?;
        let duplicates = self.duplicates + written.duplicates;
        Ok(Stored { written, bytes: self.bytes, duplicates })
    }

    /// Keeps a file that is smaller than a block.
    fn keep_small(&mut self, content: &[u8]) -> Result<Content, ImageError> {
        let digest = Sha256::digest(content).into();
        if let Some(known) = self.small.get(&digest) {
            self.duplicates += 1;
            return Ok(Content::Fragment(*known));
        }
        if self.fragments.len() + content.len() > self.block_size {
            self.flush_fragments()?;
        }
        if self.fragments.capacity() == 0 {
            self.fragments = self.pipeline.memory(self.block_size);
        }
        let too_large = |_| ImageError::TooLarge { what: "a block of fragments" };
        let offset = u32::try_from(self.fragments.len()).map_err(too_large)?;
        let fragment = Fragment { block: self.fragments_block, offset };
        self.fragments.extend_from_slice(content);
        self.small.insert(digest, fragment);
        Ok(Content::Fragment(fragment))
    }

    fn flush_fragments(&mut self) -> Result<(), ImageError> {
        if self.fragments.is_empty() {
            return Ok(());
        }
        let too_many = ImageError::TooLarge { what: "the number of blocks of fragments" };
        self.fragments_block = self.fragments_block.checked_add(1).ok_or(too_many)?;
        self.pipeline.fragments(std::mem::take(&mut self.fragments))
    }

    /// The number of the next file in blocks.
    fn next_file(&mut self) -> Content {
        self.files += 1;
        Content::Blocks(self.files - 1)
    }
}

/// A file that is being filled. One that is dropped unfinished leaves the image of no use.
pub(crate) struct FileWriter<'a> {
    data: &'a mut Data,
    size: u64,
    /// Bytes that are still to come.
    left: u64,
    block: Vec<u8>,
}

impl FileWriter<'_> {
    /// Takes the next `length` bytes from `source`.
    pub(crate) fn fill(&mut self, source: &mut impl Read, length: u64) -> Result<(), FillError> {
        let mut length = length.min(self.left);
        while length > 0 {
            let want = length.min(self.room());
            self.reserve();
            let got = source.by_ref().take(want).read_to_end(&mut self.block).map_err(FillError::Source)?;
            if (got as u64) < want {
                return Err(FillError::Short);
            }
            self.took(want)?;
            length -= want;
        }
        Ok(())
    }

    /// The next `length` bytes are zeros.
    pub(crate) fn zeros(&mut self, length: u64) -> Result<(), ImageError> {
        let mut length = length.min(self.left);
        while length > 0 {
            let blocks = length / self.data.block_size as u64;
            let whole = blocks * self.data.block_size as u64;
            if self.block.is_empty() && blocks > 0 {
                self.data.pipeline.zeros(blocks)?;
                self.left -= whole;
                length -= whole;
                continue;
            }
            let some = length.min(self.room());
            self.reserve();
            self.block.resize(self.block.len() + some as usize, 0);
            self.took(some)?;
            length -= some;
        }
        Ok(())
    }

    /// Ends the file; what did not come is zeros.
    pub(crate) fn finish(mut self) -> Result<Content, ImageError> {
        self.zeros(self.left)?;
        self.data.bytes += self.size;
        if self.size == 0 {
            return Ok(Content::Empty);
        }
        if !self.is_small() {
            self.data.pipeline.file_end(self.size)?;
            return Ok(self.data.next_file());
        }
        if is_zeros(&self.block) {
            self.data.pipeline.zeros(1)?;
            self.data.pipeline.file_end(self.size)?;
            return Ok(self.data.next_file());
        }
        let content = self.data.keep_small(&self.block);
        self.block.clear();
        self.data.small_block = self.block;
        content
    }

    /// It goes into a block of fragments.
    fn is_small(&self) -> bool {
        self.size < self.data.block_size as u64
    }

    /// Bytes until the block is full or the file at its end.
    fn room(&self) -> u64 {
        self.left.min((self.data.block_size - self.block.len()) as u64)
    }

    fn reserve(&mut self) {
        if self.block.capacity() == 0 {
            self.block = match self.is_small() {
                true => std::mem::take(&mut self.data.small_block),
                false => self.data.pipeline.memory(self.data.block_size),
            };
            self.block.reserve_exact(self.room() as usize);
        }
    }

    /// Counts bytes that are in the block now; gives the block away if it is complete, except that of a small file.
    fn took(&mut self, bytes: u64) -> Result<(), ImageError> {
        self.left -= bytes;
        if !self.is_small() && (self.block.len() == self.data.block_size || self.left == 0) {
            self.data.pipeline.block(std::mem::take(&mut self.block))?;
        }
        Ok(())
    }
}

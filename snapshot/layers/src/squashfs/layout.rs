//! Where blocks come to lie in the image, and the search for files whose blocks are there already.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::codec::Packed;
use super::pipeline::Compressed;
use super::{ImageError, spec};

/// How much is compared at once.
const COMPARE_BYTES: usize = 64 << 10;

/// Where a file's blocks are.
#[derive(Debug)]
pub(super) struct Layout {
    /// Of the first block, in the image.
    pub(super) start: u64,
    /// Stored bytes of each block, with `BLOCK_RAW`; 0 is a block of zeros.
    pub(super) blocks: Box<[u32]>,
    /// Bytes of the blocks of zeros.
    pub(super) sparse: u64,
    /// Of the file.
    size: u64,
}

/// Where a block of fragments is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fragments {
    pub(super) start: u64,
    pub(super) stored: u32,
}

/// What the pipeline leaves.
#[derive(Debug)]
pub(super) struct Written {
    /// In the order of the files.
    pub(super) files: Vec<Arc<Layout>>,
    pub(super) fragments: Vec<Fragments>,
    /// Where the data ends.
    pub(super) end: u64,
    /// Files of blocks that were found again.
    pub(super) duplicates: u64,
}

/// The state of the writing thread.
pub(super) struct Layouts {
    out: Arc<File>,
    block_size: u64,
    position: u64,
    file: OpenFile,
    written: Written,
    /// By a keyed hash of what is stored. Equal hashes are compared byte by byte.
    known: HashMap<u64, Arc<Layout>>,
    key: RandomState,
}

/// The file that is being written.
struct OpenFile {
    start: u64,
    blocks: Vec<u32>,
    hash: <RandomState as BuildHasher>::Hasher,
}

impl Layouts {
    pub(super) fn new(out: Arc<File>, start: u64, block_size: u32) -> Self {
        let key = RandomState::new();
        let file = OpenFile { start, blocks: Vec::new(), hash: key.build_hasher() };
        let written = Written { files: Vec::new(), fragments: Vec::new(), end: start, duplicates: 0 };
        Self { out, block_size: block_size.into(), position: start, file, written, known: HashMap::new(), key }
    }

    /// The next block of the file; gives its memory back.
    pub(super) fn block(&mut self, block: Compressed) -> Result<Vec<u8>, ImageError> {
        let (stored, memory) = match block {
            Compressed::Zeros(memory) => (0, memory),
            Compressed::Packed(Packed { bytes, raw }) => {
                self.file.hash.write(&bytes);
                (self.append(&bytes, raw)?, bytes)
            }
        };
        self.file.hash.write_u32(stored);
        self.file.blocks.push(stored);
        Ok(memory)
    }

    pub(super) fn zeros(&mut self, blocks: u64) {
        for _ in 0..blocks {
            self.file.hash.write_u32(0);
            self.file.blocks.push(0);
        }
    }

    /// The next block of fragments; gives its memory back.
    pub(super) fn fragments(&mut self, block: Compressed) -> Result<Vec<u8>, ImageError> {
        let start = self.position;
        let (stored, memory) = match block {
            // A block of fragments is always stored. No file of zeros gets into one, so there is always something in it.
            Compressed::Zeros(_) => return Err(ImageError::Ended),
            Compressed::Packed(Packed { bytes, raw }) => (self.append(&bytes, raw)?, bytes),
        };
        self.written.fragments.push(Fragments { start, stored });
        self.file.start = self.position;
        Ok(memory)
    }

    /// Ends the file; if its blocks are in the image already, those of its own are given up.
    pub(super) fn file_end(&mut self, size: u64) -> Result<(), ImageError> {
        let fresh = OpenFile { start: self.position, blocks: Vec::new(), hash: self.key.build_hasher() };
        let mut file = std::mem::replace(&mut self.file, fresh);
        file.hash.write_u64(size);
        let hash = file.hash.finish();
        let layout = self.layout(size, file);
        if let Some(known) = self.known.get(&hash).map(Arc::clone)
            && self.equal(&known, &layout)?
        {
            self.position = layout.start;
            self.file.start = layout.start;
            self.written.duplicates += 1;
            self.written.files.push(known);
            return Ok(());
        }
        let layout = Arc::new(layout);
        self.known.entry(hash).or_insert_with(|| Arc::clone(&layout));
        self.written.files.push(layout);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Written {
        self.written.end = self.position;
        self.written
    }

    fn layout(&self, size: u64, file: OpenFile) -> Layout {
        let last = file.blocks.len().saturating_sub(1);
        let length =
            |index| if index == last { size.saturating_sub(last as u64 * self.block_size) } else { self.block_size };
        let holes = file.blocks.iter().enumerate().filter(|(_, stored)| **stored == 0);
        let sparse = holes.map(|(index, _)| length(index)).sum();
        Layout { start: file.start, blocks: file.blocks.into(), sparse, size }
    }

    fn append(&mut self, bytes: &[u8], raw: bool) -> Result<u32, ImageError> {
        self.out.write_all_at(bytes, self.position).map_err(ImageError::Write)?;
        self.position += bytes.len() as u64;
        let length = u32::try_from(bytes.len()).map_err(|_| ImageError::TooLarge { what: "a block" })?;
        Ok(if raw { length | spec::BLOCK_RAW } else { length })
    }

    /// Whether two files are stored alike.
    fn equal(&self, one: &Layout, other: &Layout) -> Result<bool, ImageError> {
        if one.size != other.size || one.blocks != other.blocks {
            return Ok(false);
        }
        let mut left: u64 = one.blocks.iter().map(|stored| u64::from(stored & !spec::BLOCK_RAW)).sum();
        let (mut a, mut b) = (vec![0; COMPARE_BYTES], vec![0; COMPARE_BYTES]);
        let mut done = 0;
        while left > 0 {
            let length = left.min(COMPARE_BYTES as u64) as usize;
            let (a, b) = (&mut a[..length], &mut b[..length]);
            self.out.read_exact_at(a, one.start + done).map_err(ImageError::Read)?;
            self.out.read_exact_at(b, other.start + done).map_err(ImageError::Read)?;
            if a != b {
                return Ok(false);
            }
            done += length as u64;
            left -= length as u64;
        }
        Ok(true)
    }
}

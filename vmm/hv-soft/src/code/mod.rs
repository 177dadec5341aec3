//! Decoded blocks, keyed by guest physical address.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::access::chunks;
use crate::mem::{HostPage, OFFSET};
use crate::op::{Handler, Op};

pub(crate) mod jump;

/// Not a block.
pub(crate) const NO_BLOCK: u32 = u32::MAX;
/// Most ops in a block.
pub(crate) const MAX_BLOCK: usize = 64;
/// Ops kept before everything is dropped: 32 MiB.
const MAX_OPS: usize = 1 << 20;

/// One straight run of instructions inside a page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    /// Index of the first op.
    pub(crate) first: u32,
    /// Number of ops.
    pub(crate) count: u32,
    /// Number of guest instructions (fused ops count twice); 0 once the block is forgotten.
    pub(crate) instructions: u32,
    /// Offset of the first instruction in the page.
    pub(crate) start: u32,
    /// Where execution goes on, relative to the page: after the last op, and when its direct branch is taken.
    pub(crate) next: [u64; 2],
    /// Blocks of the same page at those places, once known.
    pub(crate) links: [u32; 2],
}

/// Decoded code of one page.
#[derive(Default)]
struct PageCode {
    /// (offset, block)
    blocks: Vec<(u16, u32)>,
    /// Digest of each 64-byte chunk that code was decoded from.
    digests: Vec<(u8, u64)>,
    /// Value of the machine's device epoch when the digests were last compared.
    epoch: u64,
}

/// All decoded code.
#[derive(Default)]
pub(crate) struct CodeCache {
    ops: Vec<Op>,
    blocks: Vec<Block>,
    by_address: HashMap<u64, u32, BuildHasherDefault<AddressHasher>>,
    pages: HashMap<u64, PageCode, BuildHasherDefault<AddressHasher>>,
    generation: u64,
}

impl CodeCache {
    /// The block by its number.
    #[inline(always)]
    pub(crate) fn block(&self, number: u32) -> Option<&Block> {
        self.blocks.get(number as usize)
    }

    /// Whether the block is not forgotten.
    pub(crate) fn alive(&self, number: u32) -> bool {
        self.blocks.get(number as usize).is_some_and(|b| b.instructions != 0)
    }

    /// The ops of a block.
    #[inline(always)]
    pub(crate) fn ops(&self, block: &Block) -> &[Op] {
        let first = block.first as usize;
        self.ops.get(first..first + block.count as usize).unwrap_or(&[])
    }

    /// Changes whenever blocks are forgotten.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// The block at a guest physical address.
    pub(crate) fn find(&self, gpa: u64) -> Option<u32> {
        self.by_address.get(&gpa).copied()
    }

    /// Whether there is no room for another block.
    pub(crate) fn full(&self) -> bool {
        self.ops.len() + MAX_BLOCK > MAX_OPS
    }

    /// Adds a block decoded from `bytes` bytes at `gpa`; gives its number and the chunks it covers.
    pub(crate) fn insert(&mut self, gpa: u64, bytes: u64, mut block: Block, ops: &[Op], from: Source) -> (u32, u64) {
        let number = self.blocks.len() as u32;
        block.first = self.ops.len() as u32;
        block.count = ops.len() as u32;
        self.ops.extend_from_slice(ops);
        self.blocks.push(block);
        self.by_address.insert(gpa, number);
        let page = self.pages.entry(gpa & !OFFSET).or_default();
        page.blocks.push(((gpa & OFFSET) as u16, number));
        page.epoch = from.epoch;
        let mask = chunks(gpa & OFFSET, bytes);
        for chunk in (0..64).filter(|c| mask >> c & 1 != 0) {
            if !page.digests.iter().any(|&(c, _)| c == chunk) {
                page.digests.push((chunk, digest(from.page, chunk)));
            }
        }
        (number, mask)
    }

    /// Notes that the block at place `which` after `block` is `target`.
    pub(crate) fn link(&mut self, block: u32, which: usize, target: u32) {
        if let Some(b) = self.blocks.get_mut(block as usize) {
            b.links[which & 1] = target;
        }
    }

    /// Whether the page's code is still what was decoded, as far as devices may have changed it.
    pub(crate) fn fresh(&mut self, gpa: u64, from: Source) -> bool {
        let Some(page) = self.pages.get_mut(&(gpa & !OFFSET)) else { return true };
        if page.epoch == from.epoch {
            return true;
        }
        page.epoch = from.epoch;
        page.digests.iter().all(|&(chunk, d)| digest(from.page, chunk) == d)
    }

    /// Forgets the blocks of a page. Their ops stay until the next [`clear`](Self::clear).
    /// Whoever still comes to one of them by an old jump target meets `retired`.
    pub(crate) fn drop_page(&mut self, gpa: u64, retired: Handler) {
        let gpa = gpa & !OFFSET;
        self.generation += 1;
        if let Some(page) = self.pages.remove(&gpa) {
            for (offset, number) in page.blocks {
                self.by_address.remove(&(gpa | u64::from(offset)));
                let Some(block) = self.blocks.get_mut(number as usize) else { continue };
                block.instructions = 0;
                if let Some(op) = self.ops.get_mut(block.first as usize) {
                    *op = Op::new(retired, offset, 0);
                }
            }
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.generation += 1;
        self.ops.clear();
        self.blocks.clear();
        self.by_address.clear();
        self.pages.clear();
    }
}

/// Where a block comes from.
#[derive(Clone, Copy)]
pub(crate) struct Source {
    /// The page of RAM.
    pub(crate) page: HostPage,
    /// The machine's device epoch before the bytes were read.
    pub(crate) epoch: u64,
}

fn digest(page: HostPage, chunk: u8) -> u64 {
    let at = u64::from(chunk) * 64;
    (0..8).fold(u64::from(chunk), |h, i| {
        (h.rotate_left(23) ^ page.load::<u64>(at + 8 * i)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}

/// Multiplicative hash for addresses. The guest can make entries collide and so slow itself down, nothing more.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&b| self.write_u64(u64::from(b)));
    }

    fn write_u64(&mut self, v: u64) {
        let h = (self.0 ^ v).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = h ^ h >> 32;
    }
}

//! Decoded blocks, keyed by guest physical address.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::access::chunks;
use crate::mem::{HostPage, OFFSET};
use crate::op::{Handler, Op};

pub(crate) mod block;
pub(crate) mod jump;

use block::{BlockInfo, Header};

/// Not a block.
pub(crate) const NO_BLOCK: u32 = u32::MAX;
/// Most ops in a block.
pub(crate) const MAX_BLOCK: usize = 64;
/// Ops kept before everything is dropped: 32 MiB.
const MAX_OPS: usize = 1 << 20;

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
    /// Blocks one after the other, each a header and its ops; a block's number is its header's index.
    arena: Vec<Op>,
    by_address: HashMap<u64, u32, BuildHasherDefault<AddressHasher>>,
    pages: HashMap<u64, PageCode, BuildHasherDefault<AddressHasher>>,
    generation: u64,
}

impl CodeCache {
    /// A block's header and ops.
    #[inline(always)]
    pub(crate) fn block(&self, number: u32) -> Option<(Header<'_>, &[Op])> {
        let rest = self.arena.get(number as usize..)?;
        let (first, rest) = rest.split_first()?;
        let header = Header(first);
        Some((header, rest.get(..header.count())?))
    }

    /// Whether the block is not forgotten.
    pub(crate) fn alive(&self, number: u32) -> bool {
        self.arena.get(number as usize).is_some_and(|op| Header(op).instructions() != 0)
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
        self.arena.len() + MAX_BLOCK >= MAX_OPS
    }

    /// Adds a block decoded from `bytes` bytes at `gpa`; gives its number and the chunks it covers.
    pub(crate) fn insert(&mut self, gpa: u64, bytes: u64, info: BlockInfo, ops: &[Op], from: Source) -> (u32, u64) {
        let number = self.arena.len() as u32;
        self.arena.push(Header::entry(info, ops.len(), from.retired));
        self.arena.extend_from_slice(ops);
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

    /// Notes that the block after `block`, or at its branch's target, is `target`.
    pub(crate) fn link(&mut self, block: u32, taken: bool, target: u32) {
        if let Some(header) = self.arena.get_mut(block as usize) {
            block::set_link(header, taken, target);
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
                if let Some([header, first]) = self.arena.get_mut(number as usize..number as usize + 2) {
                    block::forget(header);
                    *first = Op::new(retired, offset, 0);
                }
            }
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.generation += 1;
        self.arena.clear();
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
    /// Handler that stands for forgotten code.
    pub(crate) retired: Handler,
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

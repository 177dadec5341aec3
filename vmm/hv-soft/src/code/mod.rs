//! Decoded blocks by their place in guest RAM: number of the page among all pages of RAM, and offset in it.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::advise::large_pages;
use crate::cpu::Cpu;
use crate::decode::liveness::Unseen;
use crate::mem::HostPage;
use crate::op::{Handler, Op, Res, Stop};

pub(crate) mod block;
pub(crate) mod jump;
pub(crate) mod kept;
pub(crate) mod map;
pub(crate) mod store;
pub(crate) mod thread;

use block::{BlockInfo, End};
use kept::KeptPage;
use map::Change;
use store::Spot;
use thread::{Choice, Quick, retired};

/// Not a block.
pub(crate) const NO_BLOCK: u32 = u32::MAX;
/// Most instructions in a block.
pub(crate) const MAX_BLOCK: usize = 64;
/// Ops kept before everything is dropped: 32 MiB.
const MAX_OPS: usize = 1 << 20;
/// Pages whose code is kept before everything is dropped; each takes half a kilobyte and more.
const MAX_PAGES: usize = 1 << 16;

/// A block of a page.
#[derive(Clone, Copy)]
struct Placed {
    offset: u16,
    /// Bytes of code.
    len: u16,
    /// Ops, without the end.
    ops: u16,
    /// Ops in its part of the arena, the end included; those after the end are left of an earlier block.
    room: u16,
    number: u32,
    /// Digest of its bytes.
    digest: u64,
}

impl Placed {
    fn overlaps(&self, change: Change) -> bool {
        let (start, len) = (u64::from(self.offset), u64::from(self.len));
        start < change.end && change.start < start + len
    }
}

/// A block whose bytes were changed. Whoever still comes to it by an old jump target meets `retired`, which stands in
/// for its first op. At most one for each offset, for whatever is put there takes it away.
struct Retired {
    placed: Placed,
    first: Op,
}

/// Decoded code of one page.
#[derive(Default)]
struct PageCode {
    /// In the order of their offsets.
    blocks: Vec<Placed>,
    retired: Vec<Retired>,
}

impl PageCode {
    /// Where the block at an offset is, or would be.
    fn at(&self, offset: u64) -> Result<usize, usize> {
        self.blocks.binary_search_by_key(&offset, |block| u64::from(block.offset))
    }

    /// Adds a block; there is none at its offset.
    fn add(&mut self, block: Placed) {
        let (Ok(at) | Err(at)) = self.at(block.offset.into());
        self.blocks.insert(at, block);
    }
}

/// All decoded code.
#[derive(Default)]
pub(crate) struct CodeCache {
    /// Blocks one after the other, each its ops and an end; a block's number is the index of its first op.
    arena: Vec<Op>,
    /// The handlers of all ops as plain functions.
    plain: Vec<Handler>,
    pages: HashMap<usize, PageCode, BuildHasherDefault<AddressHasher>>,
    generation: u64,
}

impl CodeCache {
    /// An empty cache with room for all the ops it may hold, so that they never move.
    pub(crate) fn new() -> Self {
        Self::with_small_pages(0)
    }

    /// The same with no large pages behind the first `ops`: little of one would be used where there is little code.
    fn with_small_pages(ops: usize) -> Self {
        let mut arena = Vec::with_capacity(MAX_OPS);
        large_pages(&mut arena, ops);
        CodeCache { arena, ..CodeCache::default() }
    }

    /// Forgets everything and gives its memory back, for a guest that will need no more than `ops` for now.
    pub(crate) fn release(&mut self, ops: usize) {
        *self = CodeCache { generation: self.generation + 1, ..Self::with_small_pages(ops) };
    }

    /// All ops.
    #[inline(always)]
    pub(crate) fn ops(&self) -> &[Op] {
        &self.arena
    }

    /// The handler of op `index`.
    #[inline(always)]
    pub(crate) fn plain(&self, index: usize) -> Option<Handler> {
        self.plain.get(index).copied()
    }

    /// Changes whenever blocks are forgotten.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// The block at an offset of a page.
    pub(crate) fn find(&self, page: usize, offset: u64) -> Option<u32> {
        let page = self.pages.get(&page)?;
        page.blocks.get(page.at(offset).ok()?).map(|block| block.number)
    }

    /// Whether there is no room for another block.
    pub(crate) fn full(&self) -> bool {
        self.arena.len() + MAX_BLOCK + 1 >= MAX_OPS || self.pages.len() >= MAX_PAGES
    }

    /// Adds a block decoded from `len` bytes at `offset` of a page, in the place of the one that was there before if
    /// that has room; gives its number.
    pub(crate) fn insert(&mut self, offset: u64, len: u64, info: BlockInfo, code: &Listing, from: Source) -> u32 {
        let page = self.pages.entry(from.number).or_default();
        let room = code.ops.len() as u16 + 1;
        let old = page.retired.iter().position(|r| u64::from(r.placed.offset) == offset);
        let old = old.map(|i| page.retired.swap_remove(i).placed).filter(|old| old.room >= room);
        let (number, room) = old.map_or((self.arena.len() as u32, room), |old| (old.number, old.room));
        let digest = digest(from.page, offset, len);
        let ops = code.ops.len() as u16;
        page.add(Placed { offset: offset as u16, len: len as u16, ops, room, number, digest });
        self.put(number as usize, info, code);
        number
    }

    /// Whether anything of a page was decoded.
    pub(crate) fn knows(&self, page: usize) -> bool {
        self.pages.contains_key(&page)
    }

    /// Makes room for so many pages of so many ops at once.
    pub(crate) fn expect(&mut self, (pages, ops): (usize, usize)) {
        let ops = ops.min(MAX_OPS);
        self.plain.reserve(ops.saturating_sub(self.plain.len()));
        self.pages.reserve(pages.min(MAX_PAGES));
    }

    /// Adds those of a page's kept blocks whose code is what they were decoded from, linked to one another; says how many
    /// ops that are. Nothing of the page was decoded before.
    pub(crate) fn adopt(&mut self, kept: &KeptPage<'_>, from: Source) -> usize {
        let before = self.arena.len();
        let mut page = PageCode { blocks: Vec::with_capacity(kept.count()), retired: Vec::new() };
        let (mut numbers, mut links) = (Vec::with_capacity(kept.count()), Vec::with_capacity(kept.count()));
        for block in kept.blocks() {
            // A forged page may have them in no order.
            let in_order = page.blocks.last().is_none_or(|last| u64::from(last.offset) < block.offset);
            if self.full() || !in_order || digest(from.page, block.offset, block.bytes) != block.digest {
                numbers.push(None);
                continue;
            }
            let (number, ops) = (self.arena.len() as u32, block.count() as u16);
            let whole = block.each_op(|op, plain| {
                self.arena.push(op);
                self.plain.push(plain);
            });
            if !whole {
                self.arena.truncate(number as usize);
                self.plain.truncate(number as usize);
                break;
            }
            links.push((self.arena.len(), block.links));
            self.arena.push(End::entry(block.info));
            self.plain.push(no_instruction);
            let (offset, len) = (block.offset as u16, block.bytes as u16);
            page.blocks.push(Placed { offset, len, ops, room: ops + 1, number, digest: block.digest });
            numbers.push(Some(number));
        }
        for (end, links) in links {
            for (link, taken) in links.into_iter().zip([false, true]) {
                if let Some(target) = link.and_then(|to| numbers.get(to).copied().flatten()) {
                    self.link(end, taken, target);
                }
            }
        }
        self.pages.insert(from.number, page);
        self.arena.len() - before
    }

    /// Puts a block's ops and end where they replace older ones, or at the arena's end.
    fn put(&mut self, number: usize, info: BlockInfo, code: &Listing) {
        let ops = code.ops.iter().zip(&code.plain).map(|(op, plain)| (*op, *plain));
        for (i, (op, plain)) in ops.chain([(End::entry(info), no_instruction as Handler)]).enumerate() {
            match (self.arena.get_mut(number + i), self.plain.get_mut(number + i)) {
                (Some(old), Some(old_plain)) => (*old, *old_plain) = (op, plain),
                _ => {
                    self.arena.push(op);
                    self.plain.push(plain);
                }
            }
        }
    }

    /// The block that was at `offset` before, if its bytes are there again.
    pub(crate) fn revive(&mut self, offset: u64, from: Source) -> Option<(u32, u64)> {
        let page = self.pages.get_mut(&from.number)?;
        let i = page.retired.iter().position(|r| u64::from(r.placed.offset) == offset)?;
        let Placed { len, number, digest: old, .. } = page.retired.get(i)?.placed;
        if digest(from.page, offset, u64::from(len)) != old {
            return None;
        }
        let Retired { placed, first } = page.retired.swap_remove(i);
        *self.arena.get_mut(number as usize)? = first;
        page.add(placed);
        Some((number, u64::from(len)))
    }

    /// Notes that the block after the one that ends at `end`, or at its branch's target, is `target`.
    pub(crate) fn link(&mut self, end: usize, taken: bool, target: u32) {
        if let Some(end) = self.arena.get_mut(end) {
            block::set_link(end, taken, target);
        }
    }

    /// The same for a block of another page, under a key; or that there is to be no link, with [`block::NEVER`].
    pub(crate) fn link_far(&mut self, end: usize, taken: bool, target: u32, key: u64) {
        if let Some(end) = self.arena.get_mut(end) {
            block::set_far_link(end, taken, target, key);
        }
    }

    /// Whether the page's code is still what was decoded.
    pub(crate) fn fresh(&self, from: Source) -> bool {
        let same = |b: &Placed| digest(from.page, u64::from(b.offset), u64::from(b.len)) == b.digest;
        self.pages.get(&from.number).is_none_or(|page| page.blocks.iter().all(same))
    }

    /// Retires the blocks that a change has to do with; says whether there were any. Their ops stay until the next
    /// [`clear`](Self::clear).
    pub(crate) fn retire(&mut self, change: Change) -> bool {
        let Some(page) = self.pages.get_mut(&change.page) else { return false };
        let before = page.blocks.len();
        let PageCode { blocks, retired: gone } = page;
        for placed in blocks.extract_if(.., |block| block.overlaps(change)) {
            let Some(first) = self.arena.get_mut(placed.number as usize) else { continue };
            let first = std::mem::replace(first, Op::new(retired, placed.offset, 0));
            gone.push(Retired { placed, first });
        }
        self.generation += u64::from(before != page.blocks.len());
        before != page.blocks.len()
    }

    /// Offsets and lengths of the blocks of a page.
    pub(crate) fn ranges(&self, page: usize) -> impl Iterator<Item = (u64, u64)> + '_ {
        let blocks = self.pages.get(&page).map_or(&[][..], |p| &p.blocks);
        blocks.iter().map(|b| (u64::from(b.offset), u64::from(b.len)))
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.generation += 1;
        self.arena.clear();
        self.plain.clear();
        self.pages.clear();
    }
}

/// Stands beside a block's end, where no instruction is.
fn no_instruction(_: &mut Cpu, _: &Op) -> Res {
    Err(Stop::Step)
}

/// Ops of a block that has no place yet.
#[derive(Default)]
pub(crate) struct Listing {
    pub(crate) ops: Vec<Op>,
    /// The handlers of the ops as plain functions.
    pub(crate) plain: Vec<Handler>,
    /// The decoder's own.
    pub(crate) unseen: Unseen,
}

impl Listing {
    /// Adds an op.
    pub(crate) fn push(&mut self, op: Op, choice: Choice) {
        self.ops.push(Op { quick: choice.quick, ..op });
        self.plain.push(choice.plain);
    }

    /// Adds the op of an instruction that the last op carries out as well, by this handler.
    pub(crate) fn push_second(&mut self, op: Op, choice: Choice, both: Quick) {
        if let Some(last) = self.ops.last_mut() {
            last.quick = both;
        }
        self.push(op, choice);
    }

    /// An op.
    pub(crate) fn op(&self, number: usize) -> Option<&Op> {
        self.ops.get(number)
    }

    /// Gives an op another handler.
    pub(crate) fn replace(&mut self, number: usize, choice: Choice) {
        if let (Some(op), Some(plain)) = (self.ops.get_mut(number), self.plain.get_mut(number)) {
            (op.quick, *plain) = (choice.quick, choice.plain);
        }
    }

    /// Gives the last op another handler.
    pub(crate) fn fuse(&mut self, choice: Choice) {
        self.replace(self.ops.len().wrapping_sub(1), choice);
    }

    /// Removes all ops.
    pub(crate) fn clear(&mut self) {
        self.ops.clear();
        self.plain.clear();
        self.unseen.clear();
    }
}

/// Where a block comes from.
#[derive(Clone, Copy)]
pub(crate) struct Source {
    /// The page of RAM.
    pub(crate) page: HostPage,
    /// Its number among all pages of RAM.
    pub(crate) number: usize,
}

/// A step of a digest.
fn mix(h: u64, word: u64) -> u64 {
    (h.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn digest(page: HostPage, offset: u64, len: u64) -> u64 {
    let whole = (0..len / 8).fold(len, |h, i| mix(h, page.load::<u64>(offset + 8 * i)));
    let rest = Spot { page, number: 0, offset: offset + len / 8 * 8 }.load(len % 8);
    mix(whole, rest)
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

    fn write_usize(&mut self, v: usize) {
        self.write_u64(v as u64);
    }

    fn write_u64(&mut self, v: u64) {
        let h = (self.0 ^ v).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = h ^ h >> 32;
    }
}

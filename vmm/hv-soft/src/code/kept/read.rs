//! Kept code on its way back: bytes that may be anything.

use supermachine_hv::Kept as Bytes;

use super::{
    AUXILIARY, BLOCK_BYTES, DIGESTED, DISPLACEMENT, HANDLER, HANDLER_BYTES, HEADER_BYTES, IMMEDIATE, MAGIC, MAX_BYTES,
    MEMORY, PAGE_BYTES, SAMPLE_HEAD, VERSION, WIDE, decode_sample, digest, mode_bits,
};
use crate::code::block::BlockInfo;
use crate::code::thread::Choice;
use crate::code::{Listing, MAX_BLOCK};
use crate::decode::Modes;
use crate::mem::PAGE;
use crate::op::{Handler, Op};

/// Bytes of the smallest op: handler, two registers, place.
const LEAST_OP: usize = 6;

/// A handler of a sample's op.
#[derive(Clone, Copy)]
struct Known {
    choice: Choice,
    /// It ends its block, and only such a one may.
    last: bool,
}

/// Kept code that was opened: its tables were checked, its pages are when they are used.
pub(crate) struct Kept {
    bytes: Bytes,
    modes: Modes,
    known: Vec<Known>,
    /// Start and number of entries of the table of pages.
    table: (usize, usize),
    /// Start of the pages.
    pages: usize,
    /// The table's entries by where their pages lie.
    by_place: Vec<u32>,
}

/// One page of it.
pub(crate) struct KeptPage<'a> {
    bytes: &'a [u8],
    blocks: usize,
    known: &'a [Known],
}

/// One block: what it is made of, and the digest of the code that it was decoded from.
pub(crate) struct KeptBlock<'a> {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) digest: u64,
    pub(crate) info: BlockInfo,
    /// The blocks of this page that follow, not taken and taken.
    pub(crate) links: [Option<usize>; 2],
    count: usize,
    /// Its ops, `length` bytes, and what is behind them.
    ops: &'a [u8],
    length: usize,
    known: &'a [Known],
}

impl Kept {
    /// Opens what [`write`](super::write) made for these modes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn open(bytes: Bytes, modes: Modes) -> Result<Self, &'static str> {
        let all = (*bytes).as_ref();
        let header = all.get(..HEADER_BYTES).filter(|_| all.len() <= MAX_BYTES).ok_or("its length is wrong")?;
        if !header.starts_with(&MAGIC) {
            return Err("it is not kept code");
        }
        if u32_at(header, 8) != Some(VERSION) {
            return Err("it is of another version");
        }
        if u32_at(header, 12) != Some(mode_bits(modes)) {
            return Err("it is of another CPU model");
        }
        let count = |at| u32_at(header, at).unwrap_or(0) as usize;
        let (samples, handlers, pages) = (count(16), count(20), count(24));
        let table_of_handlers = HEADER_BYTES.saturating_add(samples);
        let table = table_of_handlers.saturating_add(handlers.saturating_mul(HANDLER_BYTES));
        let end = table.saturating_add(pages.saturating_mul(PAGE_BYTES));
        let head = all.get(HEADER_BYTES..end).ok_or("it is cut")?;
        let digests = [header.get(..DIGESTED).unwrap_or_default(), head].map(digest);
        if u64_at(header, DIGESTED) != Some(digests[0] ^ digests[1].rotate_left(1)) {
            return Err("it is damaged");
        }
        let (samples, rest) = head.split_at_checked(samples).ok_or("it is cut")?;
        let known = known(samples, rest.get(..handlers * HANDLER_BYTES).unwrap_or_default(), modes);
        let known = known.ok_or("its samples have other handlers here")?;
        let mut kept = Kept { bytes, modes, known, table: (table, pages), pages: end, by_place: Vec::new() };
        let mut by_place: Vec<_> = (0..).zip(kept.entries()).map(|(index, entry)| (u32_at(entry, 8), index)).collect();
        by_place.sort_unstable();
        kept.by_place = by_place.into_iter().map(|(_, index)| index).collect();
        Ok(kept)
    }

    /// The modes that it was decoded for.
    pub(crate) fn modes(&self) -> Modes {
        self.modes
    }

    /// How many pages and, at most, ops it has.
    pub(crate) fn extent(&self) -> (usize, usize) {
        (self.table.1, self.len() / LEAST_OP)
    }

    /// Length of all of it.
    pub(crate) fn len(&self) -> usize {
        (*self.bytes).as_ref().len()
    }

    /// The number of page `index` in the order in which its writer came to them or took them.
    pub(crate) fn number(&self, index: usize) -> Option<usize> {
        let entry = self.entries().get(*self.by_place.get(index)? as usize);
        entry.and_then(|entry| u32_at(entry, 0)).map(|number| number as usize)
    }

    fn entries(&self) -> &[[u8; PAGE_BYTES]] {
        let (start, count) = self.table;
        let table = (*self.bytes).as_ref().get(start..start + count * PAGE_BYTES);
        table.unwrap_or_default().as_chunks::<PAGE_BYTES>().0
    }

    /// The code of a page, if there is any and it is whole.
    pub(crate) fn page(&self, number: usize) -> Option<KeptPage<'_>> {
        let (all, table) = ((*self.bytes).as_ref(), self.entries());
        let at = table.binary_search_by_key(&number, |entry| u32_at(entry, 0).unwrap_or(0) as usize).ok()?;
        let entry = table.get(at)?;
        let (offset, bytes) = (u32_at(entry, 8)? as usize, u32_at(entry, 12)? as usize);
        let start = self.pages.checked_add(offset)?;
        let bytes = all.get(start..start.checked_add(bytes)?)?;
        let blocks = u32_at(entry, 4)? as usize;
        (u64_at(entry, 16)? == digest(bytes)).then_some(KeptPage { bytes, blocks, known: &self.known })
    }
}

impl<'a> KeptPage<'a> {
    /// How many blocks it has.
    pub(crate) fn count(&self) -> usize {
        self.blocks.min(self.bytes.len() / BLOCK_BYTES)
    }

    /// Each block; ends at the first that cannot be one.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = KeptBlock<'a>> + use<'a> {
        let (count, known) = (self.count(), self.known);
        let (heads, mut rest) = self.bytes.split_at_checked(count * BLOCK_BYTES).unwrap_or_default();
        heads.as_chunks::<BLOCK_BYTES>().0.iter().map_while(move |head| {
            let (block, after) = KeptBlock::new(head, count, rest, known)?;
            rest = after;
            Some(block)
        })
    }
}

impl<'a> KeptBlock<'a> {
    fn new(
        head: &[u8; BLOCK_BYTES],
        blocks: usize,
        rest: &'a [u8],
        known: &'a [Known],
    ) -> Option<(KeptBlock<'a>, &'a [u8])> {
        let (digest, offset, bytes) = (u64_at(head, 0)?, u64::from(u16_at(head, 8)?), u64::from(u16_at(head, 10)?));
        let (count, instructions) = (usize::from(*head.get(12)?), u32::from(*head.get(13)?));
        let link = |at| u16_at(head, at).map(usize::from).filter(|to| *to < blocks);
        let links = [link(14), link(16)];
        let target = i64::from(u32_at(head, 18)?.cast_signed()).cast_unsigned();
        let length = usize::from(u16_at(head, 22)?);
        let sound = offset + bytes <= PAGE
            && bytes > 0
            && (1..=MAX_BLOCK).contains(&count)
            && (1..=MAX_BLOCK as u32).contains(&instructions);
        let (ops, rest) = (rest, rest.get(length..)?);
        let info = BlockInfo { instructions, end: offset + bytes, target };
        sound.then_some((KeptBlock { offset, bytes, digest, info, links, count, ops, length, known }, rest))
    }

    /// How many ops it has.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Gives each of its ops with its handler as a plain function; says whether they make a block: all are there, the last one and
    /// no other ends it.
    pub(crate) fn each_op(&self, mut take: impl FnMut(Op, Handler)) -> bool {
        let mut at = 0;
        for left in (0..self.count).rev() {
            let Some((op, known, bytes)) = self.ops.get(at..).and_then(|ops| parse(ops, self.known)) else {
                return false;
            };
            if known.last != (left == 0) {
                return false;
            }
            take(op, known.choice.plain);
            at += bytes;
        }
        at <= self.length
    }
}

/// Bytes of the longest op, 26, and some more.
const WINDOW: usize = 32;

/// The first op of `bytes`, its handlers, and how many bytes it takes. What an op has beyond its first bytes differs from one to the
/// next as a processor cannot foresee: so each part is read whether it is there or not, and left where it is not.
fn parse(bytes: &[u8], known: &[Known]) -> Option<(Op, Known, usize)> {
    let padded;
    let window = match bytes.first_chunk::<WINDOW>() {
        Some(window) => window,
        None => {
            let mut copy = [0; WINDOW];
            copy.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            padded = copy;
            &padded
        }
    };
    let [low, high, dst, src, place_low, place_high, ..] = *window;
    let word = u16::from_le_bytes([low, high]);
    let known = *known.get(usize::from(word & HANDLER))?;
    let mut op = Op::new(known.choice.quick, 0, 0);
    (op.dst, op.src, op.place) = (dst, src, u16::from_le_bytes([place_low, place_high]));
    let mut at = 6;
    let mut part = |bit: u16, absent: u32| {
        let (there, value) = (word & bit != 0, u32_at(window, at)?);
        at += if there { 4 } else { 0 };
        Some(if there { value } else { absent })
    };
    let none = u32::from_le_bytes([op.base, op.index, op.mode, op.seg]);
    [op.base, op.index, op.mode, op.seg] = part(MEMORY, none)?.to_le_bytes();
    op.disp = part(DISPLACEMENT, 0)?.cast_signed();
    op.aux = part(AUXILIARY, 0)?;
    let (value, narrow) = (u64_at(window, at)?, word & IMMEDIATE != 0);
    let wide = word & WIDE != 0 && !narrow;
    let extended = i64::from(value as i32).cast_unsigned();
    op.imm = if wide { value } else { 0 } | if narrow { extended } else { 0 };
    at += if wide { 8 } else { 0 } + if narrow { 4 } else { 0 };
    (at <= bytes.len()).then_some((op, known, at))
}

/// Decodes the samples; gives the handlers that the table names, or nothing where a sample has not so many ops.
fn known(samples: &[u8], table: &[u8], modes: Modes) -> Option<Vec<Known>> {
    let mut decoded = Vec::new();
    let (mut rest, mut list) = (samples, Listing::default());
    while let Some((head, after)) = rest.split_first_chunk::<SAMPLE_HEAD>() {
        let [offset, length] = [u16_at(head, 0)?, u16_at(head, 2)?].map(usize::from);
        let (bytes, after) = after.split_at_checked(length)?;
        decode_sample(offset, bytes, modes, &mut list);
        let count = list.ops.len();
        let choices = list.ops.iter().zip(&list.plain).enumerate();
        let known = choices.map(|(index, (op, plain))| Known {
            choice: Choice { plain: *plain, quick: op.quick },
            last: index + 1 == count,
        });
        decoded.push(known.collect::<Vec<_>>());
        rest = after;
    }
    let find = |entry: &[u8; HANDLER_BYTES]| {
        let [sample, index] = [u16_at(entry, 0)?, u16_at(entry, 2)?].map(usize::from);
        decoded.get(sample)?.get(index).copied()
    };
    table.as_chunks::<HANDLER_BYTES>().0.iter().map(find).collect()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}

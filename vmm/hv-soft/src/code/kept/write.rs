//! Decoded code on its way out.

use std::collections::HashMap;

use super::{
    AUXILIARY, DIGESTED, DISPLACEMENT, HANDLER, HEADER_BYTES, IMMEDIATE, MAGIC, MAX_BYTES, MEMORY, NO_LINK, PAGE_BYTES,
    VERSION, WIDE, decode_sample, digest, mode_bits,
};
use crate::code::block::End;
use crate::code::{CodeCache, Listing, Placed, Source, digest as digest_of_code};
use crate::decode::{MAX_INSTRUCTION, Modes};
use crate::mem::{PAGE, Ram};
use crate::op::{Handler, Op};

/// Handlers that differ, by their addresses here, and whether they end their blocks.
type Key = (usize, usize, bool);

fn key(op: &Op, plain: Handler, last: bool) -> Key {
    (op.quick as usize, plain as usize, last)
}

/// A block with its ops.
struct Block<'a> {
    placed: Placed,
    ops: &'a [Op],
    plain: &'a [Handler],
    end: &'a Op,
}

impl Block<'_> {
    fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        let last = self.ops.len() - 1;
        self.ops.iter().zip(self.plain).enumerate().map(move |(index, (op, plain))| key(op, *plain, index == last))
    }
}

/// The blocks of a page, in order.
struct Page<'a> {
    from: Source,
    blocks: Vec<Block<'a>>,
}

/// The handlers that the samples have.
#[derive(Default)]
struct Handlers {
    numbers: HashMap<Key, u16>,
    table: Vec<u8>,
    samples: Vec<u8>,
    sampled: u16,
    list: Listing,
}

impl Handlers {
    /// Makes a block a sample if it has a handler that no other has, and is decoded again to the same.
    fn take(&mut self, from: Source, block: &Block<'_>, modes: Modes) {
        if block.keys().all(|key| self.numbers.contains_key(&key)) {
            return;
        }
        let (offset, length) = (u64::from(block.placed.offset), u64::from(block.placed.len));
        // So that its end is decoded as it was: with what follows in reach.
        let length = (length + MAX_INSTRUCTION as u64).min(PAGE - offset);
        let mut bytes = vec![0; length as usize];
        from.page.copy_to(offset, &mut bytes);
        decode_sample(offset as usize, &bytes, modes, &mut self.list);
        let again = self.list.ops.iter().zip(&self.list.plain).map(|(op, plain)| (op.quick as usize, *plain as usize));
        if !again.eq(block.keys().map(|(quick, plain, _)| (quick, plain))) {
            return;
        }
        let (Ok(offset), Ok(length)) = (u16::try_from(offset), u16::try_from(length)) else { return };
        let Some(next) = self.sampled.checked_add(1) else { return };
        for (index, key) in (0u16..).zip(block.keys()) {
            let Some(number) = u16::try_from(self.numbers.len()).ok().filter(|number| *number <= HANDLER) else {
                return;
            };
            self.numbers.entry(key).or_insert_with(|| {
                self.table.extend(self.sampled.to_le_bytes());
                self.table.extend(index.to_le_bytes());
                number
            });
        }
        self.samples.extend(offset.to_le_bytes());
        self.samples.extend(length.to_le_bytes());
        self.samples.extend(bytes);
        self.sampled = next;
    }
}

/// All code of pages for which `unchanged` holds, which is asked by the page's guest physical address. Nothing where there is none, or
/// too much.
pub(crate) fn write(code: &CodeCache, ram: &Ram, modes: Modes, unchanged: &dyn Fn(u64) -> bool) -> Option<Vec<u8>> {
    let pages = pages(code, ram, unchanged);
    let mut handlers = Handlers::default();
    let mut all: Vec<_> =
        pages.iter().flat_map(|page| page.blocks.iter().map(move |block| (page.from, block))).collect();
    // Short ones first: there is less to decode in all then.
    all.sort_by_key(|(_, block)| block.ops.len());
    all.iter().for_each(|(from, block)| handlers.take(*from, block, modes));
    let (table, records) = put_pages(&pages, &handlers)?;
    let count = u32::try_from(table.len() / PAGE_BYTES).ok()?;
    log::debug!(
        "{} handlers in {} samples of {} bytes",
        handlers.numbers.len(),
        handlers.sampled,
        handlers.samples.len()
    );
    let Handlers { table: of_handlers, samples, numbers, .. } = handlers;
    let mut out = Vec::with_capacity(HEADER_BYTES + samples.len() + of_handlers.len() + table.len() + records.len());
    out.extend(MAGIC);
    let numbers = [VERSION, mode_bits(modes), samples.len() as u32, numbers.len() as u32, count];
    numbers.iter().for_each(|number| out.extend(number.to_le_bytes()));
    out.resize(HEADER_BYTES, 0);
    [samples, of_handlers, table].iter().for_each(|part| out.extend(part));
    let (header, head) = out.split_at(HEADER_BYTES);
    let digests = [header.get(..DIGESTED)?, head].map(digest);
    let sum = digests[0] ^ digests[1].rotate_left(1);
    out.get_mut(DIGESTED..HEADER_BYTES)?.copy_from_slice(&sum.to_le_bytes());
    out.extend(records);
    (count > 0 && out.len() <= MAX_BYTES).then_some(out)
}

/// The pages whose code is to be kept, in order.
fn pages<'a>(code: &'a CodeCache, ram: &Ram, unchanged: &dyn Fn(u64) -> bool) -> Vec<Page<'a>> {
    let mut numbers: Vec<_> = code.pages.keys().copied().collect();
    numbers.sort_unstable();
    let page = |number| {
        let (page, gpa) = ram.nth(number)?;
        unchanged(gpa).then_some(())?;
        let from = Source { page, number };
        let same = |placed: &&Placed| digest_of_code(page, placed.offset.into(), placed.len.into()) == placed.digest;
        let mut placed: Vec<_> = code.pages.get(&number)?.blocks.iter().filter(same).copied().collect();
        placed.sort_by_key(|placed| placed.offset);
        let block = |placed: Placed| {
            let (first, count) = (placed.number as usize, usize::from(placed.ops));
            let (ops, plain) = (code.arena.get(first..first + count)?, code.plain.get(first..first + count)?);
            Some(Block { placed, ops, plain, end: code.arena.get(first + count)? })
        };
        Some(Page {
            from,
            blocks: placed.into_iter().filter_map(block).filter(|block| !block.ops.is_empty()).collect(),
        })
    };
    numbers.into_iter().filter_map(page).collect()
}

/// The table of pages by their numbers, and their records in the order in which this machine came to them, or took them: so
/// are they taken by who takes them ahead of time.
fn put_pages(pages: &[Page<'_>], handlers: &Handlers) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut by_use: Vec<_> = pages.iter().collect();
    by_use.sort_by_key(|page| page.blocks.iter().map(|block| block.placed.number).min());
    let (mut entries, mut records) = (Vec::new(), Vec::new());
    for page in by_use {
        let start = records.len();
        let blocks = put_page(page, handlers, &mut records);
        if blocks == 0 {
            continue;
        }
        let record = records.get(start..)?;
        let mut entry = Vec::with_capacity(PAGE_BYTES);
        for number in [page.from.number, blocks as usize, start, record.len()] {
            entry.extend(u32::try_from(number).ok()?.to_le_bytes());
        }
        entry.extend(digest(record).to_le_bytes());
        entries.push((page.from.number, entry));
    }
    entries.sort_unstable_by_key(|(number, _)| *number);
    Some((entries.into_iter().flat_map(|(_, entry)| entry).collect(), records))
}

/// Adds a page's blocks: their heads, then the ops of each. Says how many there are.
fn put_page(page: &Page<'_>, handlers: &Handlers, out: &mut Vec<u8>) -> u32 {
    let known = |block: &&Block<'_>| fits(block) && block.keys().all(|key| handlers.numbers.contains_key(&key));
    let blocks: Vec<_> = page.blocks.iter().filter(known).collect();
    let at = |offset: u64| {
        let found = blocks.binary_search_by_key(&offset, |block| u64::from(block.placed.offset)).ok();
        found.and_then(|index| u16::try_from(index).ok()).unwrap_or(NO_LINK)
    };
    let mut bodies = Vec::new();
    for block in &blocks {
        let (end, start) = (End(block.end), bodies.len());
        for (op, key) in block.ops.iter().zip(block.keys()) {
            put_op(op, handlers.numbers.get(&key).copied().unwrap_or_default(), &mut bodies);
        }
        let next = |taken| if end.next(taken) < PAGE { at(end.next(taken)) } else { NO_LINK };
        out.extend(block.placed.digest.to_le_bytes());
        out.extend([block.placed.offset, block.placed.len].map(u16::to_le_bytes).as_flattened());
        out.extend([block.ops.len() as u8, end.instructions() as u8]);
        out.extend([next(false), next(true)].map(u16::to_le_bytes).as_flattened());
        out.extend((end.next(true) as u32).to_le_bytes());
        out.extend(((bodies.len() - start) as u16).to_le_bytes());
    }
    out.extend(bodies);
    u32::try_from(blocks.len()).unwrap_or(0)
}

/// Whether a block's head tells where it ends, as that of any block does but where an instruction runs alone.
fn fits(block: &Block<'_>) -> bool {
    End(block.end).next(false) == u64::from(block.placed.offset) + u64::from(block.placed.len)
}

fn put_op(op: &Op, number: u16, out: &mut Vec<u8>) {
    let Op { quick: _, imm, disp, aux, dst, src, base, index, mode, seg, place } = *op;
    let plain = Op::new(op.quick, 0, 0);
    let memory = (base, index, mode, seg) != (plain.base, plain.index, plain.mode, plain.seg);
    let narrow = i64::from(imm as i32).cast_unsigned() == imm;
    let follows = [
        (memory, MEMORY),
        (disp != 0, DISPLACEMENT),
        (aux != 0, AUXILIARY),
        (imm != 0 && narrow, IMMEDIATE),
        (!narrow, WIDE),
    ];
    let bits = follows.iter().filter(|(is, _)| *is).fold(number, |bits, (_, bit)| bits | bit);
    out.extend(bits.to_le_bytes());
    out.extend([dst, src]);
    out.extend(place.to_le_bytes());
    if memory {
        out.extend([base, index, mode, seg]);
    }
    if disp != 0 {
        out.extend(disp.to_le_bytes());
    }
    if aux != 0 {
        out.extend(aux.to_le_bytes());
    }
    match (imm, narrow) {
        (0, _) => {}
        (_, true) => out.extend((imm as u32).to_le_bytes()),
        (_, false) => out.extend(imm.to_le_bytes()),
    }
}

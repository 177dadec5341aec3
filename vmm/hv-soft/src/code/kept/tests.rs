//! Kept code is what would be decoded, or is not there.

use std::collections::BTreeMap;
use std::sync::Arc;

use supermachine_hv::GuestMemory;
use vm_memory::{Bytes, GuestAddress};

use super::{DIGESTED, HEADER_BYTES, Kept, PAGE_BYTES, digest, write};
use crate::code::block::{BlockInfo, End};
use crate::code::{CodeCache, Listing, NO_BLOCK, Source};
use crate::decode::{self, Modes};
use crate::mem::{PAGE, Ram};
use crate::op::Op;

const PAGES: usize = 6;
const MODES: Modes = Modes { no_fpu: false, no_wait: false, no_sse: false, no_v2: false };

/// Pieces of code of all kinds: moves that make pairs, fused compares, memory operands, branches near and far, SSE, x87, what is
/// undefined.
const PIECES: [&[u8]; 20] = [
    &[0x90],
    &[0x48, 0x89, 0xc3, 0x48, 0x89, 0xd9],
    &[0x55, 0x53],
    &[0x5b, 0x5d, 0xc3],
    &[0x39, 0xc8, 0x74, 0x02],
    &[0x85, 0xff, 0x75, 0xf0],
    &[0x8b, 0x44, 0x8b, 0x10],
    &[0x48, 0x8b, 0x05, 0x00, 0x01, 0x00, 0x00],
    &[0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0x00, 0x00, 0x00],
    &[0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8],
    &[0xe8, 0x00, 0x20, 0x00, 0x00],
    &[0xff, 0xe0],
    &[0x0f, 0x0b],
    &[0xf3, 0x0f, 0x10, 0x45, 0xf8],
    &[0xd9, 0xe8, 0xde, 0xc1],
    &[0xf0, 0x0f, 0xb1, 0x0f],
    &[0xf3, 0x48, 0xa5],
    &[0x0f, 0xb6, 0xc4, 0xc1, 0xe0, 0x03],
    &[0x66, 0x0f, 0xef, 0xc0],
    &[0xcd, 0x80],
];

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) as usize % limit
    }
}

/// A machine with code in all of its pages.
fn machine() -> (GuestMemory, Ram) {
    let memory = GuestMemory::from_ranges(&[(GuestAddress(0), PAGES * PAGE as usize)]).expect("memory");
    let mut random = Random(7);
    let mut code = Vec::new();
    while code.len() < PAGES * PAGE as usize {
        code.extend(PIECES[random.below(PIECES.len())]);
    }
    code.truncate(PAGES * PAGE as usize);
    memory.write_slice(&code, GuestAddress(0)).expect("in RAM");
    let ram = Ram::new(memory.clone()).expect("whole pages");
    (memory, ram)
}

/// Decodes the block at an offset as the engine does.
fn decode(code: &mut CodeCache, from: Source, offset: u64) -> Option<BlockInfo> {
    let mut page = [0; PAGE as usize];
    let end = (offset as usize + 256).min(PAGE as usize);
    from.page.copy_to(offset, &mut page[offset as usize..end]);
    let mut list = Listing::default();
    let block = decode::block(&page[..end], offset, MODES, &mut list);
    let info = BlockInfo { instructions: block.instructions, end: block.end, target: block.target.unwrap_or(0) };
    (!list.ops.is_empty()).then(|| {
        code.insert(offset, block.bytes, info, &list, from);
        info
    })
}

/// All code of the machine, decoded.
fn decoded(ram: &Ram) -> CodeCache {
    let mut code = CodeCache::new();
    for number in 0..PAGES {
        let from = Source { page: ram.nth(number).expect("a page").0, number };
        let mut offset = 0;
        while let Some(info) = decode(&mut code, from, offset).filter(|info| info.end < PAGE) {
            offset = info.end;
        }
    }
    code
}

/// The ops of each block by place, with their handlers as both kinds of function; then where its links lead.
fn listing(code: &CodeCache) -> BTreeMap<u64, (String, [Option<u64>; 2])> {
    let mut all = BTreeMap::new();
    for (number, page) in &code.pages {
        for block in &page.blocks {
            let (first, ops) = (block.number as usize, usize::from(block.ops));
            let last = End(&code.arena[first + ops]);
            let ends = (last.instructions(), last.next(false), last.next(true));
            let plain: Vec<_> = code.plain[first..first + ops].iter().map(|plain| *plain as usize).collect();
            let text = format!("{:?} {plain:?} {ends:?}", &code.arena[first..first + ops]);
            let link = |taken| {
                let to = Some(last.link(taken)).filter(|to| *to != NO_BLOCK)?;
                page.blocks.iter().find(|block| block.number == to).map(|block| u64::from(block.offset))
            };
            all.insert(*number as u64 * PAGE + u64::from(block.offset), (text, [link(false), link(true)]));
        }
    }
    all
}

/// Takes in all pages of kept code, as far as that goes.
fn adopt(bytes: Vec<u8>, ram: &Ram) -> Option<CodeCache> {
    let kept = Kept::open(Arc::new(bytes), MODES).ok()?;
    let mut code = CodeCache::new();
    for number in 0..PAGES {
        if let Some(page) = kept.page(number) {
            code.adopt(&page, Source { page: ram.nth(number)?.0, number });
        }
    }
    Some(code)
}

fn kept(code: &CodeCache, ram: &Ram) -> Vec<u8> {
    write(code, ram, MODES, &|_| true).expect("there is code")
}

#[test]
fn what_is_kept_is_what_was_decoded() {
    let (_memory, ram) = machine();
    let code = decoded(&ram);
    let (before, after) = (listing(&code), listing(&adopt(kept(&code, &ram), &ram).expect("it opens")));
    assert!(before.len() > 1_000, "{} blocks", before.len());
    let texts = |all: &BTreeMap<u64, (String, _)>| {
        all.iter().map(|(place, (text, _))| (*place, text.clone())).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(texts(&after), texts(&before));
    // Blocks that follow one another in their page are linked from the start.
    let next = |offset: u64| after.range(offset + 1..).next().map(|(place, _)| place % PAGE);
    let linked = after.iter().filter(|(place, (_, links))| links[0].is_some() && links[0] == next(**place)).count();
    assert!(linked > before.len() / 2, "{linked} of {}", before.len());
    assert!(after.values().any(|(_, links)| links[1].is_some()), "branches too");
}

#[test]
fn pages_that_changed_are_left_out_and_changed_code_is_not_taken() {
    let (memory, ram) = machine();
    let code = decoded(&ram);
    let all = listing(&code);
    let some = write(&code, &ram, MODES, &|gpa| gpa != PAGE).expect("there is code");
    let without = listing(&adopt(some.clone(), &ram).expect("it opens"));
    assert_eq!(without.len(), all.keys().filter(|place| *place / PAGE != 1).count());
    let changed = 2 * PAGE + 100;
    let byte: u8 = memory.read_obj(GuestAddress(changed)).expect("in RAM");
    memory.write_obj(!byte, GuestAddress(changed)).expect("in RAM");
    let after = listing(&adopt(some, &ram).expect("it opens"));
    let missing: Vec<_> = without.keys().filter(|place| !after.contains_key(place)).collect();
    assert!(matches!(&missing[..], [place] if **place <= changed), "{missing:?}");
    assert!(Kept::open(Arc::new(kept(&code, &ram)), Modes { no_v2: true, ..MODES }).is_err(), "another CPU model");
}

#[test]
fn damage_costs_a_page_or_all_of_it() {
    let (_memory, ram) = machine();
    let code = decoded(&ram);
    let (bytes, whole) = (kept(&code, &ram), listing(&code));
    let mut lost = [0; 2];
    for at in (0..bytes.len()).step_by(997).chain(0..HEADER_BYTES) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        match adopt(damaged, &ram) {
            None => lost[0] += 1,
            Some(code) => {
                let left = listing(&code);
                assert!(left.iter().all(|(place, (text, _))| whole[place].0 == *text), "byte {at}");
                assert!(left.len() < whole.len(), "byte {at} counts");
                lost[1] += 1;
            }
        }
        assert!(adopt(bytes[..at].to_vec(), &ram).is_none_or(|code| listing(&code).len() < whole.len()), "cut at {at}");
    }
    assert!(lost.iter().all(|&count| count > 0), "{lost:?}");
}

/// Makes all digests right again.
fn seal(bytes: &mut [u8]) {
    let count = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four")) as usize;
    let table = HEADER_BYTES + count(bytes, 16) + count(bytes, 20) * super::HANDLER_BYTES;
    let records = table + count(bytes, 24) * PAGE_BYTES;
    if records > bytes.len() {
        return;
    }
    for entry in (table..records).step_by(PAGE_BYTES) {
        let start = records + count(bytes, entry + 8);
        if let Some(record) = bytes.get(start..start.saturating_add(count(bytes, entry + 12))) {
            let sum = digest(record).to_le_bytes();
            bytes[entry + 16..entry + 24].copy_from_slice(&sum);
        }
    }
    let sum = digest(&bytes[..DIGESTED]) ^ digest(&bytes[HEADER_BYTES..records]).rotate_left(1);
    bytes[DIGESTED..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
}

/// Whoever makes the digests fit gets other ops into his own guest, but none that run past a block's end.
#[test]
fn forged_code_ends_as_blocks_end() {
    let (_memory, ram) = machine();
    let code = decoded(&ram);
    let bytes = kept(&code, &ram);
    let last = |op: &Op, plain: usize| (op.quick as usize, plain);
    let ending: std::collections::HashSet<_> = code
        .pages
        .values()
        .flat_map(|page| &page.blocks)
        .map(|block| block.number as usize + usize::from(block.ops) - 1)
        .map(|at| last(&code.arena[at], code.plain[at] as usize))
        .collect();
    let (mut random, mut adopted) = (Random(99), 0);
    for _ in 0..400 {
        let mut forged = bytes.clone();
        for _ in 0..1 + random.below(4) {
            let at = if random.below(3) == 0 { random.below(HEADER_BYTES) } else { random.below(forged.len()) };
            forged[at] = random.below(256) as u8;
        }
        seal(&mut forged);
        let Some(code) = adopt(forged, &ram) else { continue };
        for block in code.pages.values().flat_map(|page| &page.blocks) {
            let end = block.number as usize + usize::from(block.ops);
            assert!(ending.contains(&last(&code.arena[end - 1], code.plain[end - 1] as usize)));
            assert_eq!(code.arena[end].quick as usize, crate::code::thread::end as *const () as usize);
            adopted += 1;
        }
    }
    assert!(adopted > 20_000, "{adopted} blocks");
}

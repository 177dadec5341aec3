//! Decoded code as bytes, so that a machine that is restored again and again is not decoded each time.
//!
//! What is kept are ops, without the addresses of their handlers: those a later process finds by decoding samples, a few hundred
//! blocks that have every handler in them. So nothing in the bytes is trusted: whatever they are, a block made of them ends as a
//! block must, and at worst the guest whose snapshot they lie with goes wrong. Digests find accidents. `docs/kept-code.md` has the
//! bytes.

mod read;
mod write;

use crate::code::{Listing, mix};
use crate::decode::{self, Modes};
use crate::mem::PAGE;

pub(crate) use read::{Kept, KeptPage};
pub(crate) use write::write;

const MAGIC: [u8; 8] = *b"\x89SMCOD\n\x1a";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;
/// Bytes of the header that its digest is over, together with samples, handlers and the table of pages.
const DIGESTED: usize = 56;
/// An entry of the table of handlers: number of the sample, index of the op in it.
const HANDLER_BYTES: usize = 4;
/// An entry of the table of pages.
const PAGE_BYTES: usize = 24;
/// The head of a block of a page.
const BLOCK_BYTES: usize = 24;
/// The bits of an op's first word that are the number of its handler; the others say what follows.
const HANDLER: u16 = (1 << 11) - 1;
/// Base, index, mode and segment are not those of an op without a memory operand: four bytes.
const MEMORY: u16 = 1 << 11;
/// The displacement is not zero: four bytes.
const DISPLACEMENT: u16 = 1 << 12;
/// The handler's own word is not zero: four bytes.
const AUXILIARY: u16 = 1 << 13;
/// The immediate is not zero: four bytes that are sign-extended, or eight.
const IMMEDIATE: u16 = 1 << 14;
const WIDE: u16 = 1 << 15;
/// Before the bytes of a sample: its offset in its page and its length.
const SAMPLE_HEAD: usize = 4;
/// Stands for no block in a link.
const NO_LINK: u16 = u16::MAX;
/// Most bytes of all: what [`write`] makes stays below, and no more is looked at.
const MAX_BYTES: usize = 32 << 20;

/// Modes as bits.
fn mode_bits(modes: Modes) -> u32 {
    let Modes { no_fpu, no_wait, no_sse, no_v2 } = modes;
    u32::from(no_fpu) | u32::from(no_wait) << 1 | u32::from(no_sse) << 2 | u32::from(no_v2) << 3
}

/// Decodes a sample: `bytes` that are at `offset` of their page.
fn decode_sample(offset: usize, bytes: &[u8], modes: Modes, list: &mut Listing) {
    let mut page = [0; PAGE as usize];
    let end = (offset + bytes.len()).min(page.len());
    let place = page.get_mut(offset..end).unwrap_or_default();
    place.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    decode::block(page.get(..end).unwrap_or_default(), offset as u64, modes, list);
}

/// Finds accidents, not intent.
fn digest(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let whole = words.iter().fold(bytes.len() as u64, |h, word| mix(h, u64::from_le_bytes(*word)));
    let last = rest.iter().rev().fold(1, |word, byte| word << 8 | u64::from(*byte));
    let h = mix(whole, last);
    h ^ h >> 32
}

#[cfg(test)]
mod tests;

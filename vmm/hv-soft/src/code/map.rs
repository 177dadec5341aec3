//! Which bytes of RAM decoded code was made of: what a store has to ask.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::AddressHasher;
use crate::mem::PAGE;

/// Bytes of one bit of the first level.
const CHUNK: u64 = 64;

/// One bit for each byte of a page.
type Bytes = Box<[u64; (PAGE / CHUNK) as usize]>;

/// Bytes of RAM that were written though code was decoded from them, all in one page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    /// Number of the page among all pages of RAM.
    pub(crate) page: usize,
    /// Offsets of the first byte and after the last one.
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Change {
    /// Takes in a change that overlaps this one or borders on it; says whether it did.
    fn join(&mut self, other: Change) -> bool {
        let near = self.page == other.page && other.start <= self.end && other.end >= self.start;
        if near {
            (self.start, self.end) = (self.start.min(other.start), self.end.max(other.end));
        }
        near
    }
}

/// The code in all of RAM.
///
/// The lists have a place for each page of RAM and begin as zeroes: memory that nothing writes to takes none, however
/// large the machine.
pub(crate) struct CodeMap {
    /// Chunks of 64 bytes that hold decoded code.
    chunks: Vec<u64>,
    /// No TLB entry lets a store through to the page without a look at this map.
    watched: Vec<bool>,
    /// A TLB entry may lead stores to the page, or may have done so.
    writable: Vec<bool>,
    /// Value of the machine's device epoch when the code was last compared with the bytes.
    epochs: Vec<u64>,
    /// For pages with code.
    bytes: HashMap<usize, Bytes, BuildHasherDefault<AddressHasher>>,
    /// Changes that the engine has not seen yet.
    changes: Vec<Change>,
}

impl CodeMap {
    /// No code in any of `pages` pages.
    pub(crate) fn new(pages: usize) -> Self {
        let (chunks, epochs) = (vec![0; pages], vec![0; pages]);
        let (watched, writable) = (vec![false; pages], vec![false; pages]);
        CodeMap { chunks, watched, writable, epochs, bytes: HashMap::default(), changes: Vec::new() }
    }

    /// Whether stores to a page must ask first.
    #[inline]
    pub(crate) fn watched(&self, page: usize) -> bool {
        self.watched.get(page).is_some_and(|&watched| watched)
    }

    /// Says whether stores to a page ask first.
    pub(crate) fn watch(&mut self, page: usize, watched: bool) {
        if let Some(place) = self.watched.get_mut(page) {
            *place = watched;
        }
    }

    /// Whether the TLB was ever given an entry for stores to a page.
    pub(crate) fn writable(&self, page: usize) -> bool {
        self.writable.get(page).is_some_and(|&writable| writable)
    }

    /// Says that the TLB is given an entry for stores to a page.
    #[inline]
    pub(crate) fn note_writable(&mut self, page: usize) {
        if let Some(place) = self.writable.get_mut(page) {
            *place = true;
        }
    }

    /// Value of the machine's device epoch when a page's code was last compared with its bytes.
    #[inline]
    pub(crate) fn epoch(&self, page: usize) -> u64 {
        self.epochs.get(page).map_or(0, |&epoch| epoch)
    }

    /// Says that a page's code was compared with its bytes at this epoch.
    pub(crate) fn set_epoch(&mut self, page: usize, epoch: u64) {
        if let Some(place) = self.epochs.get_mut(page) {
            *place = epoch;
        }
    }

    /// Whether a page holds decoded code.
    #[inline]
    pub(crate) fn holds_code(&self, page: usize) -> bool {
        self.chunks.get(page).is_some_and(|&of_page| of_page != 0)
    }

    /// Whether code was decoded from any of `len` bytes at `offset`; what would leave the page is left out.
    #[inline(always)]
    pub(crate) fn touches(&self, page: usize, offset: u64, len: u64) -> bool {
        let near = self.chunks.get(page).is_some_and(|&of_page| of_page & chunks(offset, len) != 0);
        near && self.touches_bytes(page, offset, len)
    }

    #[inline(never)]
    fn touches_bytes(&self, page: usize, offset: u64, len: u64) -> bool {
        self.bytes.get(&page).is_some_and(|bytes| words(offset, len).any(|(w, bits)| bytes[w] & bits != 0))
    }

    /// Adds code of `len` bytes at `offset`.
    pub(crate) fn add(&mut self, page: usize, offset: u64, len: u64) {
        self.add_all(page, std::iter::once((offset, len)));
    }

    /// Adds code of a page: offsets and lengths.
    pub(crate) fn add_all(&mut self, page: usize, code: impl Iterator<Item = (u64, u64)>) {
        let Some(of_page) = self.chunks.get_mut(page) else { return };
        let bytes = self.bytes.entry(page).or_insert_with(|| Box::new([0; (PAGE / CHUNK) as usize]));
        for (offset, len) in code {
            *of_page |= chunks(offset, len);
            words(offset, len).for_each(|(w, bits)| bytes[w] |= bits);
        }
    }

    /// Forgets the code of a page, then adds what is left of it: offsets and lengths.
    pub(crate) fn replace(&mut self, page: usize, left: impl Iterator<Item = (u64, u64)>) {
        let (Some(of_page), Some(bytes)) = (self.chunks.get_mut(page), self.bytes.get_mut(&page)) else { return };
        while *of_page != 0 {
            bytes[of_page.trailing_zeros() as usize] = 0;
            *of_page &= *of_page - 1;
        }
        self.add_all(page, left);
    }

    /// Forgets all code. What is watched stays so.
    pub(crate) fn clear(&mut self) {
        for (page, _) in self.bytes.drain() {
            if let Some(of_page) = self.chunks.get_mut(page) {
                *of_page = 0;
            }
        }
        self.changes.clear();
    }

    /// Notes a store to code.
    #[cold]
    pub(crate) fn changed(&mut self, page: usize, offset: u64, len: u64) {
        let change = Change { page, start: offset, end: offset + len };
        if !self.changes.last_mut().is_some_and(|last| last.join(change)) {
            self.changes.push(change);
        }
    }

    /// Whether there are changes that the engine has not seen.
    #[inline(always)]
    pub(crate) fn has_changed(&self) -> bool {
        !self.changes.is_empty()
    }

    /// Takes a change.
    pub(crate) fn take_change(&mut self) -> Option<Change> {
        self.changes.pop()
    }
}

/// Bits of the 64-byte chunks that `len` bytes at `offset` touch in a page.
#[inline(always)]
fn chunks(offset: u64, len: u64) -> u64 {
    let first = (offset / CHUNK).min(63);
    let last = ((offset + len.max(1) - 1) / CHUNK).min(63);
    (u64::MAX >> (63 - last)) & (u64::MAX << first)
}

/// Numbers of the words that `len` bytes at `offset` touch in a page's [`Bytes`], and their bits in each.
fn words(offset: u64, len: u64) -> impl Iterator<Item = (usize, u64)> {
    let end = (offset + len.max(1)).min(PAGE);
    (offset / CHUNK..end.div_ceil(CHUNK)).map(move |word| {
        let low = offset.saturating_sub(word * CHUNK);
        let high = (end - word * CHUNK).min(CHUNK);
        (word as usize, (u64::MAX >> (CHUNK - high)) & (u64::MAX << low))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_beside_code_touches_none_of_it() {
        let mut map = CodeMap::new(2);
        map.add(1, 60, 8);
        for (offset, len, touches) in [(52, 8, false), (53, 8, true), (67, 1, true), (68, 8, false), (0, 4096, true)] {
            assert_eq!(map.touches(1, offset, len), touches, "{len} bytes at {offset}");
        }
        assert!(!map.touches(0, 0, 4096) && !map.touches(2, 0, 4096));
    }

    #[test]
    fn code_at_the_ends_of_a_page() {
        let mut map = CodeMap::new(1);
        map.add(0, 0, 1);
        map.add(0, 4095, 1);
        assert!(map.touches(0, 0, 1) && map.touches(0, 4095, 8) && !map.touches(0, 1, 4094));
        map.replace(0, std::iter::once((0, 1)));
        assert!(map.touches(0, 0, 1) && !map.touches(0, 4095, 1));
        map.replace(0, std::iter::empty());
        assert!(!map.holds_code(0));
    }

    #[test]
    fn neighbouring_changes_are_one() {
        let mut map = CodeMap::new(2);
        (0..4096).for_each(|at| map.changed(1, at, 1));
        (0..4096).rev().for_each(|at| map.changed(0, at, 1));
        assert_eq!(map.take_change(), Some(Change { page: 0, start: 0, end: 4096 }));
        assert_eq!(map.take_change(), Some(Change { page: 1, start: 0, end: 4096 }));
        assert!(!map.has_changed());
    }
}

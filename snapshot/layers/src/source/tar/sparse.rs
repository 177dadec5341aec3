//! Maps of sparse files: which parts of a file an archive holds.

use std::io::Read;

use super::EntryError;
use super::header::{Header, more_sparse_map};
use super::pax::{self, Sparse};
use super::stream::{BLOCK, Stream};

/// A part of a file: where it is in the file, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// What an archive holds of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Map {
    /// Of the file, holes included.
    pub(super) size: u64,
    /// In order, without overlaps, and together as long as what is stored.
    pub(super) segments: Vec<Segment>,
}

impl Map {
    /// That of a file without holes.
    pub(super) fn whole(size: u64) -> Self {
        Self { size, segments: vec![Segment { offset: 0, length: size }] }
    }

    /// Checks a map against the file and what is stored of it.
    fn new(size: u64, stored: u64, pairs: impl IntoIterator<Item = (u64, u64)>) -> Result<Self, EntryError> {
        let (mut end, mut sum) = (0u64, 0u64);
        let mut segments = Vec::new();
        for (offset, length) in pairs {
            let next = offset.checked_add(length).filter(|next| offset >= end && *next <= size);
            end = next.ok_or(EntryError::Sparse)?;
            // Not more than `end`, so not too much.
            sum += length;
            segments.push(Segment { offset, length });
        }
        if sum == stored { Ok(Self { size, segments }) } else { Err(EntryError::Sparse) }
    }
}

/// The map in GNU's own header and the blocks that continue it, of together at most `cap` bytes.
pub(super) fn gnu(header: &Header, stored: u64, stream: &mut Stream<impl Read>, cap: usize) -> Result<Map, EntryError> {
    let (mut pairs, mut more) = header.sparse_map().ok_or(EntryError::Sparse)?;
    let mut blocks = 0;
    while more {
        blocks += 1;
        check(blocks, cap)?;
        let (next, goes_on) = more_sparse_map(&stream.must_block()?).ok_or(EntryError::Sparse)?;
        pairs.extend(next);
        more = goes_on;
    }
    let size = header.sparse_size().and_then(|size| u64::try_from(size).ok());
    Map::new(size.ok_or(EntryError::Number { field: "size" })?, stored, pairs)
}

/// The map that extended headers tell, if they tell one, and what is stored behind it. In format 1.0 the map stands before the content.
pub(super) fn pax(
    sparse: &Sparse,
    stored: u64,
    stream: &mut Stream<impl Read>,
    cap: usize,
) -> Result<Option<(Map, u64)>, EntryError> {
    let size = || sparse.size.ok_or(EntryError::Sparse);
    match (sparse.major.unwrap_or(0), sparse.minor.unwrap_or(0), &sparse.map) {
        (1, 0, _) => {
            let (pairs, bytes) = leading(stream, cap)?;
            let rest = stored.checked_sub(bytes).ok_or(EntryError::Sparse)?;
            Ok(Some((Map::new(size()?, rest, pairs)?, rest)))
        }
        (0, 0 | 1, Some(numbers)) => Ok(Some((Map::new(size()?, stored, pairs(numbers)?)?, stored))),
        (0, 0 | 1, None) => Ok(None),
        _ => Err(EntryError::Sparse),
    }
}

/// The map before a content: numbers in lines, in whole blocks. Gives the bytes of those.
fn leading(stream: &mut Stream<impl Read>, cap: usize) -> Result<(Vec<(u64, u64)>, u64), EntryError> {
    let mut blocks = 0;
    let mut numbers = Vec::new();
    let mut line = Vec::new();
    // How many numbers there are, once the first is known.
    let mut wanted = None;
    while wanted.is_none_or(|wanted| (numbers.len() as u64) < wanted) {
        blocks += 1;
        check(blocks, cap)?;
        for byte in stream.must_block()? {
            if byte != b'\n' {
                line.push(byte);
                continue;
            }
            let number = pax::decimal(&line).ok_or(EntryError::Sparse)?;
            line.clear();
            match wanted {
                None => wanted = Some(number.checked_mul(2).ok_or(EntryError::Sparse)?),
                Some(wanted) if (numbers.len() as u64) < wanted => numbers.push(number),
                Some(_) => {}
            }
            if wanted == Some(numbers.len() as u64) {
                break;
            }
        }
    }
    Ok((pairs(&numbers)?, (blocks * BLOCK) as u64))
}

fn check(blocks: usize, cap: usize) -> Result<(), EntryError> {
    if blocks.saturating_mul(BLOCK) > cap {
        return Err(EntryError::Long { what: "map of a sparse file", cap });
    }
    Ok(())
}

fn pairs(numbers: &[u64]) -> Result<Vec<(u64, u64)>, EntryError> {
    let pairs = numbers.chunks(2).map(|pair| match pair {
        [offset, length] => Ok((*offset, *length)),
        _ => Err(EntryError::Sparse),
    });
    pairs.collect()
}

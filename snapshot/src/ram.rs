//! Guest RAM as a saver sees it: regions, which pages are there, and a way to read them.

use std::io;

use serde::{Deserialize, Serialize};

use crate::error::{Limit, SnapshotError, at_most};
use crate::memory::Run;
use crate::spec;

/// One region of RAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// Guest physical address of its first byte.
    pub gpa: u64,
    /// Bytes.
    pub bytes: u64,
}

/// A piece of RAM; it ends where its region ends, or before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Guest physical address of its first byte.
    pub gpa: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Which pages a saver looks at.
#[derive(Debug, Clone, Copy)]
pub enum Present<'a> {
    /// All.
    All,
    /// Those that these touch, in any order, overlapping or not. In a full snapshot all others are zero, in a diff they are the
    /// base's.
    Spans(&'a [Span]),
}

/// A way to read guest RAM while nothing writes to it.
pub trait Ram {
    /// Fills `into` with the RAM from `gpa` on, all of it in one region.
    ///
    /// # Errors
    /// The reader's own.
    fn read(&self, gpa: u64, into: &mut [u8]) -> io::Result<()>;
}

impl<F: Fn(u64, &mut [u8]) -> io::Result<()>> Ram for F {
    fn read(&self, gpa: u64, into: &mut [u8]) -> io::Result<()> {
        self(gpa, into)
    }
}

/// Bytes of all regions; the most where there are too many to count.
pub(crate) fn total(regions: &[Region]) -> u64 {
    regions.iter().fold(0, |sum, region| u64::saturating_add(sum, region.bytes))
}

/// Checks that regions are ordered, apart and whole pages.
pub(crate) fn check(regions: &[Region], page_bytes: u32) -> Result<(), SnapshotError> {
    if !spec::PAGE_SIZES.contains(&page_bytes) {
        return Err(SnapshotError::PageSize { page_bytes });
    }
    at_most(Limit::Regions, regions.len() as u64, spec::REGIONS_MAX as u64)?;
    let page = u64::from(page_bytes);
    let mut free = 0;
    for region in regions {
        let whole = region.gpa.is_multiple_of(page) && region.bytes.is_multiple_of(page) && region.bytes > 0;
        if !whole || region.gpa < free {
            return Err(SnapshotError::Regions);
        }
        free = region.gpa.checked_add(region.bytes).ok_or(SnapshotError::Regions)?;
    }
    if regions.is_empty() { Err(SnapshotError::Regions) } else { Ok(()) }
}

/// Regions with their positions in the memory file.
pub(crate) fn placed(regions: &[Region]) -> impl Iterator<Item = (u64, Region)> + '_ {
    regions.iter().scan(0u64, |position, region| {
        let start = *position;
        *position = start.saturating_add(region.bytes);
        Some((start, *region))
    })
}

/// Cuts runs at the regions' borders: (guest physical address, run).
pub(crate) fn in_regions<'a>(regions: &'a [Region], runs: &'a [Run]) -> impl Iterator<Item = (u64, Run)> + 'a {
    placed(regions).flat_map(move |(start, region)| {
        let end = start.saturating_add(region.bytes);
        let first = runs.partition_point(|run| run.end() <= start);
        let inside = runs.iter().skip(first).take_while(move |run| run.position < end);
        inside.filter_map(move |run| {
            let position = run.position.max(start);
            let bytes = run.end().min(end).checked_sub(position)?;
            let gpa = region.gpa.checked_add(position.checked_sub(start)?)?;
            Some((gpa, Run { position, bytes }))
        })
    })
}

/// The pages that `present` touches, as sorted runs that are apart.
pub(crate) fn runs(regions: &[Region], page_bytes: u32, present: Present<'_>) -> Result<Vec<Run>, SnapshotError> {
    let Present::Spans(spans) = present else { return Ok(vec![Run { position: 0, bytes: total(regions) }]) };
    let page = u64::from(page_bytes);
    let mut runs = spans
        .iter()
        .filter(|span| span.bytes > 0)
        .map(|span| placed_run(regions, page, span))
        .collect::<Result<Vec<_>, _>>()?;
    runs.sort_unstable();
    Ok(Run::joined(runs, 0))
}

fn placed_run(regions: &[Region], page: u64, span: &Span) -> Result<Run, SnapshotError> {
    let inside = |(start, region): (u64, Region)| {
        let from = span.gpa.checked_sub(region.gpa)?;
        let to = from.checked_add(span.bytes)?;
        if to > region.bytes {
            return None;
        }
        let from = from - from % page;
        Some(Run { position: start.checked_add(from)?, bytes: to.checked_next_multiple_of(page)? - from })
    };
    placed(regions).find_map(inside).ok_or(SnapshotError::NotRam { gpa: span.gpa })
}

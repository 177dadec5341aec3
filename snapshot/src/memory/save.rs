//! Writes the memory file of a machine that stands still.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::error::{SnapshotError, io_error};
use crate::manifest::MemoryRecord;
use crate::ram::{self, Present, Ram, Region};
use crate::spec;

use super::digest::PageDigest;
use super::{Run, trailer};

/// What a memory file holds.
pub(crate) struct Saved {
    /// For the manifest.
    pub(crate) record: MemoryRecord,
    /// For the run table.
    pub(crate) runs: Vec<Run>,
}

/// Writes the pages of `present` that are not zero to `file`, which is empty. A diff keeps zero pages in its runs; its runs are all
/// of `present`, joined over pages between them where those are few, and until the runs are.
pub(crate) fn save(
    file: &File,
    regions: &[Region],
    page_bytes: u32,
    present: Present<'_>,
    diff: bool,
    ram: &impl Ram,
) -> Result<Saved, SnapshotError> {
    ram::check(regions, page_bytes)?;
    let mut runs = ram::runs(regions, page_bytes, present)?;
    if diff {
        runs = Run::at_most(Run::joined(runs, spec::DIFF_GAP_BYTES), spec::DIFF_RUNS_MAX, page_bytes);
    }
    let ram_bytes = ram::total(regions);
    file.set_len(ram_bytes.saturating_add(spec::TRAILER_BYTES as u64)).map_err(io_error("size", spec::MEMORY_FILE))?;
    let mut digest = PageDigest::new(page_bytes);
    let mut buffer = super::buffer();
    for (gpa, run) in ram::in_regions(regions, &runs) {
        copy(file, gpa, run, ram, &mut digest, &mut buffer)?;
    }
    let found = digest.finish();
    trailer::write(file, ram_bytes, &found.digest)?;
    let runs = if diff { runs } else { Run::at_most(found.runs, spec::FULL_RUNS_MAX, page_bytes) };
    let (digest, stored_bytes) = (found.digest, found.stored_bytes);
    Ok(Saved { record: MemoryRecord { page_bytes, regions: regions.to_vec(), stored_bytes, digest }, runs })
}

/// Copies a run that is inside one region.
fn copy(
    file: &File,
    gpa: u64,
    run: Run,
    ram: &impl Ram,
    digest: &mut PageDigest,
    buffer: &mut [u8],
) -> Result<(), SnapshotError> {
    for (piece, len) in run.pieces() {
        let pages = buffer.get_mut(..len).unwrap_or_default();
        let offset = piece.position.saturating_sub(run.position);
        ram.read(gpa.saturating_add(offset), pages).map_err(io_error("read", "guest RAM"))?;
        digest.feed(piece.position, pages, |position, pages| {
            file.write_all_at(pages, position).map_err(io_error("write", spec::MEMORY_FILE))
        })?;
    }
    Ok(())
}

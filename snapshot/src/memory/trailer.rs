//! The trailer behind the RAM: it shows in one read that the file is whole and belongs to its state file.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::error::{SnapshotError, io_error};
use crate::manifest::{MemoryRecord, SnapshotId};
use crate::spec::{self, MEMORY_FILE, TRAILER_BYTES, TRAILER_MAGIC};

fn encode(ram_bytes: u64, digest: &SnapshotId) -> [u8; TRAILER_BYTES] {
    let mut bytes = [0; TRAILER_BYTES];
    let fields = TRAILER_MAGIC.into_iter().chain(spec::VERSION.to_le_bytes()).chain([0; 4]);
    let fields = fields.chain(ram_bytes.to_le_bytes()).chain([0; 8]).chain(digest.0);
    bytes.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    bytes
}

/// Writes it.
pub(super) fn write(file: &File, ram_bytes: u64, digest: &SnapshotId) -> Result<(), SnapshotError> {
    file.write_all_at(&encode(ram_bytes, digest), ram_bytes).map_err(io_error("write", MEMORY_FILE))
}

/// Checks that a memory file is as long as it should be and is the one that `record` tells of.
pub(crate) fn check(file: &File, record: &MemoryRecord) -> Result<(), SnapshotError> {
    let metadata = file.metadata().map_err(io_error("look at", MEMORY_FILE))?;
    if !metadata.is_file() {
        return Err(SnapshotError::NotAFile { file: MEMORY_FILE });
    }
    let ram_bytes = record.ram_bytes();
    let expected = ram_bytes.saturating_add(TRAILER_BYTES as u64);
    if metadata.len() != expected {
        return Err(SnapshotError::Length { file: MEMORY_FILE, expected, found: metadata.len() });
    }
    let mut found = [0; TRAILER_BYTES];
    file.read_exact_at(&mut found, ram_bytes).map_err(io_error("read", MEMORY_FILE))?;
    if !found.starts_with(&TRAILER_MAGIC) {
        return Err(SnapshotError::Magic { file: MEMORY_FILE });
    }
    if found != encode(ram_bytes, &record.digest) { Err(SnapshotError::OtherMemory) } else { Ok(()) }
}

//! What to map where: the whole result of a snapshot for guest memory.

use std::fs::File;

use nix::unistd::{SysconfVar, sysconf};

use crate::error::SnapshotError;
use crate::ram;
use crate::snapshot::Snapshot;

/// One mapping to make: `MAP_PRIVATE`, readable and writable.
#[derive(Debug, Clone, Copy)]
pub struct Mapping<'a> {
    /// Guest physical address of its first byte.
    pub gpa: u64,
    /// Bytes, a multiple of the host's page size.
    pub bytes: u64,
    /// The file.
    pub file: &'a File,
    /// Offset of the first byte in the file, a multiple of the host's page size.
    pub offset: u64,
}

/// All mappings of a machine's RAM.
#[derive(Debug, Clone)]
pub struct Layout<'a> {
    /// The regions of RAM, one mapping each, in ascending order.
    pub regions: Vec<Mapping<'a>>,
    /// What a diff lays over parts of them (`MAP_FIXED`), in ascending order; each is inside one region.
    pub over: Vec<Mapping<'a>>,
}

impl<'a> Layout<'a> {
    /// The layout of `snapshot`; `base` is the one that it needs, if it is a diff.
    ///
    /// # Errors
    /// A base that is missing, another one, or one too many; pages that this host cannot map.
    pub fn new(snapshot: &'a Snapshot, base: Option<&'a Snapshot>) -> Result<Self, SnapshotError> {
        let beneath = beneath(snapshot, base)?;
        let record = &snapshot.manifest().memory;
        check_page_size(record.page_bytes)?;
        let regions = ram::placed(&record.regions).map(|(offset, region)| Mapping {
            gpa: region.gpa,
            bytes: region.bytes,
            file: beneath.memory(),
            offset,
        });
        let over = ram::in_regions(&record.regions, if base.is_some() { snapshot.runs() } else { &[] });
        let file = snapshot.memory();
        let over = over.map(|(gpa, run)| Mapping { gpa, bytes: run.bytes, file, offset: run.position });
        Ok(Self { regions: regions.collect(), over: over.collect() })
    }
}

/// The snapshot whose memory file is mapped whole.
fn beneath<'a>(snapshot: &'a Snapshot, base: Option<&'a Snapshot>) -> Result<&'a Snapshot, SnapshotError> {
    match (snapshot.base(), base) {
        (None, None) => Ok(snapshot),
        (None, Some(_)) => Err(SnapshotError::NoBase),
        (Some(needs), Some(base)) if base.id() == needs => {
            let (own, other) = (&snapshot.manifest().memory, &base.manifest().memory);
            let same = own.regions == other.regions && own.page_bytes == other.page_bytes;
            if base.base().is_none() && same { Ok(base) } else { Err(SnapshotError::NoBase) }
        }
        (Some(needs), _) => Err(SnapshotError::Base { needs, given: base.map(Snapshot::id) }),
    }
}

/// A mapping begins and ends on pages of the host.
fn check_page_size(page_bytes: u32) -> Result<(), SnapshotError> {
    let host = host_page_bytes();
    if page_bytes.is_multiple_of(host) { Ok(()) } else { Err(SnapshotError::PageSize { page_bytes }) }
}

/// The page size of this host.
pub(crate) fn host_page_bytes() -> u32 {
    let found = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    found.and_then(|bytes| u32::try_from(bytes).ok()).filter(|bytes| *bytes > 0).unwrap_or(4096)
}

//! Machines to save, small enough to look at.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use supermachine_snapshot::{About, Kind, Present, Region, Snapshot, SnapshotId, Span, Writer};

/// Bytes of a page; the tests' hosts have these.
pub(crate) const PAGE: u64 = 4096;
/// Two regions with a gap between them, as around the MMIO gap.
pub(crate) const REGIONS: [Region; 2] =
    [Region { gpa: 0, bytes: 16 * PAGE }, Region { gpa: 64 * PAGE, bytes: 8 * PAGE }];

/// RAM as the guest sees it.
#[derive(Clone)]
pub(crate) struct Memory(pub(crate) BTreeMap<u64, u8>);

impl Memory {
    /// Pages that hold one byte each, by guest page number.
    pub(crate) fn new(pages: &[(u64, u8)]) -> Self {
        Self(pages.iter().copied().collect())
    }

    /// Reads as a vmm would.
    pub(crate) fn read(&self, gpa: u64, into: &mut [u8]) -> io::Result<()> {
        for (index, page) in into.chunks_mut(PAGE as usize).enumerate() {
            page.fill(*self.0.get(&(gpa / PAGE + index as u64)).unwrap_or(&0));
        }
        Ok(())
    }
}

/// What the tests' snapshots say of themselves.
pub(crate) fn about(base: Option<SnapshotId>) -> About {
    About {
        kind: if base.is_some() { Kind::Image } else { Kind::Base },
        software: "supermachine-vmm 0.1.0".to_owned(),
        created_unix_ms: 1_700_000_000_000,
        hypervisor: "soft".to_owned(),
        cpu_model: "v2".to_owned(),
        vcpus: 1,
        devices: ["blk", "vsock", "rng"].map(str::to_owned).to_vec(),
        key: [("kernel".to_owned(), "0123".to_owned())].into(),
        base,
    }
}

/// Sections of the tests' snapshots.
pub(crate) const SECTIONS: [(&str, &[u8]); 3] =
    [("vcpu.0", b"registers"), ("empty", b""), ("device.blk", b"{\"queues\":[]}")];

/// Saves `memory`.
pub(crate) fn save(dir: &Path, memory: &Memory, present: Present<'_>, base: Option<SnapshotId>) -> SnapshotId {
    let mut writer = Writer::create(dir).expect("begins");
    SECTIONS.iter().for_each(|(name, content)| writer.section(name, content.to_vec()).expect("a section"));
    let read = |gpa: u64, into: &mut [u8]| memory.read(gpa, into);
    writer.finish(about(base), &REGIONS, present, &read).expect("saves")
}

/// The span of one guest page.
pub(crate) fn page(number: u64) -> Span {
    Span { gpa: number * PAGE, bytes: PAGE }
}

/// Opens with the default limits.
pub(crate) fn open(dir: &Path) -> Snapshot {
    Snapshot::open(dir, &Default::default()).expect("opens")
}

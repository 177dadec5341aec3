//! Between a machine's states and the files of a snapshot, whose format is the crate `supermachine-snapshot`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use supermachine_hv::GuestMemory;
use supermachine_snapshot::{About, Kind, Layout, Limits, Mapping, Present, Ram, Region, SnapshotId, Span, Writer};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use super::{FreezeError, MachineState, Snapshot, pages};
use crate::agent::SOFTWARE;
use crate::memory::{self, Placed};

/// The section that has everything but RAM, in JSON.
const MACHINE: &str = "machine";

/// Reads a snapshot; `base` has the one that it lies on, if it is a diff.
pub(super) fn read(dir: &Path, base: Option<&Path>) -> Result<Snapshot, FreezeError> {
    let open = |dir: &Path| supermachine_snapshot::Snapshot::open(dir, &Limits::default());
    let (files, base) = (open(dir)?, base.map(open).transpose()?);
    let state: MachineState = serde_json::from_slice(files.section(MACHINE)?).map_err(FreezeError::State)?;
    let layout = Layout::new(&files, base.as_ref())?;
    let place = |mapping: &Mapping<'_>| Placed { gpa: mapping.gpa, bytes: mapping.bytes, offset: mapping.offset };
    let placed: Vec<_> = layout.regions.iter().map(place).collect();
    let over: Vec<_> = layout.over.iter().map(place).collect();
    let file = base.as_ref().unwrap_or(&files).memory().try_clone().map_err(FreezeError::Descriptor)?;
    let memory = memory::map(file, &placed, (files.memory(), &over), state.memory_bytes)?;
    let mut spans = Vec::new();
    for run in base.iter().chain([&files]).flat_map(|files| files.runs()) {
        // Runs lie in the file as regions do; one may go on from a region into the next.
        let cut = |placed: &Placed| {
            let start = run.position.max(placed.offset);
            let end = run.position.saturating_add(run.bytes).min(placed.offset.saturating_add(placed.bytes));
            let bytes = end.checked_sub(start).filter(|bytes| *bytes > 0)?;
            Some(Span { gpa: placed.gpa.saturating_add(start - placed.offset), bytes })
        };
        spans.extend(placed.iter().filter_map(cut));
    }
    Ok(Snapshot { state, memory, spans, full: base.is_none().then(|| files.id()) })
}

/// What is written besides the machine itself.
#[derive(Debug, Clone, Default)]
pub struct Label {
    /// What sort of snapshot it is.
    pub kind: Option<Kind>,
    /// The parts of the key that it is made for.
    pub key: BTreeMap<String, String>,
    /// Whether a container is held in it.
    pub holds_container: bool,
    /// The full snapshot that the machine came from, if only what was written since is to be saved.
    pub base: Option<SnapshotId>,
}

/// Writes a snapshot; after an error nothing is left of it. `from` are the pages that were there before the machine
/// began, if it came from a snapshot.
pub(super) fn write(
    dir: &Path,
    label: &Label,
    state: &MachineState,
    memory: &GuestMemory,
    from: Option<&[Span]>,
) -> Result<(), FreezeError> {
    let bytes = serde_json::to_vec(state).map_err(FreezeError::State)?;
    let mut writer = Writer::create(dir)?;
    writer.section(MACHINE, bytes)?;
    let regions: Vec<_> =
        memory.iter().map(|region| Region { gpa: region.start_addr().0, bytes: region.len() }).collect();
    // Over a base nothing of it is written again.
    let from = if label.base.is_some() { Some(&[] as &[Span]) } else { from };
    let spans = pages::present(memory, from).map_err(FreezeError::Pages)?;
    let present = spans.as_deref().map_or(Present::All, Present::Spans);
    writer.finish(about(label, state), &regions, present, &Reader(memory))?;
    Ok(())
}

struct Reader<'a>(&'a GuestMemory);

impl Ram for Reader<'_> {
    fn read(&self, gpa: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read_slice(into, GuestAddress(gpa)).map_err(io::Error::other)
    }
}

fn about(label: &Label, state: &MachineState) -> About {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    About {
        kind: label.kind.unwrap_or(Kind::Container),
        software: SOFTWARE.to_owned(),
        created_unix_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        hypervisor: state.hypervisor.to_string(),
        cpu_model: state.cpu_model.clone(),
        vcpus: u16::try_from(state.vcpus.len()).unwrap_or(u16::MAX),
        devices: state.devices.names(),
        key: label.key.clone(),
        base: label.base,
    }
}

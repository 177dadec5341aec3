//! Freezing a machine into a snapshot, and a snapshot's way back into a machine.
//!
//! [`save`] is the order of a freeze, [`crate::machine::Machine::restore`] and `start` are the same order backwards;
//! `docs/snapshots.md` has both side by side.

mod files;
mod pages;
mod state;

use std::io;
use std::path::Path;
use std::sync::MutexGuard;
use std::time::Duration;

use supermachine_agent_protocol::Hello;
use supermachine_devices::balloon::Balloon;
use supermachine_devices::blk::Blk;
use supermachine_devices::fs::Fs;
use supermachine_devices::rng::Rng;
use supermachine_devices::virtio::{MmioDevice, Transport, VirtioDevice};
use supermachine_devices::vsock::Vsock;
use supermachine_hv::x86::RunState;
use supermachine_hv::{GuestMemory, HvError, Idle, VcpuState};
use supermachine_snapshot::{SnapshotError, SnapshotId, Span};

use crate::attach::SerialPort;
use crate::gate::GateError;
use crate::machine::Machine;
use crate::memory::MemoryError;

pub use files::Label;
pub use state::{DevicesState, MachineState, Saved};

/// A machine that cannot be saved; it runs on as if nobody had tried. Or a snapshot that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// The vCPUs.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// A disk's image does not take what the guest wrote.
    #[error("cannot flush disk {slot}")]
    Flush {
        /// Index of the device.
        slot: usize,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Interrupt controllers or clock.
    #[error("interrupt controllers")]
    Chips(#[source] HvError),
    /// The files of the snapshot.
    #[error(transparent)]
    Files(#[from] SnapshotError),
    /// The states are none of this version's.
    #[error("not a machine of this version")]
    State(#[source] serde_json::Error),
    /// The host has no descriptor to give.
    #[error("cannot open the memory file")]
    Descriptor(#[source] io::Error),
    /// The host does not tell which pages are there.
    #[error("cannot find the pages of RAM")]
    Pages(#[source] io::Error),
    /// RAM of a size that no machine has, or that cannot be mapped.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A disk that the snapshot is to have its own copy of.
    #[error("cannot copy {what}")]
    Copy {
        /// What it is.
        what: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// A snapshot that was read: its states, still to be checked by those they belong to, and its RAM, mapped.
pub struct Snapshot {
    /// Everything but RAM.
    pub state: MachineState,
    /// RAM: private to this process, shared with nobody once written to.
    pub memory: GuestMemory,
    /// Pages of RAM that may not be zero.
    pub spans: Vec<Span>,
    /// Its identity, if it needs no other beneath it: one that others may lie on.
    pub full: Option<SnapshotId>,
}

impl Snapshot {
    /// Reads the snapshot in `dir`, which lies on that in `base` if it is a diff. Nothing is done that takes longer for
    /// more RAM.
    ///
    /// # Errors
    /// A file is missing, too short, or not what it should be, or the base is another one.
    pub fn open(dir: &Path, base: Option<&Path>) -> Result<Self, FreezeError> {
        files::read(dir, base)
    }
}

/// Every device of a machine, kept still by its lock.
pub struct Held<'a> {
    /// Block devices.
    pub disks: Vec<MutexGuard<'a, Transport<Blk>>>,
    /// Shared directories.
    pub shares: Option<MutexGuard<'a, Transport<Fs>>>,
    /// Sockets.
    pub vsock: MutexGuard<'a, Transport<Vsock>>,
    /// Entropy.
    pub rng: MutexGuard<'a, Transport<Rng>>,
    /// Balloon.
    pub balloon: MutexGuard<'a, Transport<Balloon>>,
    /// Serial port: only vCPUs touch it.
    pub serial: &'a SerialPort,
}

impl Held<'_> {
    /// Has the host keep what the guest wrote to its disks.
    fn flush(&mut self) -> Result<(), FreezeError> {
        for (slot, disk) in self.disks.iter_mut().enumerate() {
            let backend = disk.device_mut().backend_mut().filter(|backend| !backend.read_only());
            backend.map_or(Ok(()), |backend| backend.flush()).map_err(|source| FreezeError::Flush { slot, source })?;
        }
        Ok(())
    }

    fn save(&self) -> DevicesState {
        let Self { disks, shares, vsock, rng, balloon, serial } = self;
        DevicesState {
            disks: disks.iter().map(|disk| saved(disk, Blk::save)).collect(),
            shares: shares.as_ref().map(|shares| saved(shares, Fs::save)),
            vsock: saved(vsock, Vsock::save),
            rng: rng.save_transport(),
            balloon: saved(balloon, Balloon::save),
            serial: serial.save(),
        }
    }
}

fn saved<D: VirtioDevice, S>(transport: &Transport<D>, save: impl FnOnce(&D) -> S) -> Saved<S> {
    Saved { transport: transport.save_transport(), device: save(transport.device()) }
}

/// How often a machine that is to be saved idle is looked at where nothing tells of a halt, and how many times at most.
const LOOK: Duration = Duration::from_millis(2);
const LOOKS: u32 = 1_000;
/// How long a guest may take to be idle once more.
const PATIENCE: Duration = Duration::from_secs(2);
/// Guest time that a template has spent idle. What Linux puts off at its start is done by then; what it does again and
/// again, at first every second, it does once a minute from its third minute on (`crng_reseed_interval`).
const AGE: Duration = Duration::from_secs(200);
/// For at least so long a template has nothing to do once it goes on.
const AHEAD: Duration = Duration::from_secs(20);
/// Pieces of idle time at most.
const PIECES: u32 = 10_000;

/// Returns when every vCPU waits in a halt: nothing that was begun is left to be finished in each copy. On a back end that
/// can let idle time pass at once, the guest has been idle for long by then.
///
/// # Errors
/// As for [`save`]. A guest that is never idle is none: it is saved as it is.
pub fn settle(machine: &Machine) -> Result<(), FreezeError> {
    let mut passed = Duration::ZERO;
    for _ in 0..PIECES {
        let within = if passed < AGE { AGE } else { AHEAD };
        match machine.vm().skip_idle(within, PATIENCE) {
            Idle::Untold => return settle_by_looking(machine),
            Idle::Busy => break,
            Idle::Quiet => return Ok(()),
            Idle::Passed(time) => passed += time,
        }
    }
    log::warn!("the guest is never idle; it is saved as it is");
    Ok(())
}

/// For back ends that are not told of a halt, as KVM with its own interrupt controllers: looks again and again.
fn settle_by_looking(machine: &Machine) -> Result<(), FreezeError> {
    for _ in 0..LOOKS {
        let hold = machine.gate.hold();
        let states = machine.gate.save(&hold)?;
        drop(hold);
        if states.iter().all(is_halted) {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
    log::warn!("the guest is never idle; it is saved as it is");
    Ok(())
}

fn is_halted(state: &VcpuState) -> bool {
    match state {
        VcpuState::X86(state) => matches!(state.run_state, RunState::Halted | RunState::Uninitialized),
        _ => false,
    }
}

/// Pages of a machine from a snapshot that were written since, in ascending order, if the host tells.
///
/// # Errors
/// The host's.
pub fn written(memory: &GuestMemory) -> io::Result<Option<Vec<Span>>> {
    pages::present(memory, Some(&[]))
}

/// Saves the machine into `dir`, which is made. The machine goes on when this returns, whatever came of it; after an
/// error nothing is left of `dir`.
///
/// # Errors
/// A part of the machine cannot be saved, or the host does not keep it.
pub fn save(machine: &Machine, agent: &Hello, label: &Label, dir: &Path) -> Result<(), FreezeError> {
    save_with(machine, agent, label, dir, || Ok(()))
}

/// The same, with a step before the last while nothing moves.
///
/// # Errors
/// As for [`save`], and the step's.
pub fn save_with(
    machine: &Machine,
    agent: &Hello,
    label: &Label,
    dir: &Path,
    step: impl FnOnce() -> Result<(), FreezeError>,
) -> Result<(), FreezeError> {
    // 1. vCPUs out, each kicked until it is out with no exit in flight: the guest changes nothing any more.
    let vcpus_out = machine.gate.hold();
    // 2. Devices still: requests of shared directories are answered first, no new ones come. The threads that work for them wait at their locks. Interrupts they raised have been raised.
    if let Some(share) = machine.share() {
        share.drain();
    }
    let mut devices = machine.quiesce();
    // 3. What the guest believes to be on its disks is.
    devices.flush()?;
    // 4. Interrupt controllers before vCPUs: what is on its way from one to the other belongs to the vCPU.
    let vm = machine.vm().save().map_err(FreezeError::Chips)?;
    // 5. Each vCPU on its own thread, local interrupt controller and timer included.
    let vcpus = machine.gate.save(&vcpus_out)?;
    let state = MachineState {
        hypervisor: machine.capabilities.kind,
        cpu_model: machine.capabilities.cpu_model.clone(),
        memory_bytes: machine.memory_bytes,
        agent: agent.clone(),
        vm,
        vcpus,
        devices: devices.save(),
        holds_container: label.holds_container,
    };
    step()?;
    // 6. RAM, while all of the above still holds.
    files::write(dir, label, &state, machine.memory(), machine.origin())
}

//! What a machine is when nothing of it moves, as data. All of it is untrusted when it comes back.

use serde::{Deserialize, Serialize};
use supermachine_agent_protocol::Hello;
use supermachine_devices::balloon::BalloonState;
use supermachine_devices::blk::BlkState;
use supermachine_devices::fs::FsState;
use supermachine_devices::serial::SerialState;
use supermachine_devices::virtio::TransportState;
use supermachine_devices::vsock::VsockState;
use supermachine_hv::{HypervisorKind, VcpuState, VmState};

/// Everything of a machine but its RAM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineState {
    /// The back end that wrote the states.
    pub hypervisor: HypervisorKind,
    /// The CPU model that the guest saw.
    pub cpu_model: String,
    /// Guest RAM in bytes.
    pub memory_bytes: u64,
    /// What the guest's agent said of itself.
    pub agent: Hello,
    /// Interrupt controllers and clock.
    pub vm: VmState,
    /// Each vCPU, in order.
    pub vcpus: Vec<VcpuState>,
    /// Every device with a state.
    pub devices: DevicesState,
    /// Whether a container is held in it: its files have to be there before anything runs.
    pub holds_container: bool,
}

/// Devices in the machine's order. The reset port has no state, the clock chip shows the host's time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevicesState {
    /// Block devices.
    pub disks: Vec<Saved<BlkState>>,
    /// Shared directories, if the machine has a device for them; what they are is bound anew.
    pub shares: Option<Saved<FsState>>,
    /// Sockets; connections are not part of it.
    pub vsock: Saved<VsockState>,
    /// Entropy.
    pub rng: TransportState,
    /// Balloon.
    pub balloon: Saved<BalloonState>,
    /// Serial port.
    pub serial: SerialState,
}

/// A virtio device behind its transport.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved<S> {
    /// Registers and queues.
    pub transport: TransportState,
    /// The device's own.
    pub device: S,
}

impl DevicesState {
    /// A name for each virtio device, in the order of the bus.
    pub fn names(&self) -> Vec<String> {
        let Self { disks, shares, vsock: _, rng: _, balloon: _, serial: _ } = self;
        let disk = |disk: &Saved<BlkState>| if disk.device.read_only { "blk-ro" } else { "blk" };
        let disks = disks.iter().map(disk);
        let shares = shares.iter().map(|_| "fs");
        disks.chain(shares).chain(["vsock", "rng", "balloon"]).map(str::to_owned).collect()
    }
}

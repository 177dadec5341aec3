//! Messages of the control protocol, as JSON with externally tagged, kebab-case names; unknown fields are refused.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use supermachine_agent_protocol::{Exec, Hello};

/// Version of this protocol; both sides must have the same.
pub const VERSION: u32 = 1;

/// Largest frame payload that the vmm takes on its control socket, bytes.
pub const FRAME_MAX: u32 = 1 << 20;

/// What a client may ask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// What the machine is and does; answered by [`Reply::Status`].
    Status {},
    /// Runs a process in the guest; answered by [`Reply::Started`], then its streams follow.
    Exec(Box<Exec>),
    /// Stops all vCPUs; answered by [`Reply::Ok`] once none runs guest code. Pausing twice is no error.
    Pause {},
    /// Lets the vCPUs go on.
    Resume {},
    /// Asks the guest to end in good order.
    Shutdown {},
    /// Signals the main process; 9 ends the machine at once, whatever the guest does.
    Kill {
        /// Signal number, 1–64.
        signal: u32,
    },
    /// Counters; answered by [`Reply::Stats`].
    Stats {},
    /// Gives an empty block device its backing; the guest sees a capacity change. Refused where one is there already.
    AttachDisk {
        /// Index of the device, from 0 for the first `--disk`.
        slot: usize,
        /// Disk image; a relative path is relative to the vmm's working directory.
        path: PathBuf,
        /// Whether the guest may not write.
        read_only: bool,
    },
}

/// Answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reply {
    /// First frame each way.
    Hello(Hello),
    /// Done.
    Ok {},
    /// The process runs.
    Started {
        /// Its process id in the guest.
        pid: u32,
    },
    /// Answer to [`Request::Status`].
    Status(Box<Status>),
    /// Answer to [`Request::Stats`].
    Stats(Box<Stats>),
}

/// Where the machine is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The kernel boots; the agent has not said hello.
    Booting,
    /// The agent answers.
    Running,
    /// No vCPU runs.
    Paused,
    /// The guest was asked to end.
    Stopping,
}

/// What the machine is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// Life cycle.
    pub state: State,
    /// Back end by name: `kvm`, `hvf` or `soft`.
    pub hypervisor: String,
    /// CPU model the guest sees.
    pub cpu_model: String,
    /// Number of vCPUs.
    pub vcpus: u32,
    /// Guest RAM in MiB.
    pub memory_mib: u64,
    /// Process id of the vmm on the host.
    pub pid: u32,
    /// Guest kernel release, once the agent said hello.
    pub kernel: Option<String>,
    /// Milliseconds from the vmm's start to the agent's hello, once it came.
    pub boot_ms: Option<u64>,
    /// Milliseconds since the vmm's start.
    pub uptime_ms: u64,
}

/// Counters since the vmm's start.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stats {
    /// One per vCPU.
    pub vcpus: Vec<VcpuStats>,
    /// One per block device.
    pub disks: Vec<DiskStats>,
    /// Bytes of guest RAM that the guest gave back by balloon or free-page reporting.
    pub memory_reclaimed_bytes: u64,
}

/// Counters of one vCPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VcpuStats {
    /// Exits that the vmm handled: device and port accesses.
    pub exits: u64,
    /// Host CPU time of the vCPU's thread in nanoseconds, as of its last kick; a `stats` request kicks, so the next one
    /// sees it.
    pub cpu_ns: u64,
}

/// Counters of one block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskStats {
    /// Bytes read by the guest.
    pub read_bytes: u64,
    /// Bytes written by the guest.
    pub written_bytes: u64,
}

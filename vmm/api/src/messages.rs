//! Messages of the control protocol, as JSON with externally tagged, kebab-case names; unknown fields are refused.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use supermachine_agent_protocol::container::{Container, Furnishings, ProcessInfo, Resources, Usage};
use supermachine_agent_protocol::{Exec, Hello, Names};

/// Version of this protocol; both sides must have the same.
pub const VERSION: u32 = 3;

/// Largest frame payload that the vmm takes on its control socket, bytes.
pub const FRAME_MAX: u32 = 16 << 20;

/// What a client may ask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// What the machine is and does; answered by [`Reply::Status`].
    Status {},
    /// Runs a process in the guest; answered by [`Reply::Started`], then its streams follow.
    Exec(Box<Exec>),
    /// Open files follow, see [`files`](crate::files); answered by [`Reply::Ok`] once all are there. They get the next
    /// numbers of this connection, from 0 on.
    Files {
        /// How many, at most [`MOST`](crate::files::MOST) on a connection.
        count: u32,
    },
    /// Gives the machine its container's files and builds the container in the guest, its first process's streams joined to the vmm's own; waits for the boot.
    /// Answered by [`Reply::Created`]. Refused if the machine has a main process already.
    Create(Box<Create>),
    /// Enters the program of the container's first process; answered by [`Reply::Started`]. After a refusal the container
    /// is gone and the vmm ends with the status that the error code stands for.
    Start {},
    /// Signals every process of the container; answered by [`Reply::Ok`].
    KillAll {
        /// Signal number, 1–64.
        signal: u32,
    },
    /// What runs in the container; answered by [`Reply::Processes`].
    Processes {},
    /// What the container uses; answered by [`Reply::Usage`].
    Usage {},
    /// Changes the container's limits; answered by [`Reply::Ok`].
    Update(Resources),
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
    /// Saves the machine to a directory, which is made; answered by [`Reply::Ok`] once it is written. The machine stands
    /// still meanwhile and goes on afterwards, also after an error, which leaves nothing of the directory.
    Snapshot {
        /// The directory; a relative path is relative to the vmm's working directory.
        dir: PathBuf,
    },
    /// Holds the container and saves it with its machine into a directory, which is there and empty; answered by
    /// [`Reply::Saved`]. Then nothing of it moves until this client says `resume`, or `kill` with signal 9, which ends a
    /// container that goes on elsewhere. A client that goes away, and any error, is a `resume`.
    Checkpoint {
        /// Absolute path. In it are made: `snapshot`, `layers` with a file for each (`0`, `1`, …), and `upper` if there is
        /// one. After an error what is there is the client's to remove.
        dir: PathBuf,
    },
    /// Gives a machine that goes on from a checkpoint the files of its container, and lets it go on, its first process's
    /// streams joined to the vmm's own; answered by [`Reply::Restored`]. Nothing of the machine runs before.
    Restore(Box<ContainerFiles>),
    /// The same for a machine from a template with a container in it, which becomes one of its own: it waits for its start, as
    /// after [`Request::Create`]. Answered by [`Reply::Created`].
    Adopt(Box<Adopt>),
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

/// A container, and what it has of the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// What the guest builds. The machine fills in where the layers and the writable layer are.
    pub container: Container,
    /// What is given to the machine's devices.
    #[serde(default)]
    pub files: ContainerFiles,
    /// Where the machine is saved as a template for others at the point of the container's life that `container.template` names.
    /// Whatever becomes of that, the container goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateOrder>,
}

/// A template that is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateOrder {
    /// Absolute path of the data directory that has the store of templates.
    pub data: PathBuf,
    /// The parts of its key; `base` is the identity of the snapshot that the machine came from.
    pub key: BTreeMap<String, String>,
}

/// A container that was saved in a template, as another's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adopt {
    /// What the guest's disks have behind them, as when it was saved, and the shares of its furnishings.
    pub files: ContainerFiles,
    /// Its own names.
    #[serde(default)]
    pub names: Names,
    /// What it is furnished with, for a template that was saved without that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub furnishings: Option<Furnishings>,
}

/// Files of a container, by their numbers. A machine takes them once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerFiles {
    /// Squashfs images, the lowest layer first; open for reading.
    pub layers: Vec<u32>,
    /// An image with an empty ext4 for what the container writes to its root; open for reading and writing.
    #[serde(default)]
    pub upper: Option<u32>,
    /// Images of volumes: the first becomes `/dev/vdc` in the guest, the next `/dev/vdd`, ….
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// Directories and files that the guest may use: the first is share 0, the next 1, ….
    #[serde(default)]
    pub shares: Vec<Share>,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Its image, open for reading, and for writing unless it is read-only.
    pub file: u32,
    /// Whether the guest may not write.
    pub read_only: bool,
}

/// A shared directory or file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// The directory or file itself, open (on Linux `O_PATH` is enough).
    pub file: u32,
    /// Whether the guest may not write.
    pub read_only: bool,
    /// What becomes of symbolic links in it.
    #[serde(default)]
    pub symlinks: Symlinks,
}

/// What becomes of symbolic links in a shared directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Symlinks {
    /// The guest sees that there are some, not where they lead, and can make none.
    Deny,
    /// The guest reads them and follows them in its own root, as with any file system.
    #[default]
    Opaque,
    /// The guest sees what they lead to inside the share; those that lead nowhere in it are seen as themselves.
    Follow,
}

/// Answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reply {
    /// First frame each way.
    Hello(Hello),
    /// Done.
    Ok {},
    /// The container is built and waits for its start.
    Created {
        /// Process id of its first process in the guest.
        pid: u32,
    },
    /// Answer to [`Request::Checkpoint`].
    Saved(Saved),
    /// The container goes on.
    Restored {
        /// Process id of its first process in the guest.
        pid: u32,
        /// Whether its program was entered; otherwise it waits for its start.
        started: bool,
        /// Whether it has a terminal.
        terminal: bool,
    },
    /// Answer to [`Request::Processes`].
    Processes(Vec<ProcessInfo>),
    /// Answer to [`Request::Usage`].
    Usage(Box<Usage>),
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

/// The files of a container that was saved, besides the snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// Number of layers.
    pub layers: u32,
    /// Whether what was written to the root is in a file; otherwise it is in the machine's memory.
    pub upper: bool,
    /// For each volume whether it is read-only. Volumes stay where they are.
    pub volumes: Vec<bool>,
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

/// Where the container is in its life; its end is the machine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContainerState {
    /// It is being built.
    Creating,
    /// It is built, its program was not entered.
    Created,
    /// Its program runs.
    Running,
    /// Its program has ended; the machine ends next.
    Stopped,
}

/// What the machine is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// Life cycle.
    pub state: State,
    /// The container, once there is one.
    pub container: Option<ContainerState>,
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
    /// Name of the identity that the guest was given, if it comes from a snapshot.
    pub generation: Option<String>,
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
    /// Host CPU time of the vCPU's thread in nanoseconds.
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

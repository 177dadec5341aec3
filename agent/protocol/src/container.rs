//! The container that the agent builds: everything of it, in the guest's own terms.
//!
//! These messages say what to do, not what was asked for: paths are the guest's, limits are files of cgroup v2,
//! seccomp is a BPF program. Whoever makes them has read the container's configuration and checked it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Exec;

/// A container to build around its first process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// Name of its control group, a single path component.
    pub id: String,
    /// Its root file system.
    pub root: Root,
    /// Its first process. `root` and `container` of it have no meaning here.
    pub process: Exec,
    /// Host name in a UTS namespace of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// NIS domain name in a UTS namespace of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// Namespaces of its own; the guest's otherwise. A mount namespace is always its own.
    #[serde(default)]
    pub namespaces: Vec<Namespace>,
    /// Ids of its user namespace.
    #[serde(default)]
    pub uid_mappings: Vec<IdMapping>,
    /// Ids of its user namespace.
    #[serde(default)]
    pub gid_mappings: Vec<IdMapping>,
    /// Offsets of its time namespace.
    #[serde(default)]
    pub time_offsets: BTreeMap<Clock, TimeOffset>,
    /// Mounts in order, behind its root.
    #[serde(default)]
    pub mounts: Vec<ContainerMount>,
    /// Device nodes to make; a bind mount of the guest's node where making one is not allowed.
    #[serde(default)]
    pub devices: Vec<Device>,
    /// Paths that show nothing: a file as `/dev/null`, a directory as an empty read-only one.
    #[serde(default)]
    pub masked_paths: Vec<String>,
    /// Paths made read-only, with what is mounted below.
    #[serde(default)]
    pub readonly_paths: Vec<String>,
    /// Kernel parameters by dotted or slashed name.
    #[serde(default)]
    pub sysctl: BTreeMap<String, String>,
    /// Limits of its control group.
    #[serde(default)]
    pub resources: Resources,
    /// Hooks run in its namespaces, before its root is entered.
    #[serde(default)]
    pub create_hooks: Vec<Hook>,
    /// Hooks run in the container at its start, before its process's program.
    #[serde(default)]
    pub start_hooks: Vec<Hook>,
    /// What hooks read: the container's state as JSON. `pid` and `status` in it are set by the agent.
    #[serde(default)]
    pub hook_state: String,
    /// Where the host wants to save it as a template for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplatePoint>,
}

/// A point in a container's life at which its machine is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TemplatePoint {
    /// Built but for its [`Furnishings`], which come in a request of their own: the agent reads the program before it
    /// answers, so that it is in memory.
    PreExec,
    /// A process of it listens on a TCP port: the agent tells of the first one.
    Listener,
}

/// What a container has that others from the same [`TemplatePoint::PreExec`] need not have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Furnishings {
    /// Program and arguments of its first process.
    pub argv: Vec<String>,
    /// The whole environment of its first process as `NAME=value`.
    #[serde(default)]
    pub env: Vec<String>,
    /// What it shows of the host, in order, on top of all that it has mounted: [`MountSource::Share`] only.
    #[serde(default)]
    pub mounts: Vec<ContainerMount>,
}

impl Container {
    /// Takes out what others from the same template need not have. What is left can be built: it knows which program is
    /// meant and where it is looked for, and nothing else of the environment, which may hold secrets.
    pub fn take_furnishings(&mut self) -> Furnishings {
        let Exec { argv, env, .. } = &mut self.process;
        let program = argv.first().cloned().into_iter().collect();
        let path = env.iter().find(|entry| entry.starts_with("PATH=")).cloned().into_iter().collect();
        let (argv, env) = (std::mem::replace(argv, program), std::mem::replace(env, path));
        let is_shared = |mount: &mut ContainerMount| matches!(mount.source, MountSource::Share { .. });
        Furnishings { argv, env, mounts: self.mounts.extract_if(.., is_shared).collect() }
    }
}

/// A root file system: read-only layers below a writable one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// Block device with the layers, for example `/dev/vda`.
    #[serde(default)]
    pub disk: String,
    /// Where on it they lie, each a squashfs, the lowest first; at least one, at most [`LAYERS_MAX`](crate::spec::LAYERS_MAX).
    #[serde(default)]
    pub layers: Vec<Extent>,
    /// Block device with an empty ext4 for what is written; without one it lives in the guest's memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper: Option<String>,
    /// Whether the container's view of it is read-only once everything is mounted.
    #[serde(default)]
    pub read_only: bool,
    /// Propagation of its mount: `shared`, `slave`, `private`, `unbindable`, each with `r` before it as well; `rprivate`
    /// if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propagation: Option<String>,
}

/// A part of a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extent {
    /// Its start in bytes, a multiple of 4,096.
    pub offset: u64,
    /// Its length in bytes, a multiple of 4,096.
    pub length: u64,
}

/// Kinds of namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Namespace {
    /// Control group root.
    Cgroup,
    /// System V IPC, POSIX message queues.
    Ipc,
    /// Mounts.
    Mount,
    /// Network devices, addresses, ports.
    Network,
    /// Process ids.
    Pid,
    /// Clocks.
    Time,
    /// User and group ids.
    User,
    /// Host and domain name.
    Uts,
}

/// A range of ids of a user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdMapping {
    /// First id in the container.
    pub container: u32,
    /// First id in the guest.
    pub guest: u32,
    /// Number of ids.
    pub size: u32,
}

/// A clock that a time namespace can shift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Clock {
    /// `CLOCK_MONOTONIC`.
    Monotonic,
    /// `CLOCK_BOOTTIME`.
    Boottime,
}

/// How far a clock is shifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeOffset {
    /// Whole seconds.
    pub secs: i64,
    /// Nanoseconds on top.
    #[serde(default)]
    pub nanosecs: u32,
}

/// A mount of the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerMount {
    /// Absolute path in the container; made if missing. Links in it do not lead out of the container.
    pub destination: String,
    /// What is mounted.
    pub source: MountSource,
    /// Flag options: those of a `mount` request, and `private`, `slave`, `shared`, `unbindable`, each with `r` before it
    /// as well, `tmpcopyup`, and `rro`.
    #[serde(default)]
    pub flags: Vec<String>,
    /// Options for the file system itself, comma separated.
    #[serde(default)]
    pub data: String,
}

/// What a mount of the container shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum MountSource {
    /// A new file system: `proc`, `sysfs`, `tmpfs`, `devpts`, `mqueue`, …
    Filesystem {
        /// Its type.
        fstype: String,
        /// Its source, as `/proc/mounts` shows it.
        source: String,
    },
    /// The container's own control group.
    Cgroup {},
    /// A directory or file of the guest.
    Bind {
        /// Absolute path in the guest.
        path: String,
    },
    /// A directory or file of the host, shared with the guest.
    Share {
        /// Its number among the shared ones.
        number: u32,
    },
    /// A file system on a block device.
    Volume {
        /// The device in the guest, for example `/dev/vdc`.
        device: String,
        /// Its type of file system.
        fstype: String,
    },
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Absolute path in the container.
    pub path: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Major number; 0 for a pipe.
    #[serde(default)]
    pub major: u32,
    /// Minor number; 0 for a pipe.
    #[serde(default)]
    pub minor: u32,
    /// Permission bits, at most 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Kinds of device nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceKind {
    /// A block device.
    Block,
    /// A character device.
    Character,
    /// A named pipe.
    Fifo,
}

/// Limits of the container's control group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Files of cgroup v2 and what is written into them, in the order of their names; `memory.max`, `cpu.max`, ….
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// Rules for devices, the last that matches counts. Without any, no rule is set, or the ones set stay.
    #[serde(default)]
    pub devices: Vec<DeviceRule>,
}

/// One rule for the use of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceRule {
    /// Whether it allows or denies.
    pub allow: bool,
    /// Only devices of this kind; a pipe is none.
    pub kind: Option<DeviceKind>,
    /// Only this major number.
    pub major: Option<u32>,
    /// Only this minor number.
    pub minor: Option<u32>,
    /// Reading.
    pub read: bool,
    /// Writing.
    pub write: bool,
    /// Making nodes.
    pub mknod: bool,
}

/// Refuses everything.
pub const DENY_ALL_DEVICES: DeviceRule =
    DeviceRule { allow: false, kind: None, major: None, minor: None, read: true, write: true, mknod: true };

/// What every container may do, whatever its bundle says: make any node, and use those that each container has. After
/// [`DENY_ALL_DEVICES`] these are the rules of most containers, and the agent has them ready.
pub const ORDINARY_DEVICES: [DeviceRule; 10] = {
    use DeviceKind::{Block, Character};
    const fn allow(kind: DeviceKind, major: Option<u32>, minor: Option<u32>, use_it: bool) -> DeviceRule {
        DeviceRule { allow: true, kind: Some(kind), major, minor, read: use_it, write: use_it, mknod: true }
    }
    [
        allow(Character, None, None, false),
        allow(Block, None, None, false),
        allow(Character, Some(1), Some(3), true),
        allow(Character, Some(1), Some(8), true),
        allow(Character, Some(1), Some(7), true),
        allow(Character, Some(5), Some(0), true),
        allow(Character, Some(1), Some(5), true),
        allow(Character, Some(1), Some(9), true),
        allow(Character, Some(136), None, true),
        allow(Character, Some(5), Some(2), true),
    ]
};

/// A program that is run at a point of the container's life. It reads the container's state from standard input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// Absolute path in the container's root file system.
    pub path: String,
    /// Arguments, the program's name first; `path` alone if there are none.
    #[serde(default)]
    pub args: Vec<String>,
    /// The whole environment as `NAME=value`.
    #[serde(default)]
    pub env: Vec<String>,
    /// Seconds after which it is killed, which is a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_secs: Option<u32>,
}

/// What a process is given besides its user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attributes {
    /// Resource limits.
    #[serde(default)]
    pub rlimits: Vec<Rlimit>,
    /// Its capabilities; without them it keeps what its user has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Whether nothing it executes may give it more rights.
    #[serde(default)]
    pub no_new_privileges: bool,
    /// File mode creation mask, at most 0o777.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// How soon the guest's kernel ends it when memory runs out, -1000 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// What system calls it may make.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<Seccomp>,
    /// CPU scheduling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// Priority of its I/O, as `ioprio_set(2)` takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<u32>,
    /// Execution domain, as `personality(2)` takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personality: Option<u32>,
}

impl Attributes {
    /// Whether nothing is asked for.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// One resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rlimit {
    /// Number of the resource on Linux, 0 (`RLIMIT_CPU`) to 15 (`RLIMIT_RTTIME`).
    pub resource: u32,
    /// Soft limit; `u64::MAX` is none.
    pub soft: u64,
    /// Hard limit; `u64::MAX` is none.
    pub hard: u64,
}

/// Five sets of capabilities, each a mask with bit n for capability n.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    /// What can ever be had.
    pub bounding: u64,
    /// What counts.
    pub effective: u64,
    /// What is passed on to programs that ask for it.
    pub inheritable: u64,
    /// What may be made to count.
    pub permitted: u64,
    /// What is passed on to every program.
    pub ambient: u64,
}

/// A seccomp filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seccomp {
    /// Instructions of classic BPF: code, jump if true, jump if false, operand. At most 4,096.
    pub program: Vec<(u16, u8, u8, u32)>,
    /// Flags of `SECCOMP_SET_MODE_FILTER`.
    #[serde(default)]
    pub flags: u32,
}

/// CPU scheduling as `sched_setattr(2)` takes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheduler {
    /// Policy.
    pub policy: u32,
    /// Flags.
    #[serde(default)]
    pub flags: u64,
    /// For the ordinary policies, -20 to 19.
    #[serde(default)]
    pub nice: i32,
    /// For the real-time policies, 1 to 99.
    #[serde(default)]
    pub priority: u32,
    /// For the deadline policy, nanoseconds.
    #[serde(default)]
    pub runtime_ns: u64,
    /// For the deadline policy, nanoseconds.
    #[serde(default)]
    pub deadline_ns: u64,
    /// For the deadline policy, nanoseconds.
    #[serde(default)]
    pub period_ns: u64,
}

/// What a container uses: files of its control group, as they read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Text by file name: `memory.current`, `memory.stat`, `memory.events`, `cpu.stat`, `pids.current`, `io.stat`, …;
    /// files that do not exist are left out.
    pub files: BTreeMap<String, String>,
    /// Text of `/proc/net/dev` in the container's network namespace.
    #[serde(default)]
    pub net_dev: String,
}

/// One process of the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessInfo {
    /// Its number in the guest.
    pub pid: u32,
    /// Its parent's number in the guest.
    pub ppid: u32,
    /// Its number in the container's namespace.
    pub container_pid: u32,
    /// Its effective user id.
    pub uid: u32,
    /// State letter as `ps` shows it.
    pub state: char,
    /// Terminal as `ps` shows it; `?` for none.
    pub tty: String,
    /// CPU time in milliseconds.
    pub cpu_ms: u64,
    /// Its start, seconds of the guest's wall clock since 1970.
    pub started_at: u64,
    /// Its arguments separated by spaces, or its name in brackets if it has none.
    pub command: String,
}

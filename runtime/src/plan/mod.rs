//! Turns a bundle into the plan of its container: pure, without effects.
//!
//! [`plan`] reads nothing but the [`Bundle`](crate::bundle::Bundle) it is given; what the container has of the host is opened
//! afterwards. Every error names the place in `config.json` that it is about.

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::runtime::LinuxResources;
use supermachine_agent_protocol::container::{Container, Namespace, TemplatePoint};
use supermachine_layers::digest::Digest;
use supermachine_vmm_api::Symlinks;

pub(crate) mod annotations;
pub(crate) mod capabilities;
mod cgroup_path;
mod container;
mod device_rules;
mod devices;
mod error;
mod hooks;
mod host_files;
mod host_memory;
pub(crate) mod mount_options;
mod mounts;
mod namespaces;
mod paths;
mod process;
mod resources;
mod vm;
mod volumes;

pub use capabilities::capability_mask;
pub use container::{plan, plan_process, plan_resources};
pub use error::PlanError;
pub use host_files::host_files;
pub use host_memory::host_memory_mib;
#[cfg(target_os = "linux")]
pub(crate) use paths::is_within;
#[cfg(target_os = "linux")]
pub(crate) use vm::PREFIX as ANNOTATION_PREFIX;

pub use crate::seccomp::GuestArch;

/// What is done with a bundle: in the guest, to the machine, and on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What the agent builds.
    pub container: Container,
    /// Mounts of `container` that show something of the host, in order: their sources are shares with the number of the
    /// bind.
    pub binds: Vec<HostBind>,
    /// Images of the host that mounts of `container` show.
    pub volumes: Vec<HostVolume>,
    /// Size in MiB of a disk for what is written to the root; without one it lives in the guest's memory.
    pub root_disk_mib: Option<u64>,
    /// Size of the virtual machine.
    pub vm: VmSize,
    /// Where the virtual machine comes from, if the bundle says so.
    pub source: Option<MachineSource>,
    /// What happens on the host.
    pub host: HostPlan,
    /// Absolute path of the directory that becomes the container's root file system, or stays empty if there are layers.
    pub rootfs: PathBuf,
    /// Images of the layer store that become it instead, the lowest first.
    pub layers: Option<Vec<Digest>>,
    /// Whether the first process has a terminal; its size is `container.process.tty`.
    pub terminal: bool,
    /// All annotations of the bundle.
    pub annotations: BTreeMap<String, String>,
    /// `ociVersion` of the bundle.
    pub oci_version: String,
    /// What was asked for and is done otherwise or not at all, one line each, to be logged.
    pub warnings: Vec<String>,
}

/// Where a virtual machine comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MachineSource {
    /// A template that has a built container of the same kind, made when one of its kind comes for the second time; a
    /// plain one until then, and for those that cannot be in one.
    #[default]
    Automatic,
    /// A template, baked if there is none.
    Template,
    /// A boot.
    Boot,
    /// A template that has a container of the same kind at this point of its life; a plain one if there is none yet.
    Image(TemplatePoint),
}

impl MachineSource {
    /// All names, for a message.
    pub const NAMES: &str = "auto, base, pre-exec, listener and off";

    /// By its name in an annotation and in the environment.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Automatic),
            "base" => Some(Self::Template),
            "off" => Some(Self::Boot),
            "pre-exec" => Some(Self::Image(TemplatePoint::PreExec)),
            "listener" => Some(Self::Image(TemplatePoint::Listener)),
            _ => None,
        }
    }
}

/// Size of the virtual machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VmSize {
    /// Number of vCPUs.
    pub vcpus: u32,
    /// RAM in MiB.
    pub memory_mib: u64,
}

/// A mount that shows a directory or file of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostBind {
    /// Index into `container.mounts`.
    pub mount: usize,
    /// Absolute path on the host.
    pub source: PathBuf,
    /// Whether mounts below the source come with it.
    pub recursive: bool,
    /// Whether what is mounted there later comes as well: propagation from the host.
    pub follows: bool,
    /// Whether the container may not write to it.
    pub read_only: bool,
    /// What becomes of symbolic links in it.
    pub symlinks: Symlinks,
}

/// An image of the host that becomes a disk of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostVolume {
    /// Index into `container.mounts` of the first mount that shows it.
    pub mount: usize,
    /// Absolute path on the host.
    pub source: PathBuf,
    /// Its size in MiB if it is to be made.
    pub size_mib: u64,
    /// Whether no mount writes to it.
    pub read_only: bool,
}

/// What happens on the host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostPlan {
    /// Control group: absolute from the hierarchies' roots, or relative to the caller's own; without `..`. With systemd's
    /// naming it is already the path that systemd would use.
    pub cgroups_path: Option<String>,
    /// Limits as the bundle has them.
    pub resources: Option<LinuxResources>,
    /// Namespaces that the vmm enters.
    pub namespaces: Vec<HostNamespace>,
    /// Hooks that run on the host.
    pub hooks: HostHooks,
}

/// A namespace of the host that the vmm enters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostNamespace {
    /// Its kind.
    pub kind: Namespace,
    /// The one to join; a new one if there is none.
    pub path: Option<PathBuf>,
}

/// Hooks that run on the host, each list in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostHooks {
    /// After the container is built, before `create` ends.
    pub prestart: Vec<HostHook>,
    /// The same, after `prestart`.
    pub create_runtime: Vec<HostHook>,
    /// After the program was entered, before `start` ends.
    pub poststart: Vec<HostHook>,
    /// After the container was deleted.
    pub poststop: Vec<HostHook>,
}

impl HostHooks {
    /// Whether there are hooks that see the container before its start.
    pub fn before_start(&self) -> bool {
        !self.prestart.is_empty() || !self.create_runtime.is_empty()
    }
}

/// A program that runs on the host.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HostHook {
    /// Absolute path.
    pub path: PathBuf,
    /// The whole argument vector, the program's name first; `path` alone if the bundle gives none.
    pub args: Vec<String>,
    /// The whole environment as `NAME=value`.
    pub env: Vec<String>,
    /// Seconds after which it is killed, which is a failure.
    pub timeout_secs: Option<u32>,
}

/// What a plan depends on besides the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanSettings {
    /// The container's id.
    pub id: String,
    /// Whether `linux.cgroupsPath` is in systemd's form, `slice:prefix:name`.
    pub systemd_cgroup: bool,
    /// Whether the caller is not root.
    pub rootless: bool,
    /// Processor architecture of the guest.
    pub arch: GuestArch,
    /// RAM of the host in MiB: more is not given to a machine because of a high limit.
    pub host_memory_mib: Option<u64>,
}

/// Something planned, and what is to be logged about it, one line each.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned<T> {
    /// The thing itself.
    pub value: T,
    /// What was asked for and is done otherwise or not at all.
    pub warnings: Vec<String>,
}

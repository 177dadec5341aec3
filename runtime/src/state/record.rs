//! What is kept of a container between verbs: `state.json`, replaced as a whole, and the OCI state made from it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxResources, Process};
use serde::{Deserialize, Serialize};
use supermachine_agent_protocol::container::Attributes;

use crate::plan::HostHook;

use super::Status;

/// Version of the record's form.
pub const VERSION: u32 = 1;

/// A container as its directory knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this form.
    pub version: u32,
    /// The container's id.
    pub id: String,
    /// `ociVersion` of its bundle.
    pub oci_version: String,
    /// Absolute path of its bundle.
    pub bundle: PathBuf,
    /// Absolute path of its root file system on the host.
    pub rootfs: PathBuf,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// When it was created, RFC 3339 in UTC.
    pub created: String,
    /// Its machine, once it was started.
    pub vmm: Option<Vmm>,
    /// Key of the template that its machine came from; none if it booted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Whether its `create` has ended well.
    pub complete: bool,
    /// RAM of its machine in MiB.
    pub memory_mib: u64,
    /// Whether its machine writes back volumes before it ends.
    #[serde(default)]
    pub has_volumes: bool,
    /// Its volumes, in the order of the machine's disks.
    #[serde(default)]
    pub volumes: Vec<VolumeRecord>,
    /// Whether its first process has a terminal.
    pub terminal: bool,
    /// Its control group on the host, in the form of its module.
    pub cgroup: serde_json::Value,
    /// Its limits as last set.
    pub resources: LinuxResources,
    /// File in the layer store that says which images it uses.
    pub layers_hold: PathBuf,
    /// Hooks that are due at its start.
    pub poststart: Vec<HostHook>,
    /// Hooks that are due at its end.
    pub poststop: Vec<HostHook>,
    /// What was asked for and is done otherwise.
    pub warnings: Vec<String>,
}

/// A volume of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// Absolute path of its image.
    pub path: PathBuf,
    /// Whether the container cannot write to it.
    pub read_only: bool,
}

/// The process that runs a container's machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vmm {
    /// Its number on the host.
    pub pid: u32,
    /// When it started, in clock ticks since the host's boot: with the number it names one process only.
    pub started: u64,
}

/// What `exec` starts from: `exec.json`, written once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecBase {
    /// The first process as the bundle has it.
    pub process: Process,
    /// What the first process is given, in the guest's terms.
    pub attributes: Attributes,
}

/// State as the OCI specification and runc print it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OciState {
    /// Version of the specification.
    #[serde(rename = "ociVersion")]
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// Process id of its machine on the host; 0 without one.
    pub pid: u32,
    /// Where it is in its life.
    pub status: Status,
    /// Absolute path of its bundle.
    pub bundle: PathBuf,
    /// Absolute path of its root file system.
    pub rootfs: PathBuf,
    /// When it was created.
    pub created: String,
    /// Its annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Name of the user that owns it; `state` leaves it empty as runc does.
    pub owner: String,
}

impl Record {
    /// The state that others see.
    pub fn oci_state(&self, status: Status) -> OciState {
        let pid = if status == Status::Stopped { 0 } else { self.vmm.map_or(0, |vmm| vmm.pid) };
        OciState {
            oci_version: self.oci_version.clone(),
            id: self.id.clone(),
            pid,
            status,
            bundle: self.bundle.clone(),
            rootfs: self.rootfs.clone(),
            created: self.created.clone(),
            annotations: self.annotations.clone(),
            owner: String::new(),
        }
    }

    /// What hooks read, which has none of the fields that runc adds.
    pub fn hook_state(&self, status: Status) -> String {
        let pid = if status == Status::Stopped { 0 } else { self.vmm.map_or(0, |vmm| vmm.pid) };
        serde_json::json!({
            "ociVersion": self.oci_version,
            "id": self.id,
            "status": status,
            "pid": pid,
            "bundle": self.bundle,
            "annotations": self.annotations,
        })
        .to_string()
    }
}

/// Replaces `path` with `value` as JSON: whole, or not at all.
pub fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let bytes = serde_json::to_vec(value).map_err(io::Error::other)?;
    write_whole(path, &bytes, 0o600)
}

/// Replaces `path` with `bytes`: whole, or not at all, whoever is killed meanwhile. A host that loses power may find neither;
/// its containers are gone then as well.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}", std::process::id()));
    let temporary = path.with_file_name(temporary);
    // A process of this number that died here may have left it.
    let _ = fs::remove_file(&temporary);
    let written = || -> io::Result<()> {
        let mut file = File::options().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        fs::rename(&temporary, path)
    };
    written().inspect_err(|_| {
        // The error that led here is the one to tell.
        let _ = fs::remove_file(&temporary);
    })
}

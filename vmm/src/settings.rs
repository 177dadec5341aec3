//! What one machine is made of, checked before anything is opened for the guest.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use supermachine_agent_protocol::Exec;

use crate::choose::Choice;
use crate::freeze::MachineState;
use crate::layout;
use crate::memory::{self, MemoryError};

/// Longest socket path in bytes: `sun_path` is 104 bytes with its NUL on macOS, the shorter of our systems, and the
/// control socket has one byte more until it is ready.
pub const SOCKET_PATH_MAX: usize = 102;
/// Block devices with a backing or without: the other virtio devices leave this many interrupt lines.
pub const DISKS_MAX: usize = layout::VIRTIO_MAX - 4;

/// Index of a container's disk with its layers.
pub const LAYERS_DISK: usize = 0;
/// Index of a container's disk for what it writes to its root file system.
pub const UPPER_DISK: usize = 1;
/// Index of the first of a container's disks for volumes.
pub const FIRST_VOLUME_DISK: usize = 2;
/// Block devices of every container, used or not: templates have one shape.
pub const CONTAINER_DISKS: usize = 8;

/// A setting that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// RAM size.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Number of vCPUs.
    #[error("vcpus: {asked} is not possible, a machine has 1 to {} vCPUs", layout::VCPUS_MAX)]
    Vcpus {
        /// What was asked for.
        asked: u32,
    },
    /// Too many disks.
    #[error("disk: {asked} disks are too many, a machine has at most {DISKS_MAX}")]
    Disks {
        /// What was asked for.
        asked: usize,
    },
    /// A socket path that no system takes.
    #[error("{option}: path {} has {length} bytes, a socket's path can have at most {SOCKET_PATH_MAX}", path.display())]
    SocketPath {
        /// Which option.
        option: &'static str,
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// `--root-disk` names a disk that is not there.
    #[error("root-disk: there is no disk {slot}, {disks} are given")]
    RootDisk {
        /// The index.
        slot: usize,
        /// Number of disks.
        disks: usize,
    },
    /// Nothing could ever end or use the machine.
    #[error("nothing to do: give a command to run after `--`, or --control or --control-fd to take commands later")]
    NoPurpose,
}

/// A block device as the user asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disk {
    /// Capacity 0 until a backing is attached.
    Empty {
        /// Whether the guest may never write.
        read_only: bool,
    },
    /// Backed by a file.
    File {
        /// The image.
        path: PathBuf,
        /// Whether the guest may not write.
        read_only: bool,
    },
}

impl Disk {
    /// The block devices of a container: all empty, the layers' read-only.
    pub fn of_container() -> Vec<Self> {
        (0..CONTAINER_DISKS).map(|slot| Self::Empty { read_only: slot == LAYERS_DISK }).collect()
    }
}

/// Everything that the machine is built from.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Kernel file.
    pub kernel: PathBuf,
    /// Initial RAM file system.
    pub initramfs: Option<PathBuf>,
    /// Added to the built-in kernel command line.
    pub cmdline: String,
    /// Guest RAM in bytes.
    pub memory_bytes: u64,
    /// Number of vCPUs.
    pub vcpus: u32,
    /// Block devices in order.
    pub disks: Vec<Disk>,
    /// Whether there is a device for shared directories.
    pub shares: bool,
    /// Index of the disk (squashfs) that becomes the main process's root.
    pub root_disk: Option<usize>,
    /// Control socket to listen on.
    pub control: Option<PathBuf>,
    /// Whether there is a control connection from the start.
    pub inherits_control: bool,
    /// Host Unix socket for vsock connections, see `docs/architecture.md`.
    pub vsock: Option<PathBuf>,
    /// Back end.
    pub hypervisor: Choice,
    /// Whether it passed its probe since this host booted, so that one that is named need not pass it again.
    pub probed: bool,
    /// CPU model by name, where the back end has several.
    pub cpu_model: Option<String>,
    /// Whether kernel console lines go to stderr.
    pub console: bool,
    /// Main process; its status is the vmm's.
    pub main: Option<Exec>,
    /// Snapshot to go on from, instead of a boot.
    pub restore: Option<PathBuf>,
    /// The snapshot beneath it, if it is a diff.
    pub base: Option<PathBuf>,
    /// Whether what makes the next machine from that snapshot faster is kept beside it.
    pub keep: bool,
    /// Where to save the machine once it is up, which ends it.
    pub bake: Option<PathBuf>,
    /// The parts of the key that the saved machine is for.
    pub key: BTreeMap<String, String>,
}

impl Settings {
    /// A machine with its kernel and nothing else: 256 MiB of RAM, one vCPU, the first back end that works.
    #[must_use]
    pub fn new(kernel: PathBuf) -> Self {
        Self {
            kernel,
            initramfs: None,
            cmdline: String::new(),
            memory_bytes: 256 << 20,
            vcpus: 1,
            disks: Vec::new(),
            shares: false,
            root_disk: None,
            control: None,
            inherits_control: false,
            vsock: None,
            hypervisor: Choice::Auto,
            probed: false,
            cpu_model: None,
            console: false,
            main: None,
            restore: None,
            base: None,
            keep: false,
            bake: None,
            key: BTreeMap::new(),
        }
    }

    /// Checks all fields that can be checked without opening a file.
    ///
    /// # Errors
    /// The first setting that cannot be, by name, with what would be possible.
    pub fn check(&self) -> Result<(), SettingsError> {
        memory::check_size(self.memory_bytes)?;
        if !(1..=layout::VCPUS_MAX).contains(&self.vcpus) {
            return Err(SettingsError::Vcpus { asked: self.vcpus });
        }
        if self.disks.len() > DISKS_MAX {
            return Err(SettingsError::Disks { asked: self.disks.len() });
        }
        check_socket_path("control", self.control.as_deref(), 0)?;
        // Connections of the guest go to `PATH_PORT`; a port has up to ten digits.
        check_socket_path("vsock", self.vsock.as_deref(), 11)?;
        match self.root_disk {
            Some(slot) if slot >= self.disks.len() => Err(SettingsError::RootDisk { slot, disks: self.disks.len() }),
            _ if self.has_purpose() => Ok(()),
            _ => Err(SettingsError::NoPurpose),
        }
    }

    fn has_purpose(&self) -> bool {
        self.main.is_some() || self.control.is_some() || self.inherits_control || self.bake.is_some()
    }

    /// Makes the machine the saved one: its size is the snapshot's, and disks that were not given are empty.
    pub fn follow(&mut self, state: &MachineState) {
        self.memory_bytes = state.memory_bytes;
        self.vcpus = u32::try_from(state.vcpus.len()).unwrap_or(u32::MAX);
        let missing = state.devices.disks.iter().skip(self.disks.len());
        self.disks.extend(missing.map(|disk| Disk::Empty { read_only: disk.device.read_only }));
        self.shares = state.devices.shares.is_some();
        self.root_disk = None;
    }
}

fn check_socket_path(option: &'static str, path: Option<&Path>, suffix: usize) -> Result<(), SettingsError> {
    let Some(path) = path else { return Ok(()) };
    let length = path.as_os_str().as_bytes().len() + suffix;
    if length <= SOCKET_PATH_MAX {
        return Ok(());
    }
    Err(SettingsError::SocketPath { option, path: path.to_owned(), length })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Settings {
        Settings {
            disks: vec![Disk::Empty { read_only: false }],
            control: Some("/run/c".into()),
            ..Settings::new("/k".into())
        }
    }

    fn message(change: impl FnOnce(&mut Settings)) -> String {
        let mut settings = good();
        change(&mut settings);
        settings.check().expect_err("must be refused").to_string()
    }

    #[test]
    fn each_wrong_setting_is_named() {
        assert!(good().check().is_ok());
        assert!(message(|s| s.memory_bytes = 1 << 20).contains("memory: 1 MiB is too small"));
        assert!(message(|s| s.memory_bytes += 1).contains("not a multiple of the page size"));
        assert!(message(|s| s.vcpus = 17).contains("vcpus: 17 is not possible"));
        assert!(message(|s| s.vcpus = 0).contains("1 to 16"));
        assert!(message(|s| s.disks = vec![Disk::Empty { read_only: true }; 40]).contains("disk: 40"));
        assert!(message(|s| s.root_disk = Some(1)).contains("root-disk: there is no disk 1"));
        assert!(message(|s| s.control = None).contains("nothing to do"));
        assert!(Settings { control: None, inherits_control: true, ..good() }.check().is_ok());
        let long = PathBuf::from(format!("/{}", "x".repeat(120)));
        assert!(message(|s| s.control = Some(long)).contains("control: path /xxx"));
        let edge = PathBuf::from("x".repeat(SOCKET_PATH_MAX - 5));
        assert!(message(|s| s.vsock = Some(edge)).contains("vsock: path"));
    }
}

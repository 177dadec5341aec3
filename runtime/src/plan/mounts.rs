//! The mounts of a container: what the guest has itself, and what comes from the host.

use std::path::Path;

use oci_spec::runtime::Mount;
use supermachine_agent_protocol::container::{ContainerMount, MountSource};
use supermachine_vmm_api::Symlinks;

use super::mount_options::Options;
use super::paths::{clean, is_within};
use super::process::no_nul;
use super::{HostBind, HostVolume, PlanError, volumes};

/// File systems that need no device or directory of the host.
const VIRTUAL: [&str; 14] = [
    "binfmt_misc",
    "bpf",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "fusectl",
    "mqueue",
    "proc",
    "ramfs",
    "securityfs",
    "sysfs",
    "tmpfs",
    "tracefs",
];

/// Files below `/proc` that something may be mounted on, as runc has it: what lxcfs and others emulate.
const PROC_FILES: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// Most bytes of options for a file system: a page, with its end.
const DATA_MAX: usize = 4095;

/// The mounts of a bundle.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    /// For the guest, one for each of the bundle's.
    pub(super) container: Vec<ContainerMount>,
    /// Those that show something of the host.
    pub(super) binds: Vec<HostBind>,
    /// Images that some show.
    pub(super) volumes: Vec<HostVolume>,
}

/// Plans all mounts. `bundle` is where relative sources start.
pub(super) fn plan(
    mounts: &[Mount],
    bundle: &Path,
    symlinks: Symlinks,
    warnings: &mut Vec<String>,
) -> Result<Mounts, PlanError> {
    let mut planned = Mounts::default();
    for (index, mount) in mounts.iter().enumerate() {
        let at = format!("mounts[{index}]");
        let options = Options::parse(mount.options().as_deref().unwrap_or_default(), &at)?;
        let destination = destination(mount, &at, warnings)?;
        let fstype = mount.typ().as_deref().unwrap_or_default();
        no_nul(&format!("{at}.type"), fstype)?;
        if mount.uid_mappings().as_ref().or(mount.gid_mappings().as_ref()).is_some_and(|maps| !maps.is_empty()) {
            return Err(PlanError::unsupported(format!("{at}.uidMappings"), "mounts with mapped ids are not offered"));
        }
        let planned_mount = if options.is_bind() || fstype == "bind" {
            let source = host_source(mount, bundle, &at)?;
            if let Some(mount) = guest_bind(&source, &destination, &options) {
                mount
            } else {
                if options.propagates_back() {
                    warnings.push(format!(
                        "{at}.options: mounts made in the container stay there, they do not reach the host"
                    ));
                }
                let bind = HostBind {
                    mount: index,
                    source: source.into(),
                    recursive: options.is_recursive(),
                    follows: options.is_recursive() && options.follows(),
                    read_only: options.is_read_only(),
                    symlinks,
                };
                planned.share(bind, destination, &options)
            }
        } else if fstype == volumes::FSTYPE {
            volumes::plan(index, mount, bundle, destination, &options, &mut planned.volumes)?
        } else {
            filesystem(mount, fstype, destination, options, &at)?
        };
        planned.container.push(planned_mount);
    }
    Ok(planned)
}

impl Mounts {
    fn share(&mut self, bind: HostBind, destination: String, options: &Options) -> ContainerMount {
        let number = u32::try_from(self.binds.len()).unwrap_or(u32::MAX);
        self.binds.push(bind);
        let source = MountSource::Share { number };
        ContainerMount { destination, source, flags: options.guest_bind_flags(), data: String::new() }
    }
}

fn destination(mount: &Mount, at: &str, warnings: &mut Vec<String>) -> Result<String, PlanError> {
    let path = format!("{at}.destination");
    let text = mount.destination().to_string_lossy();
    no_nul(&path, &text)?;
    if text.is_empty() {
        return Err(PlanError::missing(path));
    }
    if !text.starts_with('/') {
        warnings.push(format!("{path}: {text:?} is not absolute, it is taken from /"));
    }
    let cleaned = clean(&text);
    if cleaned == "/" {
        return Err(PlanError::invalid(path, "nothing can be mounted on the container's root"));
    }
    if is_within(&cleaned, "/proc") && cleaned != "/proc" && !PROC_FILES.contains(&cleaned.as_str()) {
        return Err(PlanError::invalid(path, format!("{cleaned:?} is inside /proc, where nothing is mounted")));
    }
    Ok(cleaned)
}

/// The absolute path of a mount's source.
pub(super) fn host_source(mount: &Mount, bundle: &Path, at: &str) -> Result<String, PlanError> {
    let path = format!("{at}.source");
    let source = mount.source().clone().unwrap_or_default();
    if source.as_os_str().is_empty() {
        return Err(PlanError::missing(path));
    }
    let text = bundle.join(source).to_string_lossy().into_owned();
    no_nul(&path, &text)?;
    Ok(text)
}

/// A bind mount of something that the guest has itself: the kernel's own directories.
fn guest_bind(source: &str, destination: &str, options: &Options) -> Option<ContainerMount> {
    let source = clean(source);
    let own =
        |source, flags| ContainerMount { destination: destination.to_owned(), source, flags, data: String::new() };
    if source == "/sys/fs/cgroup" {
        return Some(own(MountSource::Cgroup {}, options.guest_flags()));
    }
    if source == "/dev/mqueue" {
        let mqueue = MountSource::Filesystem { fstype: "mqueue".to_owned(), source: "mqueue".to_owned() };
        return Some(own(mqueue, options.guest_flags()));
    }
    let of_kernel =
        ["/proc", "/sys", "/dev"].iter().any(|dir| is_within(&source, dir)) && !is_within(&source, "/dev/shm");
    of_kernel.then(|| own(MountSource::Bind { path: source.clone() }, options.guest_bind_flags()))
}

fn filesystem(
    mount: &Mount,
    fstype: &str,
    destination: String,
    options: Options,
    at: &str,
) -> Result<ContainerMount, PlanError> {
    let flags = options.guest_flags();
    if fstype == "cgroup" || fstype == "cgroup2" {
        return Ok(ContainerMount { destination, source: MountSource::Cgroup {}, flags, data: String::new() });
    }
    let path = format!("{at}.type");
    if fstype.is_empty() {
        return Err(PlanError::missing(path));
    }
    if !VIRTUAL.contains(&fstype) {
        let reason = format!("{fstype:?} needs a device or directory of the host, which the guest does not have");
        return Err(PlanError::unsupported(path, reason));
    }
    if options.data.len() > DATA_MAX {
        return Err(PlanError::invalid(
            format!("{at}.options"),
            format!("more than {DATA_MAX} bytes for the file system"),
        ));
    }
    let source = mount.source().as_ref().map_or(fstype.into(), |source| source.to_string_lossy());
    no_nul(&format!("{at}.source"), &source)?;
    let source = MountSource::Filesystem { fstype: fstype.to_owned(), source: source.into_owned() };
    Ok(ContainerMount { destination, source, flags, data: options.data })
}

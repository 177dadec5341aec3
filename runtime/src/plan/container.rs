//! Puts the plan of a container together from its parts.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use oci_spec::runtime::{Linux, LinuxPersonality, LinuxPersonalityDomain, LinuxResources, Process, Spec};
use supermachine_agent_protocol::Exec;
use supermachine_agent_protocol::container::{Attributes, Container, Namespace, Resources, Root, Seccomp};

use super::process::no_nul;
use super::{
    HostPlan, Plan, PlanError, PlanSettings, Planned, annotations, cgroup_path, device_rules, devices, hooks, mounts,
    namespaces, process, resources, vm,
};
use crate::bundle::Bundle;
use crate::seccomp;

/// Longest host or domain name, bytes (`__NEW_UTS_LEN` of `linux/utsname.h`).
const NAME_MAX: usize = 64;
/// `PER_LINUX32` of `linux/personality.h`.
const PER_LINUX32: u32 = 8;

/// Plans the container of `bundle`.
pub fn plan(bundle: &Bundle, settings: &PlanSettings) -> Result<Plan, PlanError> {
    let spec = &bundle.spec;
    version(spec.version())?;
    if spec.vm().is_some() {
        return Err(PlanError::unsupported("vm", "a bundle does not choose the machine's hypervisor, kernel or image"));
    }
    let annotations: BTreeMap<String, String> = spec.annotations().clone().unwrap_or_default().into_iter().collect();
    let mut warnings = bundle.warnings.clone();
    let linux = spec.linux().as_ref().ok_or_else(|| PlanError::missing("linux"))?;
    refuse(linux)?;
    let hooks = spec.hooks().as_ref().map(hooks::plan).transpose()?.unwrap_or_default();
    let namespaces =
        namespaces::plan(linux.namespaces().as_deref().unwrap_or_default(), "linux.namespaces", &mut warnings)?;
    let mounts = mounts::plan(
        spec.mounts().as_deref().unwrap_or_default(),
        &bundle.dir,
        annotations::symlinks(&annotations)?,
        &mut warnings,
    )?;
    let root_disk_mib = annotations::disk_mib(&annotations)?;
    let vm = vm::plan(linux.resources().as_ref(), &annotations, settings.host_memory_mib)?;
    let source = annotations::source(&annotations)?;
    let rootfs = spec.root().as_ref().map(|root| root.path().as_path()).unwrap_or(Path::new(""));
    if rootfs.as_os_str().is_empty() {
        return Err(PlanError::missing("root.path"));
    }
    no_nul("root.path", &rootfs.to_string_lossy())?;
    let parts = Parts { spec, linux, namespaces: &namespaces.guest, settings };
    let process = parts.process(&mut warnings)?;
    let container = Container {
        hostname: parts.uts_name("hostname", spec.hostname())?,
        domainname: parts.uts_name("domainname", spec.domainname())?,
        create_hooks: hooks.create,
        start_hooks: hooks.start,
        mounts: mounts.container,
        hook_state: hook_state(bundle, settings, &annotations),
        ..parts.container(process, &mut warnings)?
    };
    Ok(Plan {
        terminal: container.process.tty.is_some(),
        container,
        binds: mounts.binds,
        volumes: mounts.volumes,
        root_disk_mib,
        vm,
        source,
        host: HostPlan {
            cgroups_path: cgroups_path(linux, settings)?,
            resources: linux.resources().clone(),
            namespaces: namespaces.host,
            hooks: hooks.host,
        },
        rootfs: bundle.dir.join(rootfs),
        layers: bundle.layers.clone(),
        annotations,
        oci_version: spec.version().clone(),
        warnings,
    })
}

/// Plans a process that joins a container. What it does not say comes from `container`, the first process's attributes.
pub fn plan_process(process: &Process, container: &Attributes) -> Result<Planned<Exec>, PlanError> {
    let mut warnings = Vec::new();
    let value = process::plan(process, "process", container.clone(), &mut warnings)?;
    Ok(Planned { value: Exec { container: true, ..value }, warnings })
}

/// Plans new limits for a container that is there. Rules for devices stay unless new ones are given.
pub fn plan_resources(limits: &LinuxResources) -> Result<Planned<Resources>, PlanError> {
    let mut warnings = Vec::new();
    let mut value = resources::plan(limits, "resources", &mut warnings)?;
    if !value.devices.is_empty() {
        value.devices = device_rules::complete(value.devices);
    }
    Ok(Planned { value, warnings })
}

/// Accepts versions 1.0 to 1.3 of the specification.
fn version(version: &str) -> Result<(), PlanError> {
    const PATH: &str = "ociVersion";
    if version.is_empty() {
        return Err(PlanError::missing(PATH));
    }
    let numbers: Vec<&str> = version.split(['-', '+']).next().unwrap_or_default().split('.').collect();
    let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    if numbers.len() != 3 || !numbers.iter().all(is_number) {
        return Err(PlanError::invalid(PATH, format!("{version:?} is no version")));
    }
    match numbers[..2] {
        ["1", "0" | "1" | "2" | "3"] => Ok(()),
        _ => Err(PlanError::unsupported(PATH, format!("{version:?} is not between 1.0.0 and 1.3"))),
    }
}

/// Refuses what a guest cannot have.
fn refuse(linux: &Linux) -> Result<(), PlanError> {
    if linux.intel_rdt().is_some() {
        return Err(PlanError::unsupported("linux.intelRdt", "the guest's processors have no such control"));
    }
    if linux.memory_policy().is_some() {
        return Err(PlanError::unsupported("linux.memoryPolicy", "the guest has one memory node"));
    }
    if linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty()) {
        return Err(PlanError::unsupported(
            "linux.netDevices",
            "interfaces of the host cannot be moved into the guest",
        ));
    }
    Ok(())
}

/// The parts of a bundle that describe one container.
struct Parts<'a> {
    spec: &'a Spec,
    linux: &'a Linux,
    namespaces: &'a [Namespace],
    settings: &'a PlanSettings,
}

impl Parts<'_> {
    fn process(&self, warnings: &mut Vec<String>) -> Result<Exec, PlanError> {
        let process = self.spec.process().as_ref().ok_or_else(|| PlanError::missing("process"))?;
        let personality = self.linux.personality().as_ref().map(personality).transpose()?;
        let container = Attributes { seccomp: self.seccomp()?, personality, ..Attributes::default() };
        process::plan(process, "process", container, warnings)
    }

    fn seccomp(&self) -> Result<Option<Seccomp>, PlanError> {
        let profile = self.linux.seccomp().as_ref();
        profile.map(|profile| seccomp::compile(profile, "linux.seccomp", self.settings.arch)).transpose()
    }

    /// Everything that depends on `linux` alone.
    fn container(&self, process: Exec, warnings: &mut Vec<String>) -> Result<Container, PlanError> {
        let Self { spec, linux, namespaces, settings } = self;
        let user = namespaces.contains(&Namespace::User);
        let mappings =
            |ids: &Option<Vec<_>>, at: &str| namespaces::mappings(ids.as_deref().unwrap_or_default(), at, user);
        let offsets = linux.time_offsets().clone().unwrap_or_default();
        let mut limits = match linux.resources() {
            Some(limits) => resources::plan(limits, "linux.resources", warnings)?,
            None => Resources::default(),
        };
        limits.devices = device_rules::complete(limits.devices);
        if let Some(label) = linux.mount_label().as_deref().filter(|label| !label.is_empty()) {
            warnings.push(format!("linux.mountLabel: {label:?} is not applied: the guest's kernel has no SELinux"));
        }
        if !namespaces.contains(&Namespace::Network) {
            warnings.push(
                "linux.namespaces: without a network namespace the container has the guest's network, not the host's"
                    .to_owned(),
            );
        }
        Ok(Container {
            id: settings.id.clone(),
            root: Root {
                read_only: spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or_default(),
                propagation: propagation(linux.rootfs_propagation().as_deref())?,
                ..Root::default()
            },
            process,
            hostname: None,
            domainname: None,
            namespaces: namespaces.to_vec(),
            uid_mappings: mappings(linux.uid_mappings(), "linux.uidMappings")?,
            gid_mappings: mappings(linux.gid_mappings(), "linux.gidMappings")?,
            time_offsets: namespaces::time_offsets(
                &offsets,
                "linux.timeOffsets",
                namespaces.contains(&Namespace::Time),
            )?
            .into_iter()
            .collect(),
            mounts: Vec::new(),
            devices: devices::plan(linux.devices().as_deref().unwrap_or_default(), "linux.devices", warnings)?,
            masked_paths: absolute(linux.masked_paths(), "linux.maskedPaths")?,
            readonly_paths: absolute(linux.readonly_paths(), "linux.readonlyPaths")?,
            sysctl: sysctl(linux.sysctl())?,
            resources: limits,
            create_hooks: Vec::new(),
            start_hooks: Vec::new(),
            hook_state: String::new(),
            template: None,
        })
    }

    fn uts_name(&self, field: &str, name: &Option<String>) -> Result<Option<String>, PlanError> {
        let Some(name) = name.as_ref().filter(|name| !name.is_empty()) else { return Ok(None) };
        no_nul(field, name)?;
        if name.len() > NAME_MAX {
            return Err(PlanError::invalid(field, format!("has more than {NAME_MAX} bytes")));
        }
        if !self.namespaces.contains(&Namespace::Uts) {
            return Err(PlanError::invalid(field, "cannot be set without a UTS namespace"));
        }
        Ok(Some(name.clone()))
    }
}

fn personality(personality: &LinuxPersonality) -> Result<u32, PlanError> {
    if personality.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        return Err(PlanError::unsupported("linux.personality.flags", "no flag is offered"));
    }
    Ok(match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => PER_LINUX32,
    })
}

fn propagation(propagation: Option<&str>) -> Result<Option<String>, PlanError> {
    const KNOWN: [&str; 8] =
        ["shared", "slave", "private", "unbindable", "rshared", "rslave", "rprivate", "runbindable"];
    match propagation {
        None | Some("") => Ok(None),
        Some(known) if KNOWN.contains(&known) => Ok(Some(known.to_owned())),
        Some(other) => Err(PlanError::invalid("linux.rootfsPropagation", format!("{other:?} is no propagation"))),
    }
}

fn absolute(paths: &Option<Vec<String>>, at: &str) -> Result<Vec<String>, PlanError> {
    let paths = paths.as_deref().unwrap_or_default();
    for (index, path) in paths.iter().enumerate() {
        let at = format!("{at}[{index}]");
        no_nul(&at, path)?;
        if !path.starts_with('/') {
            return Err(PlanError::invalid(at, format!("{path:?} is not an absolute path")));
        }
    }
    Ok(paths.to_vec())
}

/// Kernel parameters. The kernel is the container's alone, so that more of them can be set than under a shared one.
fn sysctl(parameters: &Option<HashMap<String, String>>) -> Result<BTreeMap<String, String>, PlanError> {
    let mut planned = BTreeMap::new();
    for (name, value) in parameters.iter().flatten() {
        let at = format!("linux.sysctl[{name:?}]");
        let separator = if name.contains('/') { '/' } else { '.' };
        if name.split(separator).any(|part| part.is_empty() || part == "." || part == "..") || name.contains('\0') {
            return Err(PlanError::invalid(at, "is no kernel parameter"));
        }
        no_nul(&at, value)?;
        planned.insert(name.clone(), value.clone());
    }
    Ok(planned)
}

fn cgroups_path(linux: &Linux, settings: &PlanSettings) -> Result<Option<String>, PlanError> {
    let path = linux.cgroups_path().as_ref().map(|path| path.to_string_lossy().into_owned());
    match path.filter(|path| !path.is_empty()) {
        path if settings.systemd_cgroup => {
            cgroup_path::systemd(&path.unwrap_or_default(), &settings.id, settings.rootless).map(Some)
        }
        path => path.as_deref().map(cgroup_path::plain).transpose(),
    }
}

/// The state that hooks in the guest read; the agent sets what changes.
fn hook_state(bundle: &Bundle, settings: &PlanSettings, annotations: &BTreeMap<String, String>) -> String {
    serde_json::json!({
        "ociVersion": bundle.spec.version(),
        "id": settings.id,
        "status": "creating",
        "pid": 0,
        "bundle": bundle.dir.to_string_lossy(),
        "annotations": annotations,
    })
    .to_string()
}

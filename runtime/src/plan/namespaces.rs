//! Namespaces and ids: the guest makes those of the container, the vmm enters those of the host.

use std::collections::HashMap;

use oci_spec::runtime::{LinuxIdMapping, LinuxNamespace, LinuxNamespaceType, LinuxTimeOffset};
use supermachine_agent_protocol::container::{Clock, IdMapping, Namespace, TimeOffset};

use super::process::no_nul;
use super::{HostNamespace, PlanError};

/// Namespaces by where they are made.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Planned {
    pub(super) guest: Vec<Namespace>,
    pub(super) host: Vec<HostNamespace>,
}

fn kind(kind: LinuxNamespaceType) -> Namespace {
    match kind {
        LinuxNamespaceType::Mount => Namespace::Mount,
        LinuxNamespaceType::Cgroup => Namespace::Cgroup,
        LinuxNamespaceType::Uts => Namespace::Uts,
        LinuxNamespaceType::Ipc => Namespace::Ipc,
        LinuxNamespaceType::User => Namespace::User,
        LinuxNamespaceType::Pid => Namespace::Pid,
        LinuxNamespaceType::Network => Namespace::Network,
        LinuxNamespaceType::Time => Namespace::Time,
    }
}

/// Plans the namespaces at `at`.
pub(super) fn plan(namespaces: &[LinuxNamespace], at: &str, warnings: &mut Vec<String>) -> Result<Planned, PlanError> {
    let mut planned = Planned::default();
    for (index, namespace) in namespaces.iter().enumerate() {
        let at = format!("{at}[{index}]");
        let kind = kind(namespace.typ());
        if planned.guest.contains(&kind) {
            return Err(PlanError::invalid(at, format!("{} is given twice", namespace.typ())));
        }
        planned.guest.push(kind);
        let path = namespace.path().clone().filter(|path| !path.as_os_str().is_empty());
        if let Some(path) = &path {
            let text = path.to_string_lossy();
            no_nul(&format!("{at}.path"), &text)?;
            if !path.has_root() {
                return Err(PlanError::invalid(format!("{at}.path"), format!("{text:?} is not an absolute path")));
            }
        }
        match kind {
            Namespace::User | Namespace::Time if path.is_some() => {
                return Err(PlanError::unsupported(
                    format!("{at}.path"),
                    "one of the host cannot be joined from the guest",
                ));
            }
            // Clocks are the guest's own. So are ids: the vmm's user namespace maps none, it is a wall more.
            Namespace::Time => continue,
            Namespace::Pid | Namespace::Ipc | Namespace::Uts if path.is_some() => warnings.push(format!(
                "{at}.path: the vmm joins it; in the guest the container has a new one, shared with no other container"
            )),
            _ => {}
        }
        planned.host.push(HostNamespace { kind, path });
    }
    Ok(planned)
}

/// Plans the mappings of a user namespace. The host's ids are those of the guest's files, so they stay as they are.
pub(super) fn mappings(mappings: &[LinuxIdMapping], at: &str, user: bool) -> Result<Vec<IdMapping>, PlanError> {
    if user && mappings.is_empty() {
        return Err(PlanError::missing(at));
    }
    if !user && !mappings.is_empty() {
        return Err(PlanError::invalid(at, "ids are mapped without a user namespace"));
    }
    let mapped = |(index, mapping): (usize, &LinuxIdMapping)| {
        let planned = IdMapping { container: mapping.container_id(), guest: mapping.host_id(), size: mapping.size() };
        let fits = |first: u32| planned.size > 0 && first.checked_add(planned.size).is_some();
        if fits(planned.container) && fits(planned.guest) {
            Ok(planned)
        } else {
            Err(PlanError::invalid(format!("{at}[{index}]"), "is no range of ids"))
        }
    };
    mappings.iter().enumerate().map(mapped).collect()
}

/// Plans the offsets of a time namespace.
pub(super) fn time_offsets(
    offsets: &HashMap<String, LinuxTimeOffset>,
    at: &str,
    time: bool,
) -> Result<Vec<(Clock, TimeOffset)>, PlanError> {
    if !time && !offsets.is_empty() {
        return Err(PlanError::invalid(at, "clocks are shifted without a time namespace"));
    }
    let planned = offsets.iter().map(|(clock, offset)| {
        let at = format!("{at}.{clock}");
        let clock = match clock.as_str() {
            "monotonic" => Clock::Monotonic,
            "boottime" => Clock::Boottime,
            _ => return Err(PlanError::invalid(at, "only monotonic and boottime can be shifted")),
        };
        let (secs, nanosecs) = (offset.secs().unwrap_or_default(), offset.nanosecs().unwrap_or_default());
        if nanosecs >= 1_000_000_000 {
            return Err(PlanError::invalid(format!("{at}.nanosecs"), "must be below a second"));
        }
        Ok((clock, TimeOffset { secs, nanosecs }))
    });
    planned.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(json: &str) -> Result<(Planned, Vec<String>), PlanError> {
        let namespaces: Vec<LinuxNamespace> = serde_json::from_str(json).expect("namespaces");
        let mut warnings = Vec::new();
        plan(&namespaces, "n", &mut warnings).map(|planned| (planned, warnings))
    }

    #[test]
    fn the_guest_has_all_and_the_host_all_but_time() {
        let (planned, warnings) = planned(
            r#"[{"type":"pid"},{"type":"network","path":"/run/netns/x"},{"type":"user"},{"type":"time","path":""}]"#,
        )
        .expect("namespaces");
        assert_eq!(planned.guest, [Namespace::Pid, Namespace::Network, Namespace::User, Namespace::Time]);
        let network = HostNamespace { kind: Namespace::Network, path: Some("/run/netns/x".into()) };
        let new = |kind| HostNamespace { kind, path: None };
        assert_eq!(planned.host, [new(Namespace::Pid), network, new(Namespace::User)]);
        assert_eq!(warnings, [""; 0]);
    }

    #[test]
    fn ids_that_do_not_fit_are_refused() {
        let mapping = |json: &str| serde_json::from_str::<LinuxIdMapping>(json).expect("a mapping");
        let good = mapping(r#"{"containerID":0,"hostID":1000,"size":2000}"#);
        assert_eq!(mappings(&[good], "m", true), Ok(vec![IdMapping { container: 0, guest: 1000, size: 2000 }]));
        for bad in [r#"{"containerID":0,"hostID":1000,"size":0}"#, r#"{"containerID":0,"hostID":4294967295,"size":2}"#]
        {
            assert_eq!(mappings(&[good, mapping(bad)], "m", true).expect_err(bad).path(), "m[1]");
        }
        assert!(mappings(&[], "m", true).is_err() && mappings(&[good], "m", false).is_err());
    }
}

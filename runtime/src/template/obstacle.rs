//! Why a container cannot be in an image template.
//!
//! What a container shares with the host is mounted when everything else is, on top. Where that would show something
//! else than mounts in their order do, it is an obstacle.

use supermachine_agent_protocol::container::{Container, ContainerMount, MountSource, Namespace, TemplatePoint};
use supermachine_agent_protocol::spec::SHARED_MOUNTS_MAX;

use crate::plan::{Plan, is_within};

/// Places in `/dev` that every container makes for itself once all is mounted.
const OWN_DEVICES: [&str; 9] = [
    "/dev",
    "/dev/console",
    "/dev/core",
    "/dev/fd",
    "/dev/ptmx",
    "/dev/pts",
    "/dev/stderr",
    "/dev/stdin",
    "/dev/stdout",
];
/// The kernel's own file systems: a path in one of them is not in the container's root, whatever links that has.
const OF_KERNEL: [&str; 3] = ["/dev", "/proc", "/sys"];

/// The obstacle of a plan, as the end of a sentence.
pub(super) fn find(plan: &Plan, point: TemplatePoint) -> Option<&'static str> {
    let container = &plan.container;
    let hooks = !container.create_hooks.is_empty() || !container.start_hooks.is_empty();
    let shares = container.mounts.iter().any(is_share);
    let obstacles = [
        (shares && point == TemplatePoint::Listener, "directories or files of the host are mounted in it"),
        (!plan.volumes.is_empty(), "it has volumes"),
        (plan.root_disk_mib.is_some(), "what it writes to its root goes to a disk"),
        (hooks, "it has hooks that run in its machine"),
    ];
    let found = obstacles.into_iter().find_map(|(there, what)| there.then_some(what));
    found.or_else(|| of_shares(container).filter(|_| shares))
}

fn is_share(mount: &ContainerMount) -> bool {
    matches!(mount.source, MountSource::Share { .. })
}

/// Why what it shares cannot be mounted last.
fn of_shares(container: &Container) -> Option<&'static str> {
    let Container { mounts, namespaces, root, .. } = container;
    if mounts.iter().filter(|mount| is_share(mount)).count() > SHARED_MOUNTS_MAX {
        return Some("it has very many directories or files of the host mounted");
    }
    if namespaces.contains(&Namespace::User) {
        return Some("it has directories or files of the host mounted, and a user namespace");
    }
    if root.propagation.as_ref().is_some_and(|name| name.contains("shared") || name.contains("unbindable")) {
        return Some(
            "it has directories or files of the host mounted, and a propagation of its root that is for them too",
        );
    }
    // Paths are compared as text, and a link in the root may make two of them one.
    let hidden = container.masked_paths.iter().chain(&container.readonly_paths);
    let own = mounts.iter().filter(|mount| !is_share(mount)).map(|mount| &mount.destination);
    let in_root = |path: &String| !OF_KERNEL.iter().any(|dir| is_within(path, dir));
    if hidden.chain(own).any(in_root) {
        return Some(
            "it has directories or files of the host mounted, and other things elsewhere than in /dev, /proc and /sys",
        );
    }
    let in_the_way = mounts.iter().enumerate().any(|(place, mount)| {
        is_share(mount) && (is_covered(mount, mounts, place) || is_special(&mount.destination, container))
    });
    in_the_way.then_some("directories or files of the host are mounted where something else is mounted or made later")
}

/// Whether a later mount that is none of the host's meets the one at `place`, or it is in a file system that becomes
/// read-only.
fn is_covered(mount: &ContainerMount, mounts: &[ContainerMount], place: usize) -> bool {
    let meets = |other: &ContainerMount| meet(&other.destination, &mount.destination);
    let becomes_read_only = |other: &ContainerMount| {
        matches!(&other.source, MountSource::Filesystem { fstype, .. } if fstype == "tmpfs")
            && other.flags.iter().any(|flag| flag == "ro")
            && is_within(&mount.destination, &other.destination)
    };
    let others = mounts.iter().enumerate().filter(|(_, other)| !is_share(other));
    others.into_iter().any(|(at, other)| (at > place && meets(other)) || becomes_read_only(other))
}

/// Whether something is made or hidden at the place once all is mounted.
fn is_special(destination: &str, container: &Container) -> bool {
    let hidden = container.masked_paths.iter().chain(&container.readonly_paths);
    let devices = container.devices.iter().map(|device| &device.path);
    hidden.chain(devices).any(|path| meet(path, destination))
        || OWN_DEVICES.iter().any(|path| is_within(path, destination))
}

/// Whether one is below the other.
fn meet(one: &str, other: &str) -> bool {
    is_within(one, other) || is_within(other, one)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn share(destination: &str) -> Value {
        json!({"destination": destination, "source": {"share": {"number": 0}}})
    }

    fn own(fstype: &str, destination: &str, flags: &[&str]) -> Value {
        json!({"destination": destination, "source": {"filesystem": {"fstype": fstype, "source": fstype}}, "flags": flags})
    }

    fn with(mounts: &[Value]) -> Container {
        serde_json::from_value(json!({
            "id": "c", "root": {}, "process": {"argv": ["sh"]}, "mounts": mounts,
            "masked_paths": ["/proc/kcore"], "readonly_paths": ["/proc/sys"],
            "devices": [{"path": "/dev/own", "kind": "fifo", "mode": 0, "uid": 0, "gid": 0}],
        }))
        .expect("a container")
    }

    #[test]
    fn what_is_usual_is_no_obstacle() {
        let own = [own("proc", "/proc", &[]), own("tmpfs", "/dev", &["nosuid"]), own("sysfs", "/sys", &["ro"])];
        let places = ["/etc/hosts", "/etc/resolv.conf", "/dev/shm", "/dev/termination-log", "/data", "/data/more"];
        let mounts: Vec<_> = own.into_iter().chain(places.map(share)).collect();
        assert_eq!(of_shares(&with(&mounts)), None);
    }

    #[test]
    fn what_would_lie_on_top_of_others_is_one() {
        let cases: [&[Value]; 11] = [
            &[share("/data"), own("tmpfs", "/data/cache", &[])],
            // Through a link it may be the same place.
            &[own("tmpfs", "/run", &[]), share("/var/run/x")],
            &[share("/dev/x"), own("tmpfs", "/dev", &[])],
            &[own("tmpfs", "/dev/shm", &["ro"]), share("/dev/shm/x")],
            &[share("/dev/stdout")],
            &[share("/proc/sys/kernel")],
            &[share("/proc")],
            &[share("/proc/kcore")],
            &[share("/dev")],
            &[share("/dev/pts")],
            &[share("/dev/own")],
        ];
        for mounts in cases {
            assert!(of_shares(&with(mounts)).is_some(), "{mounts:?}");
        }
        let mut container = with(&[share("/data")]);
        assert_eq!(of_shares(&container), None);
        container.root.propagation = Some("rshared".into());
        assert!(of_shares(&container).is_some());
        container = Container { namespaces: vec![Namespace::User], ..with(&[share("/data")]) };
        assert!(of_shares(&container).is_some());
        container = with(&vec![share("/data"); SHARED_MOUNTS_MAX + 1]);
        assert!(of_shares(&container).is_some());
    }
}

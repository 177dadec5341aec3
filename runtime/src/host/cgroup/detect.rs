//! Which control group hierarchies this process can see, and where in them it is: pure parsers of `/proc`.

use std::path::{Path, PathBuf};

use crate::host::mountinfo::{self, Mount};

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The group of this process, relative to the mount: empty at its top.
    pub own: PathBuf,
    /// What it controls.
    pub kind: Kind,
}

/// Kinds of hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// cgroup v1 with these controllers; a named one has `name=…` alone.
    V1(Vec<String>),
    /// cgroup v2.
    V2,
}

/// Joins `/proc/self/mountinfo` and `/proc/self/cgroup`.
pub(super) fn hierarchies(mountinfo: &str, self_cgroup: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for mount in mountinfo.lines().filter_map(mountinfo::mount) {
        let Some(kind) = kind(&mount) else { continue };
        let Some(path) = self_cgroup.lines().find_map(|line| path_in(line, &kind)) else { continue };
        // Outside the mounted part this process is nowhere: its top is the best that can be had.
        let own = Path::new(path).strip_prefix(&mount.root).map(Path::to_owned).unwrap_or_default();
        if found.iter().all(|known| known.kind != kind) {
            found.push(Hierarchy { mount: mount.target, own, kind });
        }
    }
    found
}

/// What a mount controls, if it is one of control groups.
fn kind(mount: &Mount<'_>) -> Option<Kind> {
    match mount.kind {
        "cgroup2" => Some(Kind::V2),
        "cgroup" => Some(Kind::V1(controllers(mount.options))),
        _ => None,
    }
}

/// Super block options that are controllers or a name.
fn controllers(options: &str) -> Vec<String> {
    const OTHERS: [&str; 6] = ["rw", "ro", "xattr", "clone_children", "noprefix", "cpuset_v2_mode"];
    let options = options.split(',').filter(|option| !OTHERS.contains(option));
    options.filter(|option| !option.starts_with("release_agent=")).map(str::to_owned).collect()
}

/// The path in a line of `/proc/self/cgroup` (`id:controllers:path`), if it is of this hierarchy.
fn path_in<'a>(line: &'a str, kind: &Kind) -> Option<&'a str> {
    let (_, rest) = line.split_once(':')?;
    let (names, path) = rest.split_once(':')?;
    let same = match kind {
        Kind::V2 => names.is_empty(),
        Kind::V1(controllers) => names.split(',').any(|name| controllers.iter().any(|known| known == name)),
    };
    same.then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/x /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/lib/a,name=systemd
41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw,relatime - cgroup2 cgroup2 rw
";
    const SELF: &str = "9:name=systemd:/\n4:memory:/docker/x/y\n1:cpu,cpuacct:/a/b\n0::/u\n";

    fn v1(names: &[&str]) -> Kind {
        Kind::V1(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn hybrid_hosts_have_each_hierarchy_once() {
        let found = hierarchies(V1, SELF);
        let expected = [
            ("/sys/fs/cgroup/cpu,cpuacct", "/a/b", v1(&["cpu", "cpuacct"])),
            ("/sys/fs/cgroup/memory", "/y", v1(&["memory"])),
            ("/sys/fs/cgroup/systemd", "/", v1(&["name=systemd"])),
            ("/sys/fs/cgroup/uni fied", "/u", Kind::V2),
        ];
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(mount, own, kind)| Hierarchy { mount: mount.into(), own: own.trim_start_matches('/').into(), kind })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn unified_hosts_have_one() {
        let mountinfo = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = hierarchies(mountinfo, "0::/user.slice/session-1.scope\n");
        let own = PathBuf::from("user.slice/session-1.scope");
        assert_eq!(found, [Hierarchy { mount: "/sys/fs/cgroup".into(), own, kind: Kind::V2 }]);
    }

    #[test]
    fn hosts_without_control_groups_have_none() {
        assert_eq!(hierarchies("", ""), []);
        assert_eq!(hierarchies("garbage\n1 2 - cgroup\n", "garbage\n"), []);
        assert_eq!(hierarchies(V1, ""), []);
    }
}

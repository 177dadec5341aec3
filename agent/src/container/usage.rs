//! What a container uses, as the kernel says it.

use std::fs;

use supermachine_agent_protocol::container::Usage;

use super::cgroup::Group;

/// Files of the control group that are told, where they exist.
const FILES: [&str; 34] = [
    "cgroup.stat",
    "cpu.max",
    "cpu.pressure",
    "cpu.stat",
    "cpu.weight",
    "cpuset.cpus.effective",
    "cpuset.mems.effective",
    "io.max",
    "io.pressure",
    "io.stat",
    "io.weight",
    "memory.current",
    "memory.events",
    "memory.events.local",
    "memory.high",
    "memory.low",
    "memory.max",
    "memory.min",
    "memory.numa_stat",
    "memory.peak",
    "memory.pressure",
    "memory.stat",
    "memory.swap.current",
    "memory.swap.events",
    "memory.swap.high",
    "memory.swap.max",
    "memory.swap.peak",
    "memory.zswap.current",
    "memory.zswap.max",
    "pids.current",
    "pids.events",
    "pids.max",
    "pids.peak",
    "hugetlb.2MB.current",
];

/// Reads it all.
pub(super) fn read(group: &Group, init: libc::pid_t) -> Usage {
    let files = FILES.iter().filter_map(|name| Some(((*name).to_owned(), group.read(name)?))).collect();
    let net_dev = fs::read_to_string(format!("/proc/{init}/net/dev")).unwrap_or_default();
    Usage { files, net_dev }
}

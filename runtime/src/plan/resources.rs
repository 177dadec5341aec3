//! Limits: the bundle's, in terms of cgroup v1, to files of cgroup v2 in the guest.
//!
//! What numbers the host's processors or devices (cpusets, throttled devices) means nothing in the guest; it is for the
//! host's control group alone. The conversions are those of runc.

use std::collections::{BTreeMap, HashMap};

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};
use supermachine_agent_protocol::container::Resources;

use super::{PlanError, device_rules};

/// Period of CPU bandwidth that the kernel has without being told, microseconds (`cgroup-v2.rst`, "cpu.max").
const DEFAULT_PERIOD_US: u64 = 100_000;
/// Range of `cpu.shares` in cgroup v1.
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;
/// Highest `cpu.weight`; the lowest is 1.
const WEIGHT_MAX: u64 = 10_000;
/// Range of `blkio.weight` in cgroup v1, with 0 for none.
const BLKIO_WEIGHT: std::ops::RangeInclusive<u16> = 10..=1000;

type Files = BTreeMap<String, String>;

/// Plans the limits at `at`. With `rules`, the rules for devices are complete; without, there are only those given.
pub(super) fn plan(resources: &LinuxResources, at: &str, warnings: &mut Vec<String>) -> Result<Resources, PlanError> {
    let mut files = Files::new();
    if let Some(limits) = resources.memory() {
        memory(limits, &format!("{at}.memory"), &mut files, warnings)?;
    }
    if let Some(limits) = resources.cpu() {
        cpu(limits, &format!("{at}.cpu"), &mut files, warnings)?;
    }
    match resources.pids().map(|pids| pids.limit()) {
        None | Some(0) => {}
        Some(limit) => set(&mut files, "pids.max", max_or(limit)),
    }
    if let Some(limits) = resources.block_io() {
        block_io(limits, &format!("{at}.blockIO"))?;
    }
    host_only(resources, at, warnings)?;
    if let Some(values) = resources.unified() {
        unified(values, &format!("{at}.unified"), &mut files)?;
    }
    let devices = device_rules::given(resources.devices().as_deref().unwrap_or_default(), &format!("{at}.devices"))?;
    Ok(Resources { files, devices })
}

fn set(files: &mut Files, file: &str, value: impl ToString) {
    files.insert(file.to_owned(), value.to_string());
}

/// Text of a limit that is none when it is negative.
fn max_or(limit: i64) -> String {
    if limit < 0 { "max".to_owned() } else { limit.to_string() }
}

/// The limit if one is given; 0 is none given, as for runc.
fn given(limit: Option<i64>) -> Option<i64> {
    limit.filter(|limit| *limit != 0)
}

fn memory(memory: &LinuxMemory, at: &str, files: &mut Files, warnings: &mut Vec<String>) -> Result<(), PlanError> {
    for (field, value) in [("limit", memory.limit()), ("reservation", memory.reservation()), ("swap", memory.swap())] {
        if value.is_some_and(|value| value < -1) {
            return Err(PlanError::invalid(format!("{at}.{field}"), "must be -1 (no limit) or more"));
        }
    }
    if memory.swappiness().is_some_and(|swappiness| swappiness > 100) {
        return Err(PlanError::invalid(format!("{at}.swappiness"), "must be at most 100"));
    }
    if let Some(limit) = given(memory.limit()) {
        set(files, "memory.max", max_or(limit));
    }
    if let Some(reservation) = given(memory.reservation()) {
        set(files, "memory.low", max_or(reservation));
    }
    if let Some(swap) = swap(memory, at)? {
        set(files, "memory.swap.max", max_or(swap));
    }
    let v1 = [
        ("kernel", given(memory.kernel()).is_some()),
        ("kernelTCP", given(memory.kernel_tcp()).is_some()),
        ("swappiness", memory.swappiness().is_some()),
        ("disableOOMKiller", memory.disable_oom_killer().unwrap_or_default()),
    ];
    for (field, _) in v1.iter().filter(|(_, given)| *given) {
        warnings.push(format!("{at}.{field}: cgroup v2, which the guest has, knows no such limit"));
    }
    Ok(())
}

/// Limit of swap alone from that of memory and swap together.
fn swap(memory: &LinuxMemory, at: &str) -> Result<Option<i64>, PlanError> {
    let path = || format!("{at}.swap");
    match (memory.limit().unwrap_or_default(), memory.swap().unwrap_or_default()) {
        (-1, 0) => Ok(Some(-1)),
        (_, 0) => Ok(None),
        (_, -1) => Ok(Some(-1)),
        (0 | -1, _) => Err(PlanError::invalid(path(), "cannot be limited without limiting memory")),
        (limit, swap) => match swap.checked_sub(limit) {
            Some(swap) if swap >= 0 => Ok(Some(swap)),
            _ => Err(PlanError::invalid(
                path(),
                "is of memory and swap together: it cannot be below the limit of memory",
            )),
        },
    }
}

fn cpu(cpu: &LinuxCpu, at: &str, files: &mut Files, warnings: &mut Vec<String>) -> Result<(), PlanError> {
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        set(files, "cpu.weight", weight_of_shares(shares));
    }
    match cpu.idle() {
        None => {}
        Some(idle @ (0 | 1)) => set(files, "cpu.idle", idle),
        Some(_) => return Err(PlanError::invalid(format!("{at}.idle"), "must be 0 or 1")),
    }
    let quota = given(cpu.quota());
    let period = cpu.period().filter(|period| *period != 0);
    if quota.is_some() || period.is_some() {
        let quota = quota.filter(|quota| *quota > 0).map_or("max".to_owned(), |quota| quota.to_string());
        set(files, "cpu.max", format!("{quota} {}", period.unwrap_or(DEFAULT_PERIOD_US)));
    }
    if let Some(burst) = cpu.burst() {
        set(files, "cpu.max.burst", burst);
    }
    for (field, list) in [("cpus", cpu.cpus()), ("mems", cpu.mems())] {
        cpu_list(list.as_deref().unwrap_or_default(), &format!("{at}.{field}"))?;
    }
    if given(cpu.realtime_runtime()).is_some() || cpu.realtime_period().is_some_and(|period| period != 0) {
        warnings.push(format!("{at}.realtimeRuntime: cgroup v2, which the guest has, knows no such limit"));
    }
    Ok(())
}

/// `cpu.weight` for `cpu.shares`: the range of one spread over that of the other.
fn weight_of_shares(shares: u64) -> u64 {
    let above = shares.clamp(*SHARES.start(), *SHARES.end()) - SHARES.start();
    1 + above * (WEIGHT_MAX - 1) / (SHARES.end() - SHARES.start())
}

/// A list such as `0-3,7`: the host's numbers, checked only in form.
fn cpu_list(list: &str, at: &str) -> Result<(), PlanError> {
    let number = |text: &str| text.trim().parse::<u32>().ok();
    let valid = list.trim().is_empty()
        || list.split(',').all(|range| match range.split_once('-') {
            Some((first, last)) => number(first).zip(number(last)).is_some_and(|(first, last)| first <= last),
            None => number(range).is_some(),
        });
    if valid { Ok(()) } else { Err(PlanError::invalid(at, format!("{list:?} is no list such as 0-3,7"))) }
}

/// Checks limits of block devices. They are the host's: the guest's only disk holds its root file system.
fn block_io(limits: &LinuxBlockIo, at: &str) -> Result<(), PlanError> {
    let in_range = |weight: Option<u16>| weight.is_none_or(|weight| weight == 0 || BLKIO_WEIGHT.contains(&weight));
    let out_of_range = |path| Err(PlanError::invalid(path, "must be 0 or between 10 and 1000"));
    if !in_range(limits.weight()) {
        return out_of_range(format!("{at}.weight"));
    }
    if !in_range(limits.leaf_weight()) {
        return out_of_range(format!("{at}.leafWeight"));
    }
    for (index, device) in limits.weight_device().iter().flatten().enumerate() {
        let path = format!("{at}.weightDevice[{index}]");
        device_number(device.major(), device.minor(), &path)?;
        if !in_range(device.weight()) || !in_range(device.leaf_weight()) {
            return out_of_range(path);
        }
    }
    let throttled = [
        ("throttleReadBpsDevice", limits.throttle_read_bps_device()),
        ("throttleWriteBpsDevice", limits.throttle_write_bps_device()),
        ("throttleReadIOPSDevice", limits.throttle_read_iops_device()),
        ("throttleWriteIOPSDevice", limits.throttle_write_iops_device()),
    ];
    for (field, devices) in throttled {
        for (index, device) in devices.iter().flatten().enumerate() {
            device_number(device.major(), device.minor(), &format!("{at}.{field}[{index}]"))?;
        }
    }
    Ok(())
}

fn device_number(major: i64, minor: i64, at: &str) -> Result<(), PlanError> {
    let fits = |number| u32::try_from(number).is_ok();
    if fits(major) && fits(minor) {
        Ok(())
    } else {
        Err(PlanError::invalid(at, format!("{major}:{minor} is no device number")))
    }
}

/// Checks what only the host's control group can limit, and refuses what neither can.
fn host_only(resources: &LinuxResources, at: &str, warnings: &mut Vec<String>) -> Result<(), PlanError> {
    for (index, limit) in resources.hugepage_limits().iter().flatten().enumerate() {
        let path = format!("{at}.hugepageLimits[{index}]");
        if !is_page_size(limit.page_size()) {
            let reason = format!("{:?} is no size such as 2MB or 1GB", limit.page_size());
            return Err(PlanError::invalid(format!("{path}.pageSize"), reason));
        }
        if limit.limit() < 0 {
            return Err(PlanError::invalid(format!("{path}.limit"), "must not be negative"));
        }
        warnings.push(format!("{path}: the guest has no huge pages of fixed size; the limit is set on the host alone"));
    }
    if resources.rdma().as_ref().is_some_and(|rdma| !rdma.is_empty()) {
        warnings.push(format!("{at}.rdma: the guest has no such devices; the limit has no effect"));
    }
    for (index, priority) in
        resources.network().iter().flat_map(|network| network.priorities().iter().flatten()).enumerate()
    {
        if priority.name().is_empty() || priority.name().contains(['/', '\0', ' ', '\n']) {
            let path = format!("{at}.network.priorities[{index}].name");
            return Err(PlanError::invalid(path, format!("{:?} is no name of an interface", priority.name())));
        }
    }
    Ok(())
}

fn is_page_size(size: &str) -> bool {
    let number = ["KB", "MB", "GB"].iter().find_map(|unit| size.strip_suffix(unit));
    number.is_some_and(|number| number.parse::<u32>().is_ok_and(u32::is_power_of_two))
}

/// Files of cgroup v2 by name, which win over all other limits.
fn unified(values: &HashMap<String, String>, at: &str, files: &mut Files) -> Result<(), PlanError> {
    for (file, value) in values {
        let path = || format!("{at}[{file:?}]");
        if file.contains('/') || file.contains('\0') {
            return Err(PlanError::invalid(path(), "is no name of a file"));
        }
        if value.contains('\0') {
            return Err(PlanError::invalid(path(), "has a NUL byte"));
        }
        match file.split_once('.') {
            Some(("memory" | "cpu" | "pids", _)) | Some(("cgroup", "max.depth" | "max.descendants")) => {
                set(files, file, value);
            }
            // They number what the host has, and are set there alone.
            Some(("cpuset" | "io" | "hugetlb" | "rdma" | "misc", _)) => {}
            _ => return Err(PlanError::unsupported(path(), "is no limit of a controller")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

//! Limits as files of a host's control group: what the container asked for, with room for its virtual machine.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxResources};

/// Memory of the vmm itself in bytes, on top of the guest's RAM: its code, heap, device buffers, and the soft CPU's
/// decoded blocks. Measured: 20 to 60 MiB while a busy Debian guest runs on soft.
pub const VMM_MEMORY: u64 = 96 << 20;
/// Threads that a vmm may have: one a vCPU and client, and a few of its own.
pub const VMM_TASKS: i64 = 64;

/// A container's limits, and the size of the machine that they are to hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits<'a> {
    /// What the configuration says.
    pub resources: &'a LinuxResources,
    /// The same in files of cgroup v2.
    pub unified: &'a BTreeMap<String, String>,
    /// RAM of the guest in bytes.
    pub guest_ram: u64,
}

/// One file and what is written into it. A missing file, or one that does not take it, is an error unless optional.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Name of the file.
    pub file: String,
    /// Text to write.
    pub value: String,
}

fn setting(file: impl Into<String>, value: impl ToString) -> Setting {
    Setting { file: file.into(), value: value.to_string() }
}

impl Limits<'_> {
    /// Files of the v1 hierarchy of `controller`.
    pub fn v1(&self, controller: &str) -> Vec<Setting> {
        let of = self.resources;
        match controller {
            "cpu" => of.cpu().as_ref().map(cpu).unwrap_or_default(),
            "cpuset" => of.cpu().as_ref().map(cpuset).unwrap_or_default(),
            "memory" => of.memory().as_ref().map(|memory| self.memory(memory)).unwrap_or_default(),
            "pids" => of.pids().as_ref().map(|pids| vec![setting("pids.max", tasks(pids.limit()))]).unwrap_or_default(),
            "blkio" => of.block_io().as_ref().map(block_io).unwrap_or_default(),
            "devices" => of.devices().as_deref().map(devices).unwrap_or_default(),
            "hugetlb" => {
                let limits = of.hugepage_limits().iter().flatten();
                limits.map(|l| setting(format!("hugetlb.{}.limit_in_bytes", l.page_size()), l.limit())).collect()
            }
            "net_cls" => {
                let class = of.network().as_ref().and_then(|network| network.class_id());
                class.map(|class| setting("net_cls.classid", class)).into_iter().collect()
            }
            "net_prio" => {
                let priorities = of.network().iter().filter_map(|network| network.priorities().as_ref()).flatten();
                priorities.map(|p| setting("net_prio.ifpriomap", format!("{} {}", p.name(), p.priority()))).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Files of the unified hierarchy.
    pub fn v2(&self) -> Vec<Setting> {
        let room = self.guest_ram.saturating_add(VMM_MEMORY);
        let with_room = |file: &str, value: &str| match (file, value.parse::<u64>()) {
            ("memory.max" | "memory.high", Ok(limit)) => limit.max(room).to_string(),
            ("pids.max", Ok(limit)) => limit.max(VMM_TASKS.unsigned_abs()).to_string(),
            _ => value.to_owned(),
        };
        // Files with a line for each device take one at a time.
        let lines = self.unified.iter().flat_map(|(file, value)| value.lines().map(move |line| (file, line)));
        lines.map(|(file, value)| setting(file.as_str(), with_room(file, value))).collect()
    }

    /// A limit in bytes, raised to what the machine needs; -1 is none.
    fn with_machine(&self, limit: i64) -> i64 {
        let room = i64::try_from(self.guest_ram.saturating_add(VMM_MEMORY)).unwrap_or(i64::MAX);
        if limit < 0 { -1 } else { limit.max(room) }
    }

    fn memory(&self, memory: &LinuxMemory) -> Vec<Setting> {
        let limit = memory.limit().filter(|limit| *limit != 0).map(|limit| self.with_machine(limit));
        let swap = memory.swap().filter(|swap| *swap != 0).map(|swap| self.with_machine(swap));
        let mut settings = Vec::new();
        settings.extend(limit.map(|limit| setting("memory.limit_in_bytes", limit)));
        settings.extend(swap.map(|swap| setting("memory.memsw.limit_in_bytes", swap)));
        settings.extend(memory.reservation().map(|soft| setting("memory.soft_limit_in_bytes", soft)));
        settings.extend(memory.kernel_tcp().map(|tcp| setting("memory.kmem.tcp.limit_in_bytes", tcp)));
        settings.extend(memory.swappiness().map(|swappiness| setting("memory.swappiness", swappiness)));
        if memory.disable_oom_killer() == Some(true) {
            settings.push(setting("memory.oom_control", 1));
        }
        settings
    }
}

/// The container's own limit on tasks is kept in the guest.
fn tasks(limit: i64) -> String {
    if limit <= 0 { "max".to_owned() } else { limit.max(VMM_TASKS).to_string() }
}

fn cpu(cpu: &LinuxCpu) -> Vec<Setting> {
    let mut settings = Vec::new();
    settings.extend(cpu.shares().filter(|shares| *shares != 0).map(|shares| setting("cpu.shares", shares)));
    settings.extend(cpu.idle().map(|idle| setting("cpu.idle", idle)));
    settings.extend(cpu.period().filter(|period| *period != 0).map(|period| setting("cpu.cfs_period_us", period)));
    settings.extend(cpu.quota().filter(|quota| *quota != 0).map(|quota| setting("cpu.cfs_quota_us", quota)));
    settings.extend(cpu.realtime_period().filter(|us| *us != 0).map(|us| setting("cpu.rt_period_us", us)));
    settings.extend(cpu.realtime_runtime().filter(|us| *us != 0).map(|us| setting("cpu.rt_runtime_us", us)));
    settings
}

fn cpuset(cpu: &LinuxCpu) -> Vec<Setting> {
    let set = |file, list: &Option<String>| list.as_ref().filter(|l| !l.is_empty()).map(|l| setting(file, l));
    set("cpuset.cpus", cpu.cpus()).into_iter().chain(set("cpuset.mems", cpu.mems())).collect()
}

fn block_io(io: &LinuxBlockIo) -> Vec<Setting> {
    let mut settings = Vec::new();
    settings.extend(io.weight().filter(|weight| *weight != 0).map(|weight| setting("blkio.weight", weight)));
    settings.extend(io.leaf_weight().filter(|weight| *weight != 0).map(|w| setting("blkio.leaf_weight", w)));
    for device in io.weight_device().iter().flatten() {
        let at = format!("{}:{}", device.major(), device.minor());
        settings.extend(device.weight().map(|w| setting("blkio.weight_device", format!("{at} {w}"))));
        settings.extend(device.leaf_weight().map(|w| setting("blkio.leaf_weight_device", format!("{at} {w}"))));
    }
    for (file, throttles) in [
        ("blkio.throttle.read_bps_device", io.throttle_read_bps_device()),
        ("blkio.throttle.write_bps_device", io.throttle_write_bps_device()),
        ("blkio.throttle.read_iops_device", io.throttle_read_iops_device()),
        ("blkio.throttle.write_iops_device", io.throttle_write_iops_device()),
    ] {
        let line = |major: i64, minor: i64, rate: u64| setting(file, format!("{major}:{minor} {rate}"));
        settings.extend(throttles.iter().flatten().map(|t| line(t.major(), t.minor(), t.rate())));
    }
    settings
}

/// The rules in their order, the configuration's alone: the vmm has its devices open by the time they are set.
fn devices(rules: &[LinuxDeviceCgroup]) -> Vec<Setting> {
    rules.iter().flat_map(device_rule).collect()
}

fn device_rule(rule: &LinuxDeviceCgroup) -> Vec<Setting> {
    let file = if rule.allow() { "devices.allow" } else { "devices.deny" };
    let number = |number: Option<i64>| number.filter(|n| *n >= 0).map_or_else(|| "*".to_owned(), |n| n.to_string());
    let (major, minor) = (number(rule.major()), number(rule.minor()));
    let access = rule.access().as_deref().filter(|access| !access.is_empty()).unwrap_or("rwm");
    let letters: &[&str] = match rule.typ().unwrap_or_default() {
        // The kernel takes `a` for everything only, whatever follows it.
        LinuxDeviceType::A if major == "*" && minor == "*" => &["a"],
        LinuxDeviceType::A => &["b", "c"],
        LinuxDeviceType::B => &["b"],
        LinuxDeviceType::C | LinuxDeviceType::U => &["c"],
        LinuxDeviceType::P => &[],
    };
    letters.iter().map(|letter| setting(file, format!("{letter} {major}:{minor} {access}"))).collect()
}

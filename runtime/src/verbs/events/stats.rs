//! runc's form of statistics, from the files of the guest's control group (Linux, Documentation/admin-guide/cgroup-v2.rst).

use std::collections::BTreeMap;

use serde::Serialize;
use supermachine_agent_protocol::container::Usage;

/// What a container uses. Fields that are zero are left out where runc leaves them out.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Stats {
    cpu: Cpu,
    cpuset: CpuSet,
    memory: Memory,
    pids: Pids,
    blkio: Blkio,
    hugetlb: Empty,
    intel_rdt: Empty,
    network_interfaces: Option<Vec<Interface>>,
}

/// What a virtual machine has none of.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Empty {}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Cpu {
    usage: CpuUsage,
    throttling: Throttling,
}

/// Nanoseconds.
#[derive(Debug, Default, PartialEq, Serialize)]
struct CpuUsage {
    total: u64,
    kernel: u64,
    user: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Throttling {
    #[serde(skip_serializing_if = "is_zero")]
    periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    throttled_periods: u64,
    /// Nanoseconds.
    #[serde(skip_serializing_if = "is_zero")]
    throttled_time: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct CpuSet {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cpus: Vec<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mems: Vec<u16>,
}

/// Bytes.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Memory {
    #[serde(skip_serializing_if = "is_zero")]
    cache: u64,
    usage: MemoryEntry,
    swap: MemoryEntry,
    kernel: MemoryEntry,
    #[serde(rename = "kernelTCP")]
    kernel_tcp: MemoryEntry,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    raw: BTreeMap<String, u64>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct MemoryEntry {
    limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max: u64,
    failcnt: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Pids {
    #[serde(skip_serializing_if = "is_zero")]
    current: u64,
    #[serde(skip_serializing_if = "is_zero")]
    limit: u64,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Blkio {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_service_bytes_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_serviced_recursive: Vec<BlkioEntry>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct BlkioEntry {
    major: u64,
    minor: u64,
    op: &'static str,
    value: u64,
}

/// runc has no names of its own for these in JSON.
#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Interface {
    name: String,
    rx_bytes: u64,
    rx_packets: u64,
    rx_errors: u64,
    rx_dropped: u64,
    tx_bytes: u64,
    tx_packets: u64,
    tx_errors: u64,
    tx_dropped: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How often the guest's kernel has killed in the container because memory ran out.
pub(super) fn oom_kills(usage: &Usage) -> u64 {
    table(usage, "memory.events").get("oom_kill").copied().unwrap_or(0)
}

impl From<&Usage> for Stats {
    fn from(usage: &Usage) -> Self {
        let interfaces = interfaces(&usage.net_dev);
        Self {
            cpu: cpu(usage),
            cpuset: CpuSet {
                cpus: ranges(text(usage, "cpuset.cpus.effective")),
                mems: ranges(text(usage, "cpuset.mems.effective")),
            },
            memory: memory(usage),
            pids: Pids { current: number(usage, "pids.current"), limit: limit(usage, "pids.max").unwrap_or(0) },
            blkio: blkio(text(usage, "io.stat")),
            network_interfaces: (!interfaces.is_empty()).then_some(interfaces),
            ..Self::default()
        }
    }
}

fn text<'a>(usage: &'a Usage, file: &str) -> &'a str {
    usage.files.get(file).map_or("", |text| text.trim())
}

fn number(usage: &Usage, file: &str) -> u64 {
    text(usage, file).parse().unwrap_or(0)
}

/// A limit; `None` for `max`.
fn limit(usage: &Usage, file: &str) -> Option<u64> {
    text(usage, file).parse().ok()
}

/// A file of lines with a name and a number.
fn table(usage: &Usage, file: &str) -> BTreeMap<String, u64> {
    let pairs = text(usage, file).lines().filter_map(|line| line.split_once(' '));
    pairs.filter_map(|(name, value)| Some((name.to_owned(), value.trim().parse().ok()?))).collect()
}

fn cpu(usage: &Usage) -> Cpu {
    let stat = table(usage, "cpu.stat");
    let of = |name: &str| stat.get(name).copied().unwrap_or(0);
    let nanoseconds = |name: &str| of(name).saturating_mul(1_000);
    Cpu {
        usage: CpuUsage {
            total: nanoseconds("usage_usec"),
            kernel: nanoseconds("system_usec"),
            user: nanoseconds("user_usec"),
        },
        throttling: Throttling {
            periods: of("nr_periods"),
            throttled_periods: of("nr_throttled"),
            throttled_time: nanoseconds("throttled_usec"),
        },
    }
}

fn memory(usage: &Usage) -> Memory {
    let raw = table(usage, "memory.stat");
    let events = table(usage, "memory.events");
    let swap_events = table(usage, "memory.swap.events");
    let of = |table: &BTreeMap<String, u64>, name: &str| table.get(name).copied().unwrap_or(0);
    let current = number(usage, "memory.current");
    let (max, swap_max) = (limit(usage, "memory.max"), limit(usage, "memory.swap.max"));
    Memory {
        cache: of(&raw, "file"),
        usage: MemoryEntry {
            limit: max.unwrap_or(u64::MAX),
            usage: current,
            max: number(usage, "memory.peak"),
            failcnt: of(&events, "max"),
        },
        // Of memory and swap together, as in cgroup v1.
        swap: MemoryEntry {
            limit: max.zip(swap_max).and_then(|(max, swap)| max.checked_add(swap)).unwrap_or(u64::MAX),
            usage: current.saturating_add(number(usage, "memory.swap.current")),
            max: number(usage, "memory.swap.peak"),
            failcnt: of(&swap_events, "max"),
        },
        kernel: MemoryEntry { usage: of(&raw, "kernel"), ..MemoryEntry::default() },
        kernel_tcp: MemoryEntry { usage: of(&raw, "sock"), ..MemoryEntry::default() },
        raw,
    }
}

/// Lines such as `254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`.
fn blkio(stat: &str) -> Blkio {
    let mut blkio = Blkio::default();
    for line in stat.lines() {
        let mut words = line.split_whitespace();
        let device = words.next().and_then(|device| device.split_once(':'));
        let Some((Ok(major), Ok(minor))) = device.map(|(major, minor)| (major.parse(), minor.parse())) else {
            continue;
        };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let value = value.parse().unwrap_or(0);
            let (list, op) = match name {
                "rbytes" => (&mut blkio.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut blkio.io_service_bytes_recursive, "Write"),
                "dbytes" => (&mut blkio.io_service_bytes_recursive, "Discard"),
                "rios" => (&mut blkio.io_serviced_recursive, "Read"),
                "wios" => (&mut blkio.io_serviced_recursive, "Write"),
                "dios" => (&mut blkio.io_serviced_recursive, "Discard"),
                _ => continue,
            };
            list.push(BlkioEntry { major, minor, op, value });
        }
    }
    blkio
}

/// Numbers such as `0-2,5`.
fn ranges(text: &str) -> Vec<u16> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u16>().ok()?..=last.parse().ok()?)
    };
    parts.filter_map(range).flatten().collect()
}

/// The table of `/proc/net/dev`, without the loopback, which runc leaves out as well.
fn interfaces(net_dev: &str) -> Vec<Interface> {
    let rows = net_dev.lines().filter_map(|line| line.split_once(':'));
    let rows = rows.map(|(name, numbers)| {
        let numbers: Vec<u64> = numbers.split_whitespace().map(|number| number.parse().unwrap_or(0)).collect();
        let of = |column: usize| numbers.get(column).copied().unwrap_or(0);
        Interface {
            name: name.trim().to_owned(),
            rx_bytes: of(0),
            rx_packets: of(1),
            rx_errors: of(2),
            rx_dropped: of(3),
            tx_bytes: of(8),
            tx_packets: of(9),
            tx_errors: of(10),
            tx_dropped: of(11),
        }
    });
    rows.filter(|interface| interface.name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn usage(files: &[(&str, &str)]) -> Usage {
        let files = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let net_dev = "Inter-|   Receive\n face |bytes\n    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n";
        Usage { files, net_dev: net_dev.to_owned() }
    }

    #[test]
    fn files_of_the_control_group_become_runc_s_fields() {
        let usage = usage(&[
            (
                "cpu.stat",
                "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 2\nthrottled_usec 7\n",
            ),
            ("memory.current", "4096\n"),
            ("memory.max", "67108864\n"),
            ("memory.swap.max", "0\n"),
            ("memory.peak", "8192\n"),
            ("memory.stat", "anon 100\nfile 200\nkernel 300\nsock 0\n"),
            ("memory.events", "low 0\nhigh 0\nmax 5\noom 1\noom_kill 1\n"),
            ("pids.current", "3\n"),
            ("pids.max", "max\n"),
            ("io.stat", "254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n"),
            ("cpuset.cpus.effective", "0-1,3\n"),
        ]);
        let json = serde_json::to_value(Stats::from(&usage)).expect("JSON");
        assert_eq!(json["cpu"]["usage"], json!({"total": 30_000, "kernel": 10_000, "user": 20_000}));
        assert_eq!(json["cpu"]["throttling"], json!({"periods": 4, "throttledPeriods": 2, "throttledTime": 7_000}));
        assert_eq!(json["memory"]["usage"], json!({"limit": 67_108_864, "usage": 4096, "max": 8192, "failcnt": 5}));
        assert_eq!(json["memory"]["swap"], json!({"limit": 67_108_864, "usage": 4096, "failcnt": 0}));
        assert_eq!((&json["memory"]["cache"], &json["memory"]["raw"]["anon"]), (&json!(200), &json!(100)));
        assert_eq!((&json["pids"], &json["cpuset"]["cpus"]), (&json!({"current": 3}), &json!([0, 1, 3])));
        let bytes = &json["blkio"]["ioServiceBytesRecursive"];
        assert_eq!(bytes[1], json!({"major": 254, "minor": 0, "op": "Write", "value": 2}));
        assert_eq!(json["network_interfaces"][0]["Name"], "eth0");
        assert_eq!(json["network_interfaces"][0]["TxDropped"], 8);
        assert_eq!(oom_kills(&usage), 1);
    }

    #[test]
    fn without_files_there_are_no_limits() {
        let json = serde_json::to_value(Stats::from(&Usage::default())).expect("JSON");
        assert_eq!(json["memory"]["usage"], json!({"limit": u64::MAX, "failcnt": 0}));
        assert_eq!(json["network_interfaces"], serde_json::Value::Null);
    }
}

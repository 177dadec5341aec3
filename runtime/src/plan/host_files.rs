//! Limits as files of cgroup v2 on the host: those of the guest, and those that only the host's devices and processors have.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxBlockIo, LinuxResources, LinuxThrottleDevice};

use super::{PlanError, plan_resources};

/// Files and what is written into them. Of several lines each is a write of its own.
pub fn host_files(resources: &LinuxResources) -> Result<BTreeMap<String, String>, PlanError> {
    let mut files = plan_resources(resources)?.value.files;
    let mut set = |file: &str, value: String| {
        if !value.is_empty() {
            files.insert(file.to_owned(), value);
        }
    };
    if let Some(cpu) = resources.cpu() {
        set("cpuset.cpus", cpu.cpus().clone().unwrap_or_default());
        set("cpuset.mems", cpu.mems().clone().unwrap_or_default());
    }
    if let Some(limits) = resources.block_io() {
        block_io(limits, &mut set);
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        set(&format!("hugetlb.{}.max", limit.page_size()), limit.limit().to_string());
    }
    let rdma = resources.rdma().iter().flatten().map(|(device, limits)| {
        let part = |key: &str, value: Option<u32>| value.map(|value| format!(" {key}={value}")).unwrap_or_default();
        format!("{device}{}{}", part("hca_handle", limits.hca_handles()), part("hca_object", limits.hca_objects()))
    });
    set("rdma.max", rdma.collect::<Vec<_>>().join("\n"));
    for (file, value) in resources.unified().iter().flatten() {
        set(file, value.clone());
    }
    Ok(files)
}

fn block_io(limits: &LinuxBlockIo, set: &mut impl FnMut(&str, String)) {
    let weights = limits.weight_device().iter().flatten().filter_map(|device| {
        let weight = device.weight().filter(|weight| *weight != 0)?;
        Some(format!("{}:{} {}", device.major(), device.minor(), io_weight(weight)))
    });
    let all = limits.weight().filter(|weight| *weight != 0).map(|weight| format!("default {}", io_weight(weight)));
    set("io.weight", all.into_iter().chain(weights).collect::<Vec<_>>().join("\n"));
    let throttled = [
        ("rbps", limits.throttle_read_bps_device()),
        ("wbps", limits.throttle_write_bps_device()),
        ("riops", limits.throttle_read_iops_device()),
        ("wiops", limits.throttle_write_iops_device()),
    ];
    let line = |key: &str, device: &LinuxThrottleDevice| {
        // 0 takes a limit away.
        let rate = if device.rate() == 0 { "max".to_owned() } else { device.rate().to_string() };
        format!("{}:{} {key}={rate}", device.major(), device.minor())
    };
    let lines =
        throttled.iter().flat_map(|(key, devices)| devices.iter().flatten().map(move |device| line(key, device)));
    set("io.max", lines.collect::<Vec<_>>().join("\n"));
}

/// `io.weight` (1 to 10000) for `blkio.weight` (10 to 1000): the range of one spread over that of the other.
fn io_weight(weight: u16) -> u32 {
    1 + u32::from(weight.saturating_sub(10)) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_numbers_the_hosts_own_is_there_as_well() {
        let cases = [
            (r#"{"cpu":{"cpus":"0-1","mems":"0","shares":1024}}"#, "cpu.weight=39|cpuset.cpus=0-1|cpuset.mems=0"),
            (
                r#"{"blockIO":{"weight":10,"weightDevice":[{"major":8,"minor":0,"weight":1000}]}}"#,
                "io.weight=default 1\n8:0 10000",
            ),
            (
                r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":5}],
                    "throttleWriteIOPSDevice":[{"major":8,"minor":16,"rate":0}]}}"#,
                "io.max=8:0 rbps=5\n8:16 wiops=max",
            ),
            (r#"{"hugepageLimits":[{"pageSize":"2MB","limit":7}]}"#, "hugetlb.2MB.max=7"),
            (r#"{"rdma":{"mlx5_1":{"hcaHandles":3,"hcaObjects":4}}}"#, "rdma.max=mlx5_1 hca_handle=3 hca_object=4"),
            (r#"{"pids":{"limit":5},"unified":{"io.max":"x","pids.max":"9"}}"#, "io.max=x|pids.max=9"),
        ];
        for (json, expected) in cases {
            let resources: LinuxResources = serde_json::from_str(json).expect(json);
            let files = host_files(&resources).expect(json);
            let files: Vec<String> = files.iter().map(|(file, value)| format!("{file}={value}")).collect();
            assert_eq!(files.join("|"), expected, "{json}");
        }
    }
}

//! Tests of the conversion of limits.

use super::*;

fn planned(json: &str) -> Result<(Resources, Vec<String>), PlanError> {
    let limits: LinuxResources = serde_json::from_str(json).expect("resources");
    let mut warnings = Vec::new();
    plan(&limits, "r", &mut warnings).map(|planned| (planned, warnings))
}

#[test]
fn limits_become_files() {
    let cases = [
        ("{}", ""),
        (r#"{"memory":{"limit":1048576}}"#, "memory.max=1048576"),
        (r#"{"memory":{"limit":-1}}"#, "memory.max=max memory.swap.max=max"),
        (r#"{"memory":{"limit":0,"swap":0,"reservation":0}}"#, ""),
        (r#"{"memory":{"limit":1000,"swap":3000}}"#, "memory.max=1000 memory.swap.max=2000"),
        (r#"{"memory":{"limit":1000,"swap":1000}}"#, "memory.max=1000 memory.swap.max=0"),
        (r#"{"memory":{"limit":1000,"swap":-1}}"#, "memory.max=1000 memory.swap.max=max"),
        (r#"{"memory":{"reservation":77}}"#, "memory.low=77"),
        (r#"{"cpu":{"shares":2}}"#, "cpu.weight=1"),
        (r#"{"cpu":{"shares":1}}"#, "cpu.weight=1"),
        (r#"{"cpu":{"shares":1024}}"#, "cpu.weight=39"),
        (r#"{"cpu":{"shares":262144}}"#, "cpu.weight=10000"),
        (r#"{"cpu":{"shares":18446744073709551615}}"#, "cpu.weight=10000"),
        (r#"{"cpu":{"shares":0}}"#, ""),
        (r#"{"cpu":{"quota":50000}}"#, "cpu.max=50000 100000"),
        (r#"{"cpu":{"quota":50000,"period":500000}}"#, "cpu.max=50000 500000"),
        (r#"{"cpu":{"quota":-1,"period":250000}}"#, "cpu.max=max 250000"),
        (r#"{"cpu":{"quota":0,"period":0}}"#, ""),
        (r#"{"cpu":{"quota":9,"burst":5,"idle":1}}"#, "cpu.idle=1 cpu.max=9 100000 cpu.max.burst=5"),
        (r#"{"cpu":{"cpus":"0-3,7","mems":"0"}}"#, ""),
        (r#"{"pids":{"limit":1000}}"#, "pids.max=1000"),
        (r#"{"pids":{"limit":-1}}"#, "pids.max=max"),
        (r#"{"pids":{"limit":0}}"#, ""),
        (r#"{"blockIO":{"weight":500,"weightDevice":[{"major":8,"minor":0,"weight":10}]}}"#, ""),
        (
            r#"{"pids":{"limit":7},"unified":{"pids.max":"8","io.max":"8:0 rbps=1","memory.high":"5"}}"#,
            "memory.high=5 pids.max=8",
        ),
    ];
    for (json, files) in cases {
        let (resources, _) = planned(json).expect(json);
        let written: Vec<String> = resources.files.iter().map(|(file, value)| format!("{file}={value}")).collect();
        assert_eq!(written.join(" "), files, "{json}");
    }
}

#[test]
fn wrong_limits_are_named() {
    let cases = [
        (r#"{"memory":{"limit":-2}}"#, "r.memory.limit"),
        (r#"{"memory":{"reservation":-5}}"#, "r.memory.reservation"),
        (r#"{"memory":{"swap":5}}"#, "r.memory.swap"),
        (r#"{"memory":{"limit":-1,"swap":5}}"#, "r.memory.swap"),
        (r#"{"memory":{"limit":10,"swap":5}}"#, "r.memory.swap"),
        (r#"{"memory":{"swappiness":101}}"#, "r.memory.swappiness"),
        (r#"{"cpu":{"idle":2}}"#, "r.cpu.idle"),
        (r#"{"cpu":{"cpus":"3-1"}}"#, "r.cpu.cpus"),
        (r#"{"cpu":{"mems":"a"}}"#, "r.cpu.mems"),
        (r#"{"blockIO":{"weight":9}}"#, "r.blockIO.weight"),
        (r#"{"blockIO":{"leafWeight":1001}}"#, "r.blockIO.leafWeight"),
        (r#"{"blockIO":{"weightDevice":[{"major":-1,"minor":0}]}}"#, "r.blockIO.weightDevice[0]"),
        (
            r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":-7,"rate":1}]}}"#,
            "r.blockIO.throttleReadBpsDevice[0]",
        ),
        (
            r#"{"hugepageLimits":[{"pageSize":"2MB","limit":1},{"pageSize":"3MB","limit":1}]}"#,
            "r.hugepageLimits[1].pageSize",
        ),
        (r#"{"hugepageLimits":[{"pageSize":"../x","limit":1}]}"#, "r.hugepageLimits[0].pageSize"),
        (r#"{"hugepageLimits":[{"pageSize":"2MB","limit":-1}]}"#, "r.hugepageLimits[0].limit"),
        (r#"{"network":{"priorities":[{"name":"../eth0","priority":1}]}}"#, "r.network.priorities[0].name"),
        (r#"{"unified":{"../memory.max":"1"}}"#, r#"r.unified["../memory.max"]"#),
        (r#"{"unified":{"cgroup.kill":"1"}}"#, r#"r.unified["cgroup.kill"]"#),
        (r#"{"unified":{"nonsense":"1"}}"#, r#"r.unified["nonsense"]"#),
    ];
    for (json, path) in cases {
        assert_eq!(planned(json).expect_err(json).path(), path, "{json}");
    }
}

#[test]
fn what_has_no_effect_is_said() {
    let cases = [
        (r#"{"memory":{"swappiness":10,"disableOOMKiller":true,"kernel":5}}"#, 3),
        (r#"{"memory":{"kernel":0,"disableOOMKiller":false}}"#, 0),
        (r#"{"cpu":{"realtimeRuntime":95,"realtimePeriod":100}}"#, 1),
        (r#"{"hugepageLimits":[{"pageSize":"1GB","limit":0}]}"#, 1),
        (r#"{"rdma":{"mlx5":{"hcaHandles":1}}}"#, 1),
    ];
    for (json, lines) in cases {
        assert_eq!(planned(json).expect(json).1.len(), lines, "{json}");
    }
}

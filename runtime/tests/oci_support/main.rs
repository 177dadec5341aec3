//! `docs/oci-support.md` and the code agree: a row for each field that the reader knows, and each does what its row says.

use std::collections::BTreeMap;
use std::fs;

use oci_spec::runtime::Spec;
use serde_json::{Value, json};
use supermachine_agent_protocol::container::Container;
use supermachine_runtime::bundle::Bundle;
use supermachine_runtime::plan::{self, GuestArch, HostPlan, Plan, PlanError, PlanSettings};

mod schema;

/// How tables of fields begin; others are of options and annotations.
const HEAD: &str = "| field | what | how |";

/// Words of the tables' second column by field.
fn rows() -> BTreeMap<String, String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/oci-support.md");
    let text = fs::read_to_string(path).expect("the document");
    let tables = text.split("\n\n").filter(|part| part.starts_with(HEAD));
    let cells = tables.flat_map(str::lines).filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let mut rows = BTreeMap::new();
    for (field, rest) in cells {
        let word = rest.split(" |").next().unwrap_or_default();
        assert!(rows.insert(field.to_owned(), word.to_owned()).is_none(), "{field} has two rows");
    }
    rows
}

/// The row for a field: its own, or the one for the whole structure that it is in.
fn row<'a>(rows: &'a BTreeMap<String, String>, field: &str) -> Option<(&'a str, &'a str)> {
    let covers = |name: &str| name == field || name.strip_suffix('*').is_some_and(|start| field.starts_with(start));
    let mut found = rows.iter().filter(|(name, _)| covers(name));
    let (name, word) = found.next()?;
    assert!(found.next().is_none(), "{field} has two rows");
    Some((name, word))
}

/// Fields that the reader knows and the specification does not.
const NOT_SPECIFIED: [&str; 2] = ["uidMappings.", "gidMappings."];

fn known_fields() -> Vec<String> {
    let mut fields = schema::fields::<Spec>();
    fields.retain(|field| !NOT_SPECIFIED.iter().any(|other| field.starts_with(other)));
    // Structures that have one row for all that is in them, without a star: a list of ids, a map.
    for whole in ["linux.uidMappings", "linux.gidMappings", "mounts.uidMappings", "mounts.gidMappings"] {
        fields.retain(|field| !field.starts_with(&format!("{whole}.")));
        fields.push(whole.to_owned());
    }
    for hook in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        let hook = format!("hooks.{hook}");
        fields.retain(|field| !field.starts_with(&format!("{hook}.")));
        fields.push(hook);
    }
    fields
}

#[test]
fn every_field_has_a_row_and_every_row_a_field() {
    let rows = rows();
    let fields = known_fields();
    assert!(fields.len() > 100, "{fields:?}");
    let without: Vec<_> = fields.iter().filter(|field| row(&rows, field).is_none()).collect();
    assert!(without.is_empty(), "fields without a row: {without:?}");
    let used: Vec<_> = fields.iter().filter_map(|field| row(&rows, field)).map(|(name, _)| name).collect();
    let unused: Vec<_> = rows.keys().filter(|name| !used.contains(&name.as_str())).collect();
    assert!(unused.is_empty(), "rows without a field: {unused:?}");
}

fn planned(config: &Value) -> Result<Plan, PlanError> {
    let settings = PlanSettings {
        id: "x".to_owned(),
        systemd_cgroup: false,
        rootless: false,
        arch: GuestArch::X86_64,
        host_memory_mib: None,
    };
    let bundle =
        Bundle::parse("/bundle".into(), config.to_string().as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    plan::plan(&bundle, &settings)
}

/// A bundle with every field that can be set beside the others.
fn full() -> Value {
    json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "a", "domainname": "a", "annotations": {"a": "a"},
        "process": {
            "terminal": true, "consoleSize": {"height": 1, "width": 1},
            "user": {"uid": 1, "gid": 1, "umask": 1, "additionalGids": [1], "username": "a"},
            "args": ["a"], "commandLine": "a", "env": ["A=1"], "cwd": "/a",
            "capabilities": {"bounding": [], "effective": [], "inheritable": [], "permitted": [], "ambient": []},
            "rlimits": [{"type": "RLIMIT_CPU", "soft": 1, "hard": 9}],
            "noNewPrivileges": false, "apparmorProfile": "a", "selinuxLabel": "a", "oomScoreAdj": 1,
            "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 1},
            "scheduler": {"policy": "SCHED_OTHER", "nice": 1},
        },
        "mounts": [{"destination": "/a", "type": "tmpfs", "source": "a", "options": ["a"]}],
        "hooks": {},
        "linux": {
            "namespaces": [{"type": "pid", "path": "/a"}, {"type": "uts"}, {"type": "user"}, {"type": "time"}, {"type": "network"}],
            "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}],
            "gidMappings": [{"containerID": 0, "hostID": 1, "size": 1}],
            "timeOffsets": {"monotonic": {"secs": 1}},
            "devices": [{"path": "/a", "type": "c", "major": 1, "minor": 1, "fileMode": 1, "uid": 1, "gid": 1}],
            "cgroupsPath": "/a", "sysctl": {"a": "1"},
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "architectures": [], "flags": [], "listenerMetadata": "a",
                "syscalls": [{"names": ["dup"], "action": "SCMP_ACT_ERRNO", "errnoRet": 2,
                              "args": [{"index": 1, "value": 1, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]}],
            },
            "rootfsPropagation": "shared", "maskedPaths": ["/a"], "readonlyPaths": ["/a"], "mountLabel": "a",
            "personality": {"domain": "LINUX"},
            "resources": {
                "devices": [{"allow": true, "type": "c", "major": 1, "minor": 1, "access": "r"}],
                "memory": {"limit": 1000, "reservation": 1, "swap": 2000, "kernel": 1, "kernelTCP": 1, "swappiness": 1,
                           "disableOOMKiller": true, "useHierarchy": true, "checkBeforeUpdate": true},
                "cpu": {"shares": 2, "quota": 1000, "period": 1000, "burst": 1, "idle": 0, "realtimeRuntime": 1,
                        "realtimePeriod": 1, "cpus": "0", "mems": "0"},
                "pids": {"limit": 1},
                "blockIO": {"weight": 10, "leafWeight": 10, "weightDevice": [], "throttleReadBpsDevice": [],
                            "throttleWriteBpsDevice": [], "throttleReadIOPSDevice": [], "throttleWriteIOPSDevice": []},
                "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
                "network": {"classID": 1, "priorities": []},
                "rdma": {}, "unified": {"memory.high": "1"},
            },
        },
    })
}

/// JSON pointers into [`full`] with another value; the field is the pointer without its indexes.
fn others() -> Vec<(&'static str, Value)> {
    let hook = json!([{"path": "/a"}]);
    let fixed = [
        ("/ociVersion", json!("1.0.2-dev")),
        ("/root/path", json!("b")),
        ("/root/readonly", json!(true)),
        ("/hostname", json!("b")),
        ("/domainname", json!("b")),
        ("/annotations", json!({"dev.supermachine.vcpus": "2"})),
        ("/process/terminal", json!(false)),
        ("/process/user/username", json!("b")),
        ("/process/args", json!(["b"])),
        ("/process/commandLine", json!("b")),
        ("/process/env", json!(["B=1"])),
        ("/process/cwd", json!("/b")),
        ("/process/user/additionalGids", json!([2])),
        ("/process/rlimits/0/type", json!("RLIMIT_AS")),
        ("/process/noNewPrivileges", json!(true)),
        ("/process/apparmorProfile", json!("b")),
        ("/process/selinuxLabel", json!("b")),
        ("/process/ioPriority/class", json!("IOPRIO_CLASS_RT")),
        ("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 1})),
        ("/process/scheduler/flags", json!(["SCHED_RESET_ON_FORK"])),
        ("/mounts/0/destination", json!("/b")),
        ("/mounts/0/type", json!("ramfs")),
        ("/mounts/0/source", json!("b")),
        ("/mounts/0/options", json!(["b"])),
        ("/hooks/prestart", hook.clone()),
        ("/hooks/createRuntime", hook.clone()),
        ("/hooks/createContainer", hook.clone()),
        ("/hooks/startContainer", hook.clone()),
        ("/hooks/poststart", hook.clone()),
        ("/hooks/poststop", hook),
        ("/vm", json!({"kernel": {"path": "/a"}})),
        ("/windows", json!({"layerFolders": []})),
        ("/solaris", json!({"milestone": "a"})),
        ("/zos", json!({"x": 1})),
        ("/process/execCPUAffinity", json!({"initial": "0"})),
        ("/mounts/0/uidMappings", json!([{"containerID": 0, "hostID": 1, "size": 1}])),
        ("/mounts/0/gidMappings", json!([{"containerID": 0, "hostID": 1, "size": 1}])),
        ("/linux/seccomp/listenerPath", json!("/a")),
        ("/linux/personality/flags", json!(["a"])),
        ("/linux/netDevices", json!({"eth0": {}})),
        ("/linux/intelRdt", json!({"closID": "a"})),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BIND"})),
    ];
    let mut others = fixed.to_vec();
    others.extend(linux());
    // Capabilities, and numbers that are 1 or so.
    for set in ["bounding", "effective", "inheritable", "permitted", "ambient"] {
        others.push((leak(format!("/process/capabilities/{set}")), json!(["CAP_KILL"])));
    }
    let numbers = [
        "/process/consoleSize/height /process/consoleSize/width /process/user/uid /process/user/gid /process/user/umask",
        "/process/rlimits/0/soft /process/rlimits/0/hard /process/oomScoreAdj /process/ioPriority/priority /process/scheduler/nice",
        "/linux/devices/0/major /linux/devices/0/minor /linux/devices/0/fileMode /linux/devices/0/uid /linux/devices/0/gid",
        "/linux/seccomp/defaultErrnoRet /linux/seccomp/syscalls/0/errnoRet /linux/seccomp/syscalls/0/args/0/index",
        "/linux/seccomp/syscalls/0/args/0/value /linux/seccomp/syscalls/0/args/0/valueTwo /linux/resources/devices/0/major",
        "/linux/resources/devices/0/minor /linux/resources/memory/reservation /linux/resources/memory/kernel",
        "/linux/resources/memory/kernelTCP /linux/resources/memory/swappiness /linux/resources/cpu/quota",
        "/linux/resources/cpu/period /linux/resources/cpu/burst /linux/resources/cpu/realtimeRuntime",
        "/linux/resources/cpu/realtimePeriod /linux/resources/pids/limit /linux/resources/hugepageLimits/0/limit",
        "/linux/resources/network/classID",
    ];
    others.extend(numbers.iter().flat_map(|line| line.split(' ')).map(|pointer| (pointer, json!(5))));
    others
}

fn linux() -> Vec<(&'static str, Value)> {
    let device = json!([{"major": 8, "minor": 0, "rate": 1, "weight": 10}]);
    vec![
        ("/linux/namespaces/0/type", json!("ipc")),
        ("/linux/namespaces/0/path", json!("/b")),
        ("/linux/uidMappings/0/hostID", json!(2)),
        ("/linux/gidMappings/0/hostID", json!(2)),
        ("/linux/timeOffsets", json!({"boottime": {"secs": 1}})),
        ("/linux/devices/0/path", json!("/b")),
        ("/linux/devices/0/type", json!("b")),
        ("/linux/cgroupsPath", json!("/b")),
        ("/linux/sysctl", json!({"b": "1"})),
        ("/linux/seccomp/defaultAction", json!("SCMP_ACT_TRACE")),
        ("/linux/seccomp/architectures", json!(["SCMP_ARCH_X86"])),
        ("/linux/seccomp/flags", json!(["SECCOMP_FILTER_FLAG_LOG"])),
        ("/linux/seccomp/listenerMetadata", json!("b")),
        ("/linux/seccomp/syscalls/0/names", json!(["dup2"])),
        ("/linux/seccomp/syscalls/0/action", json!("SCMP_ACT_TRACE")),
        ("/linux/seccomp/syscalls/0/args/0/op", json!("SCMP_CMP_EQ")),
        ("/linux/rootfsPropagation", json!("private")),
        ("/linux/maskedPaths", json!(["/b"])),
        ("/linux/readonlyPaths", json!(["/b"])),
        ("/linux/mountLabel", json!("b")),
        ("/linux/personality/domain", json!("LINUX32")),
        ("/linux/resources/devices/0/allow", json!(false)),
        ("/linux/resources/devices/0/type", json!("b")),
        ("/linux/resources/devices/0/access", json!("w")),
        ("/linux/resources/memory/limit", json!(1500)),
        ("/linux/resources/memory/swap", json!(2500)),
        ("/linux/resources/memory/disableOOMKiller", json!(false)),
        ("/linux/resources/memory/useHierarchy", json!(false)),
        ("/linux/resources/memory/checkBeforeUpdate", json!(false)),
        ("/linux/resources/cpu/shares", json!(262_144)),
        ("/linux/resources/cpu/idle", json!(1)),
        ("/linux/resources/cpu/cpus", json!("1")),
        ("/linux/resources/cpu/mems", json!("1")),
        ("/linux/resources/blockIO/weight", json!(20)),
        ("/linux/resources/blockIO/leafWeight", json!(20)),
        ("/linux/resources/blockIO/weightDevice", device.clone()),
        ("/linux/resources/blockIO/throttleReadBpsDevice", device.clone()),
        ("/linux/resources/blockIO/throttleWriteBpsDevice", device.clone()),
        ("/linux/resources/blockIO/throttleReadIOPSDevice", device.clone()),
        ("/linux/resources/blockIO/throttleWriteIOPSDevice", device),
        ("/linux/resources/hugepageLimits/0/pageSize", json!("1GB")),
        ("/linux/resources/network/priorities", json!([{"name": "eth0", "priority": 1}])),
        ("/linux/resources/rdma", json!({"mlx5_1": {"hcaHandles": 1}})),
        ("/linux/resources/unified", json!({"memory.high": "2"})),
    ]
}

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// Fields that [`full`] cannot have beside the others.
fn apart() -> Vec<(&'static str, Value, Value)> {
    let fifo = |priority: u32| json!({"policy": "SCHED_FIFO", "priority": priority});
    let deadline = |field: &str, time: u32| {
        let mut scheduler = json!({"policy": "SCHED_DEADLINE", "runtime": 1, "deadline": 2, "period": 3});
        scheduler[field] = json!(time);
        scheduler
    };
    vec![
        ("process.scheduler.priority", fifo(1), fifo(2)),
        ("process.scheduler.runtime", deadline("runtime", 1), deadline("runtime", 5)),
        ("process.scheduler.deadline", deadline("deadline", 2), deadline("deadline", 5)),
        ("process.scheduler.period", deadline("period", 3), deadline("period", 5)),
    ]
}

fn field(pointer: &str) -> String {
    let names: Vec<&str> = pointer.split('/').skip(1).filter(|name| name.parse::<usize>().is_err()).collect();
    names.join(".")
}

fn with(pointer: &str, value: Value) -> Value {
    let mut config = full();
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    config.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer}"))[name] = value;
    config
}

/// What changes in the guest, and on the host; limits as they are given count for the host.
fn sides(before: &Plan, after: &Plan) -> (bool, bool) {
    let guest = |plan: &Plan| Container { hook_state: String::new(), ..plan.container.clone() };
    let host = |plan: &Plan| (plan.host.clone(), plan.rootfs.clone(), plan.terminal, plan.vm, plan.annotations.clone());
    let version = before.oci_version != after.oci_version;
    (guest(before) != guest(after) || version, host(before) != host(after))
}

/// What is wrong with a field whose row has this word, when its value changes.
fn judge(word: &str, before: &Plan, after: Result<Plan, PlanError>, field: &str) -> Option<String> {
    let after = match (word, after) {
        ("refused", Err(error)) if error.path().replace("[0]", "").starts_with(field.split(".gid").next()?) => {
            return None;
        }
        ("refused", other) => return Some(format!("{field} is not refused: {other:?}")),
        (_, Err(error)) => return Some(format!("{field}: {error}")),
        (_, Ok(after)) => after,
    };
    // The limits of a bundle are kept as they are for the host: only the guest's can show something.
    let limit = field.starts_with("linux.resources.");
    let (guest, host) = sides(before, &after);
    let warned = before.warnings != after.warnings;
    let right = match word {
        "guest" => guest && !host,
        "host" => !guest && host,
        "both" => host && (guest || !limit),
        "warned" => !guest && (warned || limit),
        "ignored" => !guest && !warned && (!host || limit),
        _ => false,
    };
    (!right).then(|| format!("{field} ({word}): guest {guest}, host {host}, warned {warned}"))
}

#[test]
fn every_field_does_what_its_row_says() {
    let rows = rows();
    let before = planned(&full()).expect("a plan");
    assert_ne!(before.host, HostPlan::default());
    let mut wrong = Vec::new();
    let mut tried = Vec::new();
    let mut check = |field: &str, before: &Plan, after: Result<Plan, PlanError>| {
        let field = if field == "process.scheduler" { "process.scheduler.policy" } else { field };
        let found = row(&rows, field).or_else(|| row(&rows, &format!("{field}.x")));
        let found = found.or_else(|| row(&rows, field.rsplit_once('.')?.0));
        let Some((name, word)) = found else { return wrong.push(format!("{field} has no row")) };
        tried.push(name.to_owned());
        wrong.extend(judge(word, before, after, field));
    };
    for (pointer, value) in others() {
        check(&field(pointer), &before, planned(&with(pointer, value)));
    }
    for (field, one, other) in apart() {
        let before = planned(&with("/process/scheduler", one)).expect(field);
        check(field, &before, planned(&with("/process/scheduler", other)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let untried: Vec<_> = rows.keys().filter(|name| !tried.contains(name)).collect();
    assert!(untried.is_empty(), "rows that were not tried: {untried:?}");
}

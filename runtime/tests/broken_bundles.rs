//! Bundles that are wrong in one place each: the error names that place.
//!
//! Each case starts from what `spec` writes and sets one value. The pure plan is asked first; then, unless the case needs
//! no more, the program itself, which must end with status 1, say the same place, and leave nothing behind.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use supermachine_runtime::bundle::{Bundle, BundleError};
use supermachine_runtime::plan::{self, GuestArch, PlanSettings};

/// JSON pointer, what is put there (nothing: it is removed), the place that the error names.
type Case = (&'static str, Option<Value>, &'static str);

/// A bundle that can be planned.
fn good() -> Value {
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": {"uid": 0, "gid": 0}, "args": ["sh"], "env": ["PATH=/bin"], "cwd": "/",
            "capabilities": {"bounding": ["CAP_KILL"]}, "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        },
        "root": {"path": "rootfs"},
        "hostname": "x",
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "hooks": {},
        "annotations": {},
        "linux": {
            "resources": {"memory": {}, "cpu": {}, "pids": {}, "blockIO": {}, "unified": {}},
            "namespaces": [{"type": "pid"}, {"type": "uts"}, {"type": "mount"}, {"type": "network"}],
            "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["dup"], "action": "SCMP_ACT_ERRNO"}]},
            "timeOffsets": {},
        },
    })
}

fn some(value: Value) -> Option<Value> {
    Some(value)
}

fn general() -> Vec<Case> {
    let long = "x".repeat(65);
    vec![
        ("/ociVersion", None, "ociVersion"),
        ("/ociVersion", some(json!("")), "ociVersion"),
        ("/ociVersion", some(json!(1.0)), "ociVersion"),
        ("/ociVersion", some(json!("invalid")), "ociVersion"),
        ("/ociVersion", some(json!("0.9.0")), "ociVersion"),
        ("/ociVersion", some(json!("1.4.0")), "ociVersion"),
        ("/ociVersion", some(json!("2.0.0")), "ociVersion"),
        ("/ociVersion", some(json!("1.2")), "ociVersion"),
        ("/root", None, "root.path"),
        ("/root", some(json!("rootfs")), "root"),
        ("/root/path", some(json!("")), "root.path"),
        ("/root/path", some(json!(["rootfs"])), "root.path"),
        ("/root/path", some(json!("a\0b")), "root.path"),
        ("/root/readonly", some(json!("yes")), "root.readonly"),
        ("/hostname", some(json!(7)), "hostname"),
        ("/hostname", some(json!(long)), "hostname"),
        ("/hostname", some(json!("a\0")), "hostname"),
        ("/domainname", some(json!("x".repeat(65))), "domainname"),
        ("/linux/namespaces", some(json!([])), "hostname"),
        ("/vm", some(json!({"kernel": {"path": "/boot/vmlinuz"}})), "vm"),
        ("/annotations", some(json!({"": "x"})), "annotations"),
        ("/annotations", some(json!({"a": 1})), "annotations.a"),
        ("/annotations", some(json!({"dev.supermachine.kernel": "/x"})), "annotations[\"dev.supermachine.kernel\"]"),
        ("/annotations", some(json!({"dev.supermachine.vcpus": "many"})), "annotations[\"dev.supermachine.vcpus\"]"),
        (
            "/annotations",
            some(json!({"dev.supermachine.memory-mib": "9999999999"})),
            "annotations[\"dev.supermachine.memory-mib\"]",
        ),
        ("/hooks/prestart", some(json!([{"path": "relative"}])), "hooks.prestart[0].path"),
        ("/hooks/poststop", some(json!([{"args": []}])), "hooks.poststop[0]"),
        (
            "/hooks/createRuntime",
            some(json!([{"path": "/bin/true"}, {"path": "/x", "timeout": 0}])),
            "hooks.createRuntime[1].timeout",
        ),
        ("/hooks/startContainer", some(json!([{"path": "/x", "timeout": -1}])), "hooks.startContainer[0].timeout"),
        ("/hooks/createContainer", some(json!([{"path": "/x", "args": ["a\0"]}])), "hooks.createContainer[0].args[0]"),
        ("/hooks/poststart", some(json!([{"path": "/x", "env": [1]}])), "hooks.poststart[0].env[0]"),
    ]
}

fn process() -> Vec<Case> {
    let rlimit = |kind: &str, soft: u64, hard: u64| json!({"type": kind, "soft": soft, "hard": hard});
    vec![
        ("/process", None, "process"),
        ("/process", some(json!([])), "process"),
        ("/process/args", None, "process.args"),
        ("/process/args", some(json!([])), "process.args"),
        ("/process/args", some(json!("sh")), "process.args"),
        ("/process/args", some(json!(["sh", "a\0b"])), "process.args[1]"),
        ("/process/cwd", None, "process.cwd"),
        ("/process/cwd", some(json!("")), "process.cwd"),
        ("/process/cwd", some(json!("tmp")), "process.cwd"),
        ("/process/cwd", some(json!("/a\0")), "process.cwd"),
        ("/process/env", some(json!(["A=1", "B"])), "process.env[1]"),
        ("/process/env", some(json!(["=1"])), "process.env[0]"),
        ("/process/env", some(json!(["A=\0"])), "process.env[0]"),
        ("/process/user/uid", some(json!(-1)), "process.user.uid"),
        ("/process/user/gid", some(json!(4_294_967_296_u64)), "process.user.gid"),
        ("/process/user/additionalGids", some(json!([1, "wheel"])), "process.user.additionalGids[1]"),
        ("/process/user/umask", some(json!(512)), "process.user.umask"),
        ("/process/terminal", some(json!(1)), "process.terminal"),
        ("/process/rlimits", some(json!([rlimit("RLIMIT_TEST", 1, 1)])), "process.rlimits[0].type"),
        ("/process/rlimits", some(json!([rlimit("RLIMIT_CPU", 2, 1)])), "process.rlimits[0]"),
        (
            "/process/rlimits",
            some(json!([rlimit("RLIMIT_CPU", 1, 1), rlimit("RLIMIT_CPU", 2, 2)])),
            "process.rlimits[1]",
        ),
        ("/process/rlimits/0/soft", some(json!(-1)), "process.rlimits[0].soft"),
        ("/process/capabilities", some(json!("CAP_KILL")), "process.capabilities"),
        ("/process/capabilities/bounding", some(json!([7])), "process.capabilities.bounding[0]"),
        ("/process/oomScoreAdj", some(json!(1001)), "process.oomScoreAdj"),
        ("/process/oomScoreAdj", some(json!(-1001)), "process.oomScoreAdj"),
        (
            "/process/ioPriority",
            some(json!({"class": "IOPRIO_CLASS_RT", "priority": 8})),
            "process.ioPriority.priority",
        ),
        ("/process/ioPriority", some(json!({"class": "IOPRIO_CLASS_X", "priority": 1})), "process.ioPriority.class"),
        ("/process/scheduler", some(json!({"policy": "SCHED_FIFO"})), "process.scheduler.priority"),
        ("/process/scheduler", some(json!({"policy": "SCHED_OTHER", "priority": 5})), "process.scheduler.priority"),
        ("/process/scheduler", some(json!({"policy": "SCHED_OTHER", "nice": 20})), "process.scheduler.nice"),
        (
            "/process/scheduler",
            some(json!({"policy": "SCHED_RR", "priority": 1, "runtime": 5})),
            "process.scheduler.runtime",
        ),
        ("/process/scheduler", some(json!({"policy": "SCHED_ISO"})), "process.scheduler.policy"),
        ("/process/execCPUAffinity", some(json!({"initial": "0"})), "process.execCPUAffinity"),
    ]
}

fn mounts() -> Vec<Case> {
    let deep = "/x".repeat(3000);
    vec![
        ("/mounts/0/destination", None, "mounts[0]"),
        ("/mounts/0/destination", some(json!("")), "mounts[0].destination"),
        ("/mounts/0/destination", some(json!("/")), "mounts[0].destination"),
        ("/mounts/0/destination", some(json!("/a/../..")), "mounts[0].destination"),
        ("/mounts/0/destination", some(json!("/a\0")), "mounts[0].destination"),
        ("/mounts/0/destination", some(json!("/proc/1")), "mounts[0].destination"),
        ("/mounts/0/destination", some(json!("/x/../proc/sys/kernel")), "mounts[0].destination"),
        ("/mounts/0/type", None, "mounts[0].type"),
        ("/mounts/0/type", some(json!("xfs")), "mounts[0].type"),
        ("/mounts/0", some(json!({"destination": "/x", "type": "ext4"})), "mounts[0].source"),
        (
            "/mounts/0",
            some(json!({"destination": "/x", "type": "ext4", "source": "/x", "options": ["size=1x"]})),
            "mounts[0].options",
        ),
        ("/mounts/0/type", some(json!("overlay")), "mounts[0].type"),
        ("/mounts/0/type", some(json!("nfs")), "mounts[0].type"),
        ("/mounts/0", some(json!({"destination": "/x", "options": ["bind"]})), "mounts[0].source"),
        ("/mounts/0", some(json!({"destination": "/x", "type": "bind", "source": ""})), "mounts[0].source"),
        ("/mounts/0/source", some(json!("a\0")), "mounts[0].source"),
        ("/mounts/0/options", some(json!(["ro", 1])), "mounts[0].options[1]"),
        ("/mounts/0/options", some(json!(["ro", "x\0"])), "mounts[0].options[1]"),
        ("/mounts/0/options", some(json!([deep])), "mounts[0].options"),
        ("/mounts/0/options", some(json!(["idmap"])), "mounts[0].options[0]"),
        ("/mounts/0/uidMappings", some(json!([{"containerID": 0, "hostID": 1, "size": 1}])), "mounts[0].uidMappings"),
        ("/mounts/0/options", some(json!(["ro", "remount"])), "mounts[0].options[1]"),
    ]
}

fn linux() -> Vec<Case> {
    let mapping = |host: u64, size: u64| json!([{"containerID": 0, "hostID": host, "size": size}]);
    vec![
        ("/linux", some(json!("linux")), "linux"),
        ("/linux/namespaces/0/type", some(json!("nonsense")), "linux.namespaces[0].type"),
        ("/linux/namespaces/1/type", some(json!("pid")), "linux.namespaces[1]"),
        ("/linux/namespaces/0/path", some(json!("proc/self")), "linux.namespaces[0].path"),
        ("/linux/namespaces/0", some(json!({"type": "user", "path": "/proc/1/ns/user"})), "linux.namespaces[0].path"),
        ("/linux/namespaces/0", some(json!({"type": "user"})), "linux.uidMappings"),
        ("/linux/uidMappings", some(mapping(1000, 1)), "linux.uidMappings"),
        ("/linux/uidMappings", some(mapping(4_294_967_296, 1)), "linux.uidMappings[0].hostID"),
        ("/linux/timeOffsets", some(json!({"monotonic": {"secs": 1}})), "linux.timeOffsets"),
        ("/linux/cgroupsPath", some(json!("../../escape")), "linux.cgroupsPath"),
        ("/linux/cgroupsPath", some(json!("/a/../b")), "linux.cgroupsPath"),
        ("/linux/cgroupsPath", some(json!("/")), "linux.cgroupsPath"),
        ("/linux/cgroupsPath", some(json!("a\0b")), "linux.cgroupsPath"),
        (
            "/linux/devices",
            some(json!([{"path": "null", "type": "c", "major": 1, "minor": 3}])),
            "linux.devices[0].path",
        ),
        ("/linux/devices", some(json!([{"path": "/dev/x", "type": "a"}])), "linux.devices[0].type"),
        ("/linux/devices", some(json!([{"path": "/dev/x", "type": "c", "major": -1}])), "linux.devices[0].major"),
        (
            "/linux/devices",
            some(json!([{"path": "/dev/x", "type": "b", "major": 1, "minor": 1_048_576}])),
            "linux.devices[0].minor",
        ),
        ("/linux/rootfsPropagation", some(json!("sideways")), "linux.rootfsPropagation"),
        ("/linux/maskedPaths", some(json!(["/proc/kcore", "relative"])), "linux.maskedPaths[1]"),
        ("/linux/readonlyPaths", some(json!(["../x"])), "linux.readonlyPaths[0]"),
        ("/linux/sysctl", some(json!({"net.ipv4..x": "1"})), "linux.sysctl[\"net.ipv4..x\"]"),
        ("/linux/sysctl", some(json!({"../../etc/passwd": "1"})), "linux.sysctl[\"../../etc/passwd\"]"),
        ("/linux/sysctl", some(json!({"net.x": 1})), "linux.sysctl.net.x"),
        ("/linux/intelRdt", some(json!({"closID": "x"})), "linux.intelRdt"),
        ("/linux/memoryPolicy", some(json!({"mode": "MPOL_BIND", "nodes": "0"})), "linux.memoryPolicy"),
        ("/linux/netDevices", some(json!({"eth0": {}})), "linux.netDevices"),
        ("/linux/personality", some(json!({"domain": "LINUX64"})), "linux.personality.domain"),
        ("/linux/personality", some(json!({"domain": "LINUX", "flags": ["x"]})), "linux.personality.flags"),
        ("/linux/seccomp/defaultAction", some(json!("SCMP_ACT_MAYBE")), "linux.seccomp.defaultAction"),
        ("/linux/seccomp/defaultAction", some(json!("SCMP_ACT_NOTIFY")), "linux.seccomp.defaultAction"),
        ("/linux/seccomp/architectures", some(json!(["SCMP_ARCH_PDP11"])), "linux.seccomp.architectures[0]"),
        ("/linux/seccomp/flags", some(json!(["SECCOMP_FILTER_FLAG_X"])), "linux.seccomp.flags[0]"),
        ("/linux/seccomp/listenerPath", some(json!("/run/x")), "linux.seccomp.listenerPath"),
        ("/linux/seccomp/syscalls/0/action", some(json!("SCMP_ACT_NOTIFY")), "linux.seccomp.syscalls[0].action"),
        ("/linux/seccomp/syscalls/0/errnoRet", some(json!(5000)), "linux.seccomp.syscalls[0].errnoRet"),
        (
            "/linux/seccomp/syscalls/0/args",
            some(json!([{"index": 9, "op": "SCMP_CMP_EQ"}])),
            "linux.seccomp.syscalls[0].args[0].index",
        ),
        ("/linux/resources/memory/limit", some(json!(-7)), "linux.resources.memory.limit"),
        ("/linux/resources/memory/limit", some(json!("1G")), "linux.resources.memory.limit"),
        ("/linux/resources/memory/swap", some(json!(5)), "linux.resources.memory.swap"),
        ("/linux/resources/cpu/cpus", some(json!("0-")), "linux.resources.cpu.cpus"),
        ("/linux/resources/cpu/shares", some(json!(-1)), "linux.resources.cpu.shares"),
        ("/linux/resources/cpu/idle", some(json!(7)), "linux.resources.cpu.idle"),
        ("/linux/resources/pids/limit", some(json!(1.5)), "linux.resources.pids.limit"),
        ("/linux/resources/blockIO/weight", some(json!(5000)), "linux.resources.blockIO.weight"),
        ("/linux/resources/devices", some(json!([{"allow": true}])), "linux.resources.devices[0].access"),
        (
            "/linux/resources/hugepageLimits",
            some(json!([{"pageSize": "7XB", "limit": 1}])),
            "linux.resources.hugepageLimits[0].pageSize",
        ),
        ("/linux/resources/unified", some(json!({"a/../b": "1"})), "linux.resources.unified[\"a/../b\"]"),
        ("/linux/resources/unified", some(json!({"cgroup.procs": "1"})), "linux.resources.unified[\"cgroup.procs\"]"),
    ]
}

fn cases() -> Vec<Case> {
    [general(), process(), mounts(), linux()].concat()
}

/// The good bundle with one value set or removed.
fn broken(pointer: &str, value: Option<&Value>) -> Value {
    let mut bundle = good();
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    match (bundle.pointer_mut(parent).expect(pointer), value) {
        (Value::Object(fields), Some(value)) => {
            fields.insert(field.to_owned(), value.clone());
        }
        (Value::Object(fields), None) => {
            fields.remove(field).expect(pointer);
        }
        (Value::Array(items), Some(value)) => items[field.parse::<usize>().expect(pointer)] = value.clone(),
        _ => panic!("{pointer}"),
    }
    bundle
}

/// The place that the error about a bundle names, and its text.
fn place(config: &[u8]) -> Option<(String, String)> {
    let settings = PlanSettings {
        id: "x".to_owned(),
        systemd_cgroup: false,
        rootless: false,
        arch: GuestArch::X86_64,
        host_memory_mib: None,
    };
    let bundle = match Bundle::parse("/bundle".into(), config) {
        Ok(bundle) => bundle,
        Err(error) => {
            let text = error.to_string();
            let BundleError::Field { path, .. } = error else { panic!("{text}") };
            return Some((path, text));
        }
    };
    let error = plan::plan(&bundle, &settings).err()?;
    Some((error.path().to_owned(), error.to_string()))
}

#[test]
fn the_bundle_to_start_from_is_good() {
    assert_eq!(place(good().to_string().as_bytes()), None);
}

#[test]
fn every_error_names_its_place() {
    let cases = cases();
    assert!(cases.len() >= 60);
    let mut wrong = Vec::new();
    for (pointer, value, expected) in cases {
        let named = place(broken(pointer, value.as_ref()).to_string().as_bytes());
        match named {
            Some((path, text)) if path == expected && text.contains(expected) => {}
            named => wrong.push(format!("{pointer} = {value:?}: {named:?} instead of {expected}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_no_json_is_said() {
    let parse = |config: &[u8]| Bundle::parse("/bundle".into(), config).expect_err("broken");
    for config in [&b""[..], b"{", b"\xff\xfe", b"{\"a\": }", "[".repeat(10_000).as_bytes()] {
        assert!(matches!(parse(config), BundleError::Json { .. }), "{config:?}");
    }
    for config in [&b"[]"[..], b"7", b"\"x\""] {
        assert!(matches!(parse(config), BundleError::NotAnObject { .. }), "{config:?}");
    }
}

#[test]
fn files_that_are_missing_too_long_or_not_files_are_refused() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let config = dir.path().join("config.json");
    assert!(matches!(Bundle::read(&dir.path().join("nothing"), None), Err(BundleError::Directory { .. })));
    assert!(matches!(Bundle::read(dir.path(), None), Err(BundleError::Read { .. })));
    fs::write(&config, vec![b' '; (16 << 20) + 1]).expect("write");
    assert!(matches!(Bundle::read(dir.path(), None), Err(BundleError::TooLong { .. })));
    fs::remove_file(&config).expect("remove");
    fs::create_dir(&config).expect("mkdir");
    assert!(matches!(Bundle::read(dir.path(), None), Err(BundleError::Read { .. })));
}

/// Runs `create` on the bundle; gives the status and what was said.
fn create(dir: &Path) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_supermachine-runtime"))
        .env("SUPERMACHINE_DATA", dir.join("data"))
        .arg("--root")
        .arg(dir.join("root"))
        .args(["create", "--bundle"])
        .arg(dir.join("bundle"))
        .arg("broken")
        .output()
        .expect("the program runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
#[cfg(target_os = "linux")]
fn the_program_says_the_same_and_leaves_nothing() {
    let dir = tempfile::TempDir::new().expect("a directory");
    fs::create_dir_all(dir.path().join("bundle/rootfs")).expect("mkdir");
    let mut wrong = Vec::new();
    for (pointer, value, expected) in cases() {
        let config = broken(pointer, value.as_ref()).to_string();
        fs::write(dir.path().join("bundle/config.json"), config).expect("write");
        let (status, said) = create(dir.path());
        // Quotes in it may be written as the log's form wants them.
        let said = said.replace('\\', "");
        if status != Some(1) || !said.contains(expected) {
            wrong.push(format!("{pointer} = {value:?}: status {status:?}, said {said:?} instead of {expected}"));
        }
        for left in ["root/broken", "data/layers"] {
            if dir.path().join(left).exists() {
                wrong.push(format!("{pointer} = {value:?}: {left} is left"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

//! What only a guest can show of a container: limits of memory and processes, namespaces of every kind, the disk below.

use std::process::{Child, Output, Stdio};

use serde_json::{Value, json};
use supermachine_vmm_api::{Client, Reply, Request};

use crate::harness::{Config, collect, create, finish};

/// A machine with its container, which runs.
struct Machine {
    config: Config,
    client: Client,
    child: Option<Child>,
}

impl Machine {
    /// Boots, creates the container and starts it.
    fn run(container: Value) -> Self {
        let config = Config::for_container();
        let config_arg = format!("--control={}", config.control_path().display());
        let config = config.arg(&config_arg);
        let (stream, child) = config.start_inherited(Stdio::null());
        let client = Client::from_stream(stream, "e2e tests").expect("hellos");
        let mut machine = Self { config, client, child: Some(child) };
        let container = serde_json::from_value(container).expect("a container");
        create(&mut machine.client, container).unwrap_or_else(|error| panic!("{error}: {}", machine.config.stderr()));
        machine.ask(&Request::Start {});
        machine
    }

    fn ask(&mut self, request: &Request) -> Reply {
        self.client.request(request).unwrap_or_else(|error| panic!("{error}: {}", self.config.stderr()))
    }

    fn end(mut self) -> Output {
        finish(self.child.take().expect("not ended"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn container(script: &str) -> Value {
    let mount = |destination: &str, fstype: &str, data: &str| json!({"destination": destination, "source": {"filesystem": {"fstype": fstype, "source": fstype}}, "data": data});
    let device = |name: &str, minor: u32| json!({"path": format!("/dev/{name}"), "kind": "character", "major": 1, "minor": minor, "mode": 0o666, "uid": 0, "gid": 0});
    json!({
        "id": "test",
        "root": {},
        "process": {"argv": ["sh", "-c", script], "env": ["PATH=/bin"]},
        "hostname": "box",
        "namespaces": ["pid", "ipc", "uts", "mount", "network", "cgroup"],
        "mounts": [
            mount("/proc", "proc", ""), mount("/dev", "tmpfs", "mode=755"), mount("/dev/pts", "devpts", "newinstance,ptmxmode=0666"),
            mount("/dev/shm", "tmpfs", "mode=1777"), mount("/sys", "sysfs", ""),
            {"destination": "/sys/fs/cgroup", "source": {"cgroup": {}}, "flags": ["ro"]},
        ],
        "devices": [device("null", 3), device("zero", 5)],
    })
}

fn with_limits(script: &str, files: Value) -> Value {
    let mut container = container(script);
    container["resources"] = json!({"files": files});
    container
}

#[test]
fn a_container_that_runs_out_of_memory_is_killed() {
    let limits = json!({"memory.max": "16777216", "memory.swap.max": "0"});
    let machine = Machine::run(with_limits("exec dd if=/dev/zero of=/dev/null bs=67108864 count=1", limits));
    let output = machine.end();
    assert_eq!(output.status.code(), Some(137), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn limits_count_and_can_be_changed() {
    let script = "cat /sys/fs/cgroup/memory.max; sleep 1000 & sleep 1000 & sleep 1000 & wait";
    let limits = json!({"pids.max": "10", "memory.max": "33554432", "cpu.max": "50000 100000", "cpu.weight": "50"});
    let mut machine = Machine::run(with_limits(script, limits));
    let update = |files: Value| Request::Update(serde_json::from_value(json!({"files": files})).expect("resources"));
    machine.ask(&update(json!({"pids.max": "20"})));
    // The second file is refused, so the first is as it was.
    let refused = machine.client.request(&update(json!({"memory.max": "67108864", "pids.max": "many"})));
    assert!(refused.is_err(), "{refused:?}");
    let Reply::Usage(usage) = machine.ask(&Request::Usage {}) else { panic!("its usage") };
    let read = |name: &str| usage.files[name].trim().to_owned();
    assert_eq!(
        (read("pids.max"), read("memory.max"), read("cpu.max")),
        ("20".into(), "33554432".into(), "50000 100000".into())
    );
    assert!(read("memory.current").parse::<u64>().expect("a number") > 0);
    // Its last programs run, so what it printed before is printed.
    loop {
        let Reply::Processes(processes) = machine.ask(&Request::Processes {}) else { panic!("its processes") };
        assert!(processes.iter().any(|process| process.container_pid == 1), "{processes:?}");
        if processes.iter().filter(|process| process.command == "sleep 1000").count() == 3 {
            break;
        }
    }
    machine.ask(&Request::KillAll { signal: 9 });
    let output = machine.end();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()), (Some(137), "33554432\n"));
}

#[test]
fn every_namespace_can_be_its_own() {
    let mut container =
        container("cat /proc/self/uid_map; id; uname -n; echo x >/dev/null && cat /proc/1/comm; wc -l </proc/net/dev");
    container["namespaces"] = json!(["pid", "ipc", "uts", "mount", "network", "cgroup", "user", "time"]);
    for ids in ["uid_mappings", "gid_mappings"] {
        container[ids] = json!([{"container": 0, "guest": 1000, "size": 2000}]);
    }
    container["time_offsets"] = json!({"boottime": {"secs": 1000}});
    let output = Machine::run(container).end();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let words: Vec<&str> = text.split_whitespace().collect();
    let want = ["0", "1000", "2000", "uid=0(root)", "gid=0", "box", "sh", "3"];
    assert_eq!(
        (words.as_slice(), output.status.code()),
        (want.as_slice(), Some(0)),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_process_that_joins_outlives_an_oom_beside_it() {
    let limits = json!({"memory.max": "25165824", "memory.swap.max": "0"});
    let script = "dd if=/dev/zero of=/dev/null bs=67108864 count=1; echo $?; cat /etc/passwd; exec sleep 1000";
    let mut machine = Machine::run(with_limits(script, limits));
    let client = Client::connect(&machine.config.control_path(), "e2e tests").expect("the control socket");
    let exec = json!({"argv": ["sh", "-c", "while ! grep -q sleep /proc/1/comm; do sleep 0.1; done; cat /etc/passwd"], "env": ["PATH=/bin"], "container": true});
    let joined = collect(client.exec(serde_json::from_value(exec).expect("an exec")).expect("it joins"));
    assert_eq!(joined.text(), "root:x:0:0::/:/bin/sh");
    machine.ask(&Request::Kill { signal: 9 });
    let output = machine.end();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "137\nroot:x:0:0::/:/bin/sh\n");
}

//! Lists, statistics and limits.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::Place;

#[test]
fn lists_show_containers_and_their_processes() {
    let place = Place::new();
    assert_eq!(place.good(&["list"]), "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n");
    assert_eq!(place.good(&["list", "-f", "json"]), "null\n");
    let one = place.start("one", &["sh", "-c", "sleep 987; true"]);
    let two = place.create("two", &["true"]);
    assert_eq!(place.good(&["list", "-q"]), "one\ntwo\n");
    let list: Value = serde_json::from_str(&place.good(&["list", "--format", "json"])).expect("JSON");
    assert_eq!(
        (&list[0]["id"], &list[0]["status"], &list[0]["pid"]),
        (&json!("one"), &json!("running"), &json!(one.pid))
    );
    assert_eq!((&list[1]["status"], &list[1]["owner"]), (&json!("created"), &json!("root")));
    let table = place.good(&["list"]);
    assert!(table.lines().nth(1).is_some_and(|line| line.starts_with("one ") && line.contains(" running ")), "{table}");
    let processes = place.good(&["ps", "one"]);
    assert!(processes.starts_with("UID          PID    PPID  C STIME TTY          TIME CMD\n"), "{processes}");
    assert!(processes.contains("sleep 987") && processes.contains("sh -c"), "{processes}");
    let columns = place.good(&["ps", "one", "-o", "pid,comm"]);
    assert!(columns.starts_with("    PID COMMAND\n      1 sh\n"), "{columns}");
    let pids: Vec<u32> = serde_json::from_str(&place.good(&["ps", "--format", "json", "one"])).expect("JSON");
    assert!(pids.contains(&one.pid), "{pids:?}");
    for container in [one, two] {
        place.good(&["delete", "--force", &container.id]);
        container.wait();
    }
    place.assert_clean();
}

#[test]
fn statistics_are_not_zero_and_go_on() {
    let place = Place::new();
    let container = place.create_with("c", &["sh", "-c", "while :; do :; done"], |config| {
        config["linux"]["resources"] = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 50}});
    });
    place.good(&["start", "c"]);
    let event: Value = serde_json::from_str(&place.good(&["events", "--stats", "c"])).expect("JSON");
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!("c")));
    let data = &event["data"];
    assert!(data["memory"]["usage"]["usage"].as_u64().is_some_and(|bytes| bytes > 0), "{event}");
    assert_eq!(data["memory"]["usage"]["limit"], json!(64 << 20));
    assert!(data["memory"]["raw"]["anon"].is_u64() && data["pids"]["current"].as_u64() >= Some(1), "{event}");
    assert_eq!(data["pids"]["limit"], json!(50));
    let mut command = place.command(&["events", "--interval", "300ms", "c"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut cpu = || {
        let line = lines.next().expect("a line").expect("text");
        let event: Value = serde_json::from_str(&line).expect("JSON");
        event["data"]["cpu"]["usage"]["total"].as_u64().expect("a number")
    };
    let (first, second) = (cpu(), cpu());
    assert!(second > first && first > 0, "{first} {second}");
    place.good(&["kill", "c", "9"]);
    assert_eq!(container.wait(), 137);
    assert!(child.wait().expect("ends").success(), "it ends with the container");
    container.delete();
    place.assert_clean();
}

#[test]
fn limits_hold_and_change() {
    let place = Place::new();
    let container = place.create_with("c", &["sleep", "1000"], |config| {
        config["linux"]["resources"] = json!({"memory": {"limit": 64 << 20}, "pids": {"limit": 50}});
    });
    place.good(&["start", "c"]);
    let read = |file: &str| container.exec(&["cat", &format!("/sys/fs/cgroup/{file}")]).stdout.trim().to_owned();
    assert_eq!((read("memory.max"), read("pids.max")), ((64 << 20).to_string(), "50".to_owned()));
    place.good(&[
        "update",
        "--memory",
        "96m",
        "--pids-limit",
        "20",
        "--cpu-quota",
        "20000",
        "--cpu-period",
        "100000",
        "c",
    ]);
    assert_eq!((read("memory.max"), read("pids.max")), ((96 << 20).to_string(), "20".to_owned()));
    assert_eq!(read("cpu.max"), "20000 100000");
    let file = place.path("resources.json");
    std::fs::write(&file, r#"{"memory":{"limit":83886080,"reservation":0},"cpu":{"shares":512}}"#).expect("a file");
    place.good(&["update", "--resources", file.to_str().expect("plain"), "c"]);
    assert_eq!((read("memory.max"), read("pids.max")), ((80 << 20).to_string(), "20".to_owned()));
    assert!(place.bad(&["update", "--memory", "foo", "c"]).contains("invalid value for memory"));
    // More processes than are allowed.
    let script = "i=0; while [ $i -lt 40 ]; do sleep 2 & i=$((i+1)); done; wait";
    let full = container.exec(&["sh", "-c", script]);
    assert!(full.stderr.contains("can't fork"), "{full:?}");
    place.good(&["delete", "-f", "c"]);
    container.wait();
    place.assert_clean();
}

#[test]
fn memory_that_runs_out_ends_the_container_and_is_told() {
    let place = Place::new();
    let grow = "sleep 1; x=$(head -c 67108864 /dev/zero | tr '\\0' x); echo survived";
    let container = place.create_with("c", &["sh", "-c", grow], |config| {
        config["linux"]["resources"] = json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
    });
    place.good(&["start", "c"]);
    assert_eq!(container.wait(), 137, "{}", container.output());
    assert!(!container.output().contains("survived"));
    container.delete();
    // A child that is killed does not end the container, and the statistics tell of it.
    let grow = "sh -c \"x=\\$(head -c 67108864 /dev/zero | tr '\\\\0' x)\"; echo ended-$?; sleep 1000";
    let container = place.create_with("d", &["sh", "-c", grow], |config| {
        config["linux"]["resources"] = json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
    });
    let mut command = place.command(&["events", "--interval", "200ms", "d"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    lines.next().expect("a line").expect("text");
    place.good(&["start", "d"]);
    container.wait_for_output("ended-137");
    let oom = lines.map(|line| line.expect("text")).find(|line| line.contains("\"oom\""));
    assert_eq!(oom.as_deref(), Some("{\"type\":\"oom\",\"id\":\"d\"}"));
    place.good(&["delete", "-f", "d"]);
    container.wait();
    child.wait().expect("ends");
    place.assert_clean();
}

//! The verb `templates` on a store that the test fills.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use supermachine_snapshot::store::{Parts, Store, Template};
use supermachine_snapshot::{About, Kind, Present, Region, Writer};
use tempfile::TempDir;

fn parts(name: &str) -> Parts {
    Parts::new().with("kernel", name.repeat(64)).with("memory", "512")
}

fn bake(data: &Path, parts: &Parts) -> Template {
    let about = About {
        kind: Kind::Base,
        software: "supermachine-vmm 0.1.0".to_owned(),
        created_unix_ms: 1_700_000_000_000,
        hypervisor: "soft".to_owned(),
        cpu_model: "v2".to_owned(),
        vcpus: 1,
        devices: Vec::new(),
        key: parts.to_map(),
        base: None,
    };
    let fill = |_: u64, into: &mut [u8]| -> io::Result<()> {
        into.fill(1);
        Ok(())
    };
    let bake = |path: &Path| {
        let regions = [Region { gpa: 0, bytes: 256 << 10 }];
        Writer::create(path)?.finish(about, &regions, Present::All, &fill)?;
        Ok(())
    };
    Store::open(data).expect("a store").get_or_bake(parts, bake, &mut |_| ()).expect("bakes")
}

fn templates(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_supermachine-runtime"));
    command.arg("templates").args(arguments).env("SUPERMACHINE_DATA", data).output().expect("runs")
}

fn good(data: &Path, arguments: &[&str]) -> String {
    let output = templates(data, arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn they_are_listed() {
    let dir = TempDir::new().expect("a directory");
    assert_eq!(good(dir.path(), &["list", "--format", "json"]), "[]\n");
    let template = bake(dir.path(), &parts("a"));
    let text = good(dir.path(), &["list"]);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("KEY            KIND"), "{text}");
    assert!(lines[1].starts_with(template.key().short()) && lines[1].contains("256 KiB"), "{text}");
    assert!(lines[1].ends_with("kernel=aaaaaaaaaaaa memory=512"), "{text}");
    let json: Value = serde_json::from_str(&good(dir.path(), &["list", "-f", "json"])).expect("JSON");
    let entry = &json[0];
    assert_eq!(entry["key"], template.key().as_str());
    assert_eq!(entry["id"], template.snapshot().id().to_string());
    assert_eq!(entry["created"], "2023-11-14T22:13:20Z");
    assert_eq!(
        (&entry["inUse"], &entry["memoryBytes"], &entry["kind"]),
        (&true.into(), &(256 << 10).into(), &"base".into())
    );
    assert_eq!(entry["parts"]["kernel"], "a".repeat(64));
}

#[test]
fn a_damaged_one_is_listed_with_what_is_wrong() {
    let dir = TempDir::new().expect("a directory");
    let path = bake(dir.path(), &parts("a")).path().join("state");
    fs::write(path, "nonsense").expect("writes");
    let text = good(dir.path(), &["list"]);
    assert!(text.contains("damaged") && text.contains("its magic is missing"), "{text}");
    let json: Value = serde_json::from_str(&good(dir.path(), &["list", "-f", "json"])).expect("JSON");
    assert!(json[0]["error"].as_str().is_some_and(|error| error.contains("magic")), "{json}");
}

#[test]
fn those_in_use_are_not_pruned() {
    let dir = TempDir::new().expect("a directory");
    let (used, unused) = (bake(dir.path(), &parts("a")), bake(dir.path(), &parts("b")));
    let gone = unused.key().short().to_owned();
    drop(unused);
    assert!(good(dir.path(), &["prune", "--older-than", "1h"]).contains(&format!("{gone}: kept, it was used lately")));
    let text = good(dir.path(), &["prune"]);
    assert!(text.contains(&format!("{}: kept, it is in use", used.key().short())), "{text}");
    assert!(text.contains(&format!("{gone}: removed, ")), "{text}");
    assert_eq!(good(dir.path(), &["list"]).lines().count(), 2);
}

#[test]
fn verify_names_the_damaged_one_and_removes_it() {
    let dir = TempDir::new().expect("a directory");
    let (whole, damaged) = (bake(dir.path(), &parts("a")), bake(dir.path(), &parts("b")));
    let memory = File::options().write(true).open(damaged.path().join("memory")).expect("opens");
    memory.write_all_at(&[9], 5000).expect("writes");
    let output = templates(dir.path(), &["verify"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("{}: whole\n", whole.key().short())), "{text}");
    let line = format!("{}: removed: the memory file is damaged: its digest differs\n", damaged.key().short());
    assert!(text.contains(&line), "{text}");
    assert_eq!(good(dir.path(), &["verify", whole.key().short()]).lines().count(), 1);
    let error = templates(dir.path(), &["verify", damaged.key().short()]);
    assert!(!error.status.success() && String::from_utf8_lossy(&error.stderr).contains("there is no template"));
}

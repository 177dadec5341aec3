//! Snapshots whose digests are right and whose contents are not: each is refused in a line, and no guest runs.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use supermachine_snapshot::{Limits, Present, Region, Snapshot, Writer};
use tempfile::TempDir;

use crate::harness::Config;

/// A change to a good state, by the pointer of what is replaced.
struct Wrong {
    at: &'static str,
    with: Value,
    /// What the refusal must say.
    says: &'static str,
}

fn wrong(at: &'static str, with: Value, says: &'static str) -> Wrong {
    Wrong { at, with, says }
}

fn cases() -> Vec<Wrong> {
    vec![
        wrong("/memory_bytes", json!(4096), "memory: 0 MiB is too small"),
        wrong("/memory_bytes", json!(256 << 20), "regions are not those of a machine"),
        wrong("/memory_bytes", json!(1u64 << 60), "memory"),
        wrong("/vcpus", json!([]), "vcpus: 0 is not possible"),
        wrong("/cpu_model", json!("another"), "another"),
        wrong("/vm/chips", json!([]), "chip"),
        wrong("/vm/clock_ns", json!("soon"), "not a machine of this version"),
        wrong("/unknown", json!(1), "not a machine of this version"),
        wrong("/devices/vsock/device/guest_cid", json!(2), "vsock"),
        wrong("/devices/vsock/transport/status", json!(0xff), "vsock"),
        wrong("/devices/vsock/transport/queues", json!([]), "vsock"),
        wrong("/devices/vsock/transport/queues/0/desc_table", json!(u64::MAX - 15), "vsock"),
        wrong("/devices/vsock/transport/queues/1/size", json!(3), "vsock"),
        wrong("/devices/rng/device_type", json!(2), "rng"),
        wrong("/devices/rng/driver_features", json!(u64::MAX), "rng"),
        wrong("/devices/balloon/transport/interrupt_status", json!(0xff), "balloon"),
        wrong("/devices/disks/0/device/read_only", json!(false), "disk"),
        wrong("/devices/disks/0/device/capacity_sectors", json!(u64::MAX), "disk"),
        wrong("/devices/disks", json!([]), "disks are 0 in it, 1 here"),
        wrong("/devices/serial/modem_control", json!(0xff), "serial port"),
        wrong("/devices/serial/input", json!(vec![0; 4096]), "serial port"),
        wrong("/vcpus/0/x86/sregs/cr0", json!(u64::MAX), "sregs"),
        wrong("/vcpus/0/x86/xsave", json!([]), "xsave"),
        wrong("/vcpus/0/x86/lapic", json!([1, 2, 3]), "lapic"),
        wrong("/vcpus/0/x86/msrs", json!([[0xdead, 1]]), "msrs"),
    ]
}

/// The snapshot at `from` with another state. Its RAM is empty: it is not looked at before the rest is found good.
fn rewrite(from: &Path, to: PathBuf, state: &Value) -> PathBuf {
    let good = Snapshot::open(from, &Limits::default()).expect("a snapshot");
    let mut writer = Writer::create(&to).expect("a directory");
    writer.section("machine", state.to_string().into_bytes()).expect("a section");
    let regions: Vec<Region> = good.manifest().memory.regions.clone();
    let zeroes = |_: u64, into: &mut [u8]| {
        into.fill(0);
        Ok(())
    };
    writer.finish(good.manifest().about.clone(), &regions, Present::Spans(&[]), &zeroes).expect("written");
    to
}

fn read_state(from: &Path) -> Value {
    let snapshot = Snapshot::open(from, &Limits::default()).expect("a snapshot");
    serde_json::from_slice(snapshot.section("machine").expect("its section")).expect("JSON")
}

#[track_caller]
fn refused(dir: &Path, says: &str) {
    let output = Config::restored(dir).run(&["/init"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(says), "{said:?} does not say {says:?}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn hostile_states_are_refused_before_the_guest_runs() {
    let machine = Config::new().arg("--memory=128M").start();
    let snapshot = machine.snapshot("good");
    let work = TempDir::new().expect("a directory");
    let good = read_state(&snapshot);
    for (number, Wrong { at, with, says }) in cases().into_iter().enumerate() {
        let mut state = good.clone();
        match state.pointer_mut(at) {
            Some(place) => *place = with,
            None => state[at.trim_start_matches('/')] = with,
        }
        let bad = rewrite(&snapshot, work.path().join(number.to_string()), &state);
        refused(&bad, says);
    }
}

#[test]
fn damaged_and_missing_files_are_refused() {
    let machine = Config::new().arg("--memory=128M").start();
    let snapshot = machine.snapshot("good");
    refused(Path::new("/no/such/snapshot"), "cannot open");
    let memory = std::fs::OpenOptions::new().write(true).open(snapshot.join("memory")).expect("a file");
    let length = memory.metadata().expect("a file").len();
    memory.set_len(length - 4096).expect("shorter");
    refused(&snapshot, "memory");
    let state = snapshot.join("state");
    let mut bytes = std::fs::read(&state).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&state, bytes).expect("a file");
    refused(&snapshot, "damaged");
}

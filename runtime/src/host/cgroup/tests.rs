use std::sync::atomic::{AtomicU32, Ordering};

use oci_spec::runtime::LinuxResources;
use serde_json::json;

use super::*;

static COUNTER: AtomicU32 = AtomicU32::new(0);

fn name(what: &str) -> String {
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("/supermachine-test-{}-{number}/{what}", std::process::id())
}

fn resources(value: serde_json::Value) -> LinuxResources {
    serde_json::from_value(value).unwrap()
}

/// Makes a group unless this host has none for us.
fn create(path: &str) -> Option<Cgroup> {
    match Intent::new(Some(path), "x").and_then(|intent| intent.make()) {
        Err(CgroupError::Nowhere { source, .. }) => {
            eprintln!(
                "skipped: no control group can be made here ({source}); run as root with a writable /sys/fs/cgroup"
            );
            None
        }
        other => Some(other.unwrap()),
    }
}

fn read(group: &Cgroup, controller: &str, file: &str) -> Option<String> {
    let (_, folder) = group.folders().find(|(name, _)| *name == controller)?;
    fs::read_to_string(folder.join(file)).ok().map(|text| text.trim().to_owned())
}

#[test]
fn limits_are_set_with_room_for_the_machine_and_all_is_removed() {
    let resources = resources(json!({
        "memory": {"limit": 50 << 20, "reservation": 40 << 20, "swappiness": 50},
        "cpu": {"shares": 1024, "quota": 100_000, "period": 50_000, "cpus": "0", "mems": "0"},
        "pids": {"limit": 1000},
        "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}],
    }));
    let unified = [("memory.max", "52428800"), ("pids.max", "1000")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let limits = Limits { resources: &resources, unified: &unified, guest_ram: 256 << 20 };
    let Some(group) = create(&name("a")) else { return };
    group.set(&limits).unwrap();
    let room = ((256 << 20) + VMM_MEMORY).to_string();
    let expected = [
        ("memory", "memory.limit_in_bytes", room.as_str()),
        ("memory", "memory.soft_limit_in_bytes", "41943040"),
        ("cpu", "cpu.shares", "1024"),
        ("cpu", "cpu.cfs_quota_us", "100000"),
        ("cpu", "cpu.cfs_period_us", "50000"),
        ("cpuset", "cpuset.cpus", "0"),
        ("pids", "pids.max", "1000"),
        ("", "memory.max", room.as_str()),
        ("", "pids.max", "1000"),
    ];
    let wrong: Vec<_> = expected
        .iter()
        .filter_map(|(controller, file, value)| Some((file, read(&group, controller, file)?, value)))
        .filter(|(_, is, should)| is != *should)
        .collect();
    let devices = read(&group, "devices", "devices.list");
    let folders: Vec<_> = group.folders().map(|(_, folder)| folder.to_owned()).collect();
    group.remove().unwrap();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(devices.is_none_or(|list| list == "c 10:229 rw"));
    assert!(!folders.is_empty());
    assert!(folders.iter().all(|folder| !folder.exists() && !folder.parent().unwrap().exists()), "{folders:?}");
}

#[test]
fn a_limit_that_is_refused_is_named() {
    let resources = resources(json!({"cpu": {"cpus": "4000-4001"}}));
    let unified = [("cpuset.cpus".to_owned(), "4000-4001".to_owned())].into();
    let limits = Limits { resources: &resources, unified: &unified, guest_ram: 256 << 20 };
    let Some(group) = create(&name("b")) else { return };
    let set = group.set(&limits);
    let has_cpuset = group.folders().any(|(name, _)| name == "cpuset");
    group.remove().unwrap();
    // Cgroup v2 takes any list and runs the group where it can.
    assert!(!has_cpuset || set.is_err_and(|error| error.to_string().contains("cpuset.cpus")));
}

#[test]
fn a_group_that_was_there_before_stays() {
    let path = name("d");
    let Some(mine) = create(&path) else { return };
    let other = create(&path).unwrap();
    other.remove().unwrap();
    let stays = mine.folders().all(|(_, folder)| folder.exists());
    mine.remove().unwrap();
    assert!(stays);
}

#[test]
fn paths_that_lead_out_are_refused() {
    for path in ["", "/", "/..", "a/../b", "../a", ".", "/a\0b"] {
        let error = Intent::new(Some(path), "x").expect_err(path);
        assert!(error.to_string().starts_with("linux.cgroupsPath: "), "{error}");
    }
}

#[test]
fn two_at_once_in_one_parent_do_not_disturb_each_other() {
    let parent = name("");
    let one = |number: u32| {
        let path = format!("{parent}{number}");
        for _ in 0..20 {
            let Some(group) = create(&path) else { return };
            group.remove().unwrap();
        }
    };
    // The one that made the folder above them is not always the last to use it, so the test owns it.
    let Some(above) = create(&format!("{parent}above")) else { return };
    std::thread::scope(|scope| {
        for number in 0..3 {
            scope.spawn(move || one(number));
        }
    });
    above.remove().unwrap();
}

#[test]
fn a_record_gives_the_group_back() {
    let Some(group) = create(&name("c")) else { return };
    let record = serde_json::to_string(&group).unwrap();
    let again: Cgroup = serde_json::from_str(&record).unwrap();
    assert_eq!(again, group);
    again.remove().unwrap();
    again.remove().unwrap();
}

#[test]
fn a_promise_removes_what_was_made_until_its_maker_was_killed() {
    let path = name("e");
    let intent = Intent::new(Some(&path), "x").unwrap();
    let promised = intent.promised();
    promised.remove().unwrap();
    let Some(group) = create(&path) else { return };
    let folders: Vec<_> = group.folders().map(|(_, folder)| folder.to_owned()).collect();
    // The first hierarchy is done, the second is begun, the others are as they were.
    for (index, folder) in folders.iter().enumerate().skip(1) {
        fs::remove_dir(folder).unwrap();
        if index > 1 {
            fs::remove_dir(folder.parent().unwrap()).unwrap();
        }
    }
    let record = serde_json::to_string(&promised).unwrap();
    serde_json::from_str::<Cgroup>(&record).unwrap().remove().unwrap();
    assert!(folders.iter().all(|folder| !folder.parent().unwrap().exists()), "{folders:?}");
}

#[test]
fn a_promise_leaves_what_others_made_or_use() {
    let path = name("f");
    let early = Intent::new(Some(&path), "x").unwrap().promised();
    let Some(other) = create(&path) else { return };
    Intent::new(Some(&path), "x").unwrap().promised().remove().unwrap();
    let mut user = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    for (_, folder) in other.folders() {
        fs::write(folder.join("cgroup.procs"), user.id().to_string()).unwrap();
    }
    let removed = early.remove();
    let stays = other.folders().all(|(_, folder)| folder.exists());
    user.kill().unwrap();
    user.wait().unwrap();
    other.remove().unwrap();
    removed.unwrap();
    assert!(stays);
}

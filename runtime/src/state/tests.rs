use super::*;
use std::collections::BTreeMap;

fn record(id: &str) -> Record {
    Record {
        version: VERSION,
        id: id.to_owned(),
        oci_version: "1.0.2".to_owned(),
        bundle: "/b".into(),
        rootfs: "/b/rootfs".into(),
        annotations: BTreeMap::new(),
        created: "2026-11-21T04:47:23.220062605Z".to_owned(),
        vmm: Some(Vmm { pid: 42, started: 7 }),
        template: None,
        complete: true,
        memory_mib: 256,
        has_volumes: false,
        volumes: Vec::new(),
        terminal: false,
        cgroup: serde_json::Value::Null,
        resources: Default::default(),
        layers_hold: "/d".into(),
        poststart: Vec::new(),
        poststop: Vec::new(),
        warnings: Vec::new(),
    }
}

fn root() -> (tempfile::TempDir, Root) {
    let dir = tempfile::TempDir::new().expect("a directory");
    let root = Root::new(dir.path().join("root"));
    (dir, root)
}

#[test]
fn of_two_that_make_one_id_one_wins() {
    let (_dir, root) = root();
    let results: Vec<_> = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..8).map(|_| scope.spawn(|| root.make("a").map(|(dir, _)| dir))).collect();
        makers.into_iter().map(|maker| maker.join().expect("no panic")).collect()
    });
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(results.iter().all(|result| matches!(result, Ok(_) | Err(StateError::Exists))), "{results:?}");
}

#[test]
fn a_record_is_read_as_it_was_written_and_its_state_is_the_specification_s() {
    let (_dir, root) = root();
    let (dir, _lock) = root.make("a").expect("makes");
    assert_eq!(dir.record().expect("reads"), None);
    dir.write_record(&record("a")).expect("writes");
    let read = dir.record().expect("reads").expect("a record");
    assert_eq!(read, record("a"));
    assert_eq!(
        serde_json::to_string(&read.oci_state(Status::Running)).expect("JSON"),
        "{\"ociVersion\":\"1.0.2\",\"id\":\"a\",\"pid\":42,\"status\":\"running\",\"bundle\":\"/b\",\
         \"rootfs\":\"/b/rootfs\",\"created\":\"2026-11-21T04:47:23.220062605Z\",\"owner\":\"\"}"
    );
    assert_eq!(read.oci_state(Status::Stopped).pid, 0);
}

#[test]
fn who_waited_for_a_deleted_container_is_told() {
    let (_dir, root) = root();
    let (dir, held) = root.make("a").expect("makes");
    dir.write_record(&record("a")).expect("writes");
    let found = root.find("a").expect("exists");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| found.lock().map(drop));
        dir.remove().expect("removes");
        drop(held);
        let result = waiting.join().expect("no panic");
        assert!(matches!(result, Err(StateError::Deleted | StateError::Io { .. })), "{result:?}");
    });
    assert!(matches!(root.find("a"), Err(StateError::NoContainer)));
    assert!(root.all().expect("lists").is_empty());
}

#[test]
fn a_directory_without_a_record_is_found_and_removed() {
    let (_dir, root) = root();
    let (dir, lock) = root.make("a").expect("makes");
    drop(lock);
    std::fs::write(dir.join(".state.json.7"), "half").expect("writes");
    let found = root.find("a").expect("exists");
    assert!(!found.is_alive().expect("asks"));
    found.remove().expect("removes");
    found.remove().expect("twice");
    assert!(matches!(root.find("../a"), Err(StateError::NoContainer)));
}

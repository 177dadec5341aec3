//! What a snapshot costs: printed, and bounded where a restore waits for it. `cargo test --release --test cost -- --nocapture`

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use supermachine_snapshot::store::{Parts, Store};
use supermachine_snapshot::{About, Kind, Layout, Limits, Present, Region, Snapshot, Span, Writer};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

/// Saves a machine of which every other MiB of the first 120 is used; its state is 256 KiB.
fn save(path: &Path, ram_mib: u64, parts: &Parts) {
    let about = About {
        kind: Kind::Base,
        software: "test".to_owned(),
        created_unix_ms: 1,
        hypervisor: "soft".to_owned(),
        cpu_model: "v2".to_owned(),
        vcpus: 1,
        devices: Vec::new(),
        key: parts.to_map(),
        base: None,
    };
    let fill = |gpa: u64, into: &mut [u8]| -> io::Result<()> {
        into.iter_mut().zip(gpa..).for_each(|(byte, at)| *byte = (at ^ (at >> 12)) as u8 | 1);
        Ok(())
    };
    let mut writer = Writer::create(path).expect("begins");
    (0..16).for_each(|index| writer.section(&format!("part.{index}"), vec![index; 16 << 10]).expect("a section"));
    let spans: Vec<_> = (0..60).map(|index| Span { gpa: 2 * index * MIB, bytes: MIB }).collect();
    let regions = [Region { gpa: 0, bytes: ram_mib * MIB }];
    writer.finish(about, &regions, Present::Spans(&spans), &fill).expect("saves");
}

/// The median of many.
fn median(mut measured: impl FnMut()) -> Duration {
    let time = |_| {
        let begin = Instant::now();
        measured();
        begin.elapsed()
    };
    let mut times: Vec<_> = (0..101).map(time).collect();
    times.sort_unstable();
    times[times.len() / 2]
}

fn open(path: &Path) -> Snapshot {
    Snapshot::open(path, &Limits::default()).expect("opens")
}

#[test]
fn opening_does_not_grow_with_ram() {
    let dir = TempDir::new().expect("a directory");
    let parts = Parts::new();
    let [small, large] = [256, 4096].map(|mib| (mib, dir.path().join(mib.to_string())));
    for (mib, path) in [&small, &large] {
        let begin = Instant::now();
        save(path, *mib, &parts);
        println!("saving 60 MiB of {mib} MiB: {:?}", begin.elapsed());
    }
    let [small, large] = [small.1, large.1].map(|path| {
        let begin = Instant::now();
        open(&path).verify().expect("is whole");
        println!("verifying: {:?}", begin.elapsed());
        let time = median(|| drop(Layout::new(&open(&path), None).expect("a layout").regions));
        println!("opening: {time:?}");
        time
    });
    assert!(large <= Duration::from_millis(1), "{large:?}");
    assert!(large <= small * 2, "{small:?}, {large:?}");
}

#[test]
fn a_template_is_found_in_no_time() {
    let dir = TempDir::new().expect("a directory");
    let store = Store::open(dir.path()).expect("a store");
    let parts = Parts::new().with("kernel", "a");
    let bake = |path: &Path| {
        save(path, 512, &parts);
        Ok(())
    };
    drop(store.get_or_bake(&parts, bake, &mut |_| ()).expect("bakes"));
    let found = median(|| drop(store.get(&parts).expect("is there")));
    let shell = Path::new("/bin/sh").canonicalize().expect("a shell");
    let digest = median(|| drop(store.digest_of(&shell).expect("reads")));
    println!("finding a template: {found:?}, a digest: {digest:?}");
    assert!(found <= Duration::from_millis(1), "{found:?}");
}

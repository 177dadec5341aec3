//! A baker whose templates can be told apart.

use std::fs;
use std::io;
use std::path::Path;

use supermachine_snapshot::store::{BakeFailure, Event, Parts, Store, StoreError, Template};
use supermachine_snapshot::{About, Kind, Present, Region, SnapshotId, Writer};

pub(crate) fn parts(name: &str) -> Parts {
    Parts::new().with("kernel", name).with("vcpus", 1)
}

/// Saves a machine of 256 KiB whose pages hold `mark`.
pub(crate) fn bake(path: &Path, parts: &Parts, mark: u8, base: Option<SnapshotId>) -> Result<(), BakeFailure> {
    let about = About {
        kind: if base.is_some() { Kind::Image } else { Kind::Base },
        software: "test".to_owned(),
        created_unix_ms: 1,
        hypervisor: "soft".to_owned(),
        cpu_model: "v2".to_owned(),
        vcpus: 1,
        devices: Vec::new(),
        key: parts.to_map(),
        base,
    };
    let fill = |_: u64, into: &mut [u8]| -> io::Result<()> {
        into.fill(mark);
        Ok(())
    };
    let mut writer = Writer::create(path)?;
    writer.section("mark", vec![mark; 100])?;
    writer.section("vcpu.0", vec![1; 1000])?;
    writer.finish(about, &[Region { gpa: 0, bytes: 256 << 10 }], Present::All, &fill)?;
    Ok(())
}

/// Gets or bakes; gives what was told, too.
pub(crate) fn get(store: &Store, parts: &Parts, mark: u8) -> (Result<Template, StoreError>, Vec<String>) {
    let mut told = Vec::new();
    let mut tell = |event: Event<'_>| {
        told.push(match event {
            Event::Waiting => "waiting".to_owned(),
            Event::Baking => "baking".to_owned(),
            Event::Removed { reason, .. } => format!("removed: {reason}"),
        });
    };
    let result = store.get_or_bake(parts, |path| bake(path, parts, mark, None), &mut tell);
    (result, told)
}

/// The mark of a template.
pub(crate) fn mark(template: &Template) -> u8 {
    template.snapshot().verify().expect("is whole");
    template.snapshot().section("mark").expect("is there")[0]
}

/// Names in the store's directory, sorted.
pub(crate) fn names(store: &Store) -> Vec<String> {
    let entries = fs::read_dir(store.dir()).expect("lists");
    let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name().display().to_string()).collect();
    names.sort();
    names
}

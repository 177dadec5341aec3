//! Templates as columns for people, or JSON.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use supermachine_snapshot::store::Entry;
use supermachine_snapshot::{Kind, Manifest, SnapshotId};

use crate::time;

use super::super::list::Format;
use super::super::table::Table;

/// One template in JSON. What a template that cannot be opened does not tell is left out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    key: &'a str,
    disk_bytes: u64,
    in_use: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(flatten)]
    content: Option<Content<'a>>,
}

/// What a template says of itself.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Content<'a> {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<String>,
    kind: Kind,
    created: String,
    software: &'a str,
    hypervisor: &'a str,
    cpu_model: &'a str,
    vcpus: u16,
    memory_bytes: u64,
    parts: &'a BTreeMap<String, String>,
}

/// All of them.
pub(super) fn text(entries: &[Entry], format: Format) -> String {
    match format {
        Format::Table => table(entries),
        Format::Json => {
            let rows: Vec<_> = entries.iter().map(row).collect();
            format!("{}\n", serde_json::to_string(&rows).unwrap_or_default())
        }
    }
}

fn row(entry: &Entry) -> Row<'_> {
    Row {
        key: entry.key.as_str(),
        disk_bytes: entry.disk_bytes,
        in_use: entry.in_use,
        last_used: entry.last_used.map(time::rfc3339),
        error: entry.content.as_ref().err().map(String::as_str),
        content: entry.content.as_ref().ok().map(|(id, manifest)| content(id.to_string(), manifest)),
    }
}

fn content(id: String, manifest: &Manifest) -> Content<'_> {
    let about = &manifest.about;
    Content {
        id,
        base: about.base.map(|base| base.to_string()),
        kind: about.kind,
        created: time::rfc3339(created(manifest)),
        software: &about.software,
        hypervisor: &about.hypervisor,
        cpu_model: &about.cpu_model,
        vcpus: about.vcpus,
        memory_bytes: manifest.memory.ram_bytes(),
        parts: &about.key,
    }
}

/// The same time as far as a date can tell it; 1970 where it cannot be.
fn created(manifest: &Manifest) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(manifest.about.created_unix_ms)).unwrap_or(UNIX_EPOCH)
}

fn table(entries: &[Entry]) -> String {
    let mut table =
        Table::new(["KEY", "KIND", "SIZE", "AGE", "LAST USE", "IN USE", "MEMORY", "VCPUS", "BASE", "MADE OF"]);
    // What a base is called in this list; one that is not in it is gone.
    let name = |base: SnapshotId| {
        let is_it = |entry: &&Entry| entry.content.as_ref().is_ok_and(|(id, _)| *id == base);
        entries.iter().find(is_it).map_or("gone", |entry| entry.key.short()).to_owned()
    };
    for entry in entries {
        let base = entry.base().map_or_else(|| "-".to_owned(), name);
        let (kind, age, memory, vcpus, parts) = match &entry.content {
            Ok((_, manifest)) => (
                kind(manifest.about.kind).to_owned(),
                ago(Some(created(manifest))),
                size(manifest.memory.ram_bytes()),
                manifest.about.vcpus.to_string(),
                parts(&manifest.about.key),
            ),
            Err(error) => {
                let unknown = || "-".to_owned();
                ("damaged".to_owned(), unknown(), unknown(), unknown(), error.clone())
            }
        };
        let in_use = if entry.in_use { "yes" } else { "no" };
        let (disk, used) = (size(entry.disk_bytes), ago(entry.last_used));
        let (key, in_use) = (entry.key.short().to_owned(), in_use.to_owned());
        table.row([key, kind, disk, age, used, in_use, memory, vcpus, base, parts]);
    }
    table.text()
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Base => "base",
        Kind::Image => "image",
        Kind::Container => "container",
    }
}

/// Values that are digests are as short as keys.
fn parts(parts: &BTreeMap<String, String>) -> String {
    let short = |value: &str| value.chars().take(12).collect::<String>();
    parts.iter().map(|(name, value)| format!("{name}={}", short(value))).collect::<Vec<_>>().join(" ")
}

/// Bytes for people.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) if bytes.is_multiple_of(*unit) => format!("{} {name}", bytes / unit),
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} B"),
    }
}

/// How long ago, in the largest unit that fits.
fn ago(time: Option<SystemTime>) -> String {
    let Some(time) = time else { return "-".to_owned() };
    let seconds = time.elapsed().unwrap_or_default().as_secs();
    const UNITS: [(&str, u64); 3] = [("d", 86_400), ("h", 3_600), ("m", 60)];
    match UNITS.iter().find(|(_, unit)| seconds >= *unit) {
        Some((name, unit)) => format!("{}{name}", seconds / unit),
        None => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_are_short() {
        assert_eq!(
            [0, 1023, 1024, 1 << 29, (5 << 20) + (1 << 19)].map(size),
            ["0 B", "1023 B", "1 KiB", "512 MiB", "5.5 MiB"]
        );
        let before = |seconds| ago(Some(SystemTime::now() - Duration::from_secs(seconds)));
        assert_eq!([5, 150, 7_300, 200_000].map(before), ["5s", "2m", "2h", "2d"]);
        assert_eq!(ago(Some(SystemTime::now() + Duration::from_secs(100))), "0s", "a clock that was set back");
        assert_eq!(ago(None), "-");
    }
}

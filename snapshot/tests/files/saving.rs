//! A save that fails leaves nothing, and is refused for what a reader would refuse.

use std::fs;
use std::io;
use std::path::Path;

use supermachine_snapshot::{Limit, Present, Region, SnapshotError, Span, Writer};
use tempfile::TempDir;

use crate::common::{Memory, PAGE, REGIONS, about, save};

fn names(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).expect("lists").map(|entry| entry.expect("an entry").file_name().display().to_string()).collect()
}

fn zeros(_: u64, into: &mut [u8]) -> io::Result<()> {
    into.fill(0);
    Ok(())
}

#[test]
fn nothing_is_left_of_a_save_that_fails() {
    let dir = TempDir::new().expect("a directory");
    let writer = Writer::create(&dir.path().join("s")).expect("begins");
    assert_eq!(names(dir.path()).len(), 1, "it is being made");
    let broken = |_: u64, _: &mut [u8]| Err(io::Error::other("no RAM today"));
    let result = writer.finish(about(None), &REGIONS, Present::All, &broken);
    assert!(matches!(result, Err(SnapshotError::Io { what: "read", .. })), "{result:?}");
    assert_eq!(names(dir.path()), [""; 0]);
    drop(Writer::create(&dir.path().join("s")).expect("begins"));
    assert_eq!(names(dir.path()), [""; 0]);
}

#[test]
fn a_snapshot_is_not_overwritten() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("s");
    save(&path, &Memory::new(&[(1, 1)]), Present::All, None);
    let before = fs::read(path.join("state")).expect("reads");
    let result = Writer::create(&path).expect("begins").finish(about(None), &REGIONS, Present::All, &zeros);
    assert!(matches!(result, Err(SnapshotError::Io { .. })), "{result:?}");
    assert_eq!(fs::read(path.join("state")).expect("reads"), before);
    assert_eq!(names(dir.path()), ["s"]);
}

#[test]
fn names_of_sections_are_checked() {
    let dir = TempDir::new().expect("a directory");
    let mut writer = Writer::create(&dir.path().join("s")).expect("begins");
    for name in ["", "Upper", "a/b", "nul\0", "white space", &"x".repeat(33)] {
        assert!(matches!(writer.section(name, Vec::new()), Err(SnapshotError::SectionName)), "{name:?}");
    }
    writer.section(&"x".repeat(32), Vec::new()).expect("as long as it may be");
    let twice = writer.section(&"x".repeat(32), Vec::new());
    assert!(matches!(twice, Err(SnapshotError::SectionTwice { .. })), "{twice:?}");
    let large = writer.section("large", vec![0; (16 << 20) + 1]);
    assert!(matches!(large, Err(SnapshotError::TooMuch { limit: Limit::SectionBytes, .. })), "{large:?}");
}

fn refused(regions: &[Region], present: Present<'_>) -> SnapshotError {
    let dir = TempDir::new().expect("a directory");
    let writer = Writer::create(&dir.path().join("s")).expect("begins");
    writer.finish(about(None), regions, present, &zeros).expect_err("cannot be")
}

#[test]
fn regions_are_checked() {
    let region = |gpa: u64, bytes: u64| Region { gpa, bytes };
    let cases: [&[Region]; 6] = [
        &[],
        &[region(0, 0)],
        &[region(1, PAGE)],
        &[region(0, PAGE + 1)],
        &[region(PAGE, PAGE), region(0, PAGE)],
        &[region(0, 2 * PAGE), region(PAGE, PAGE)],
    ];
    for regions in cases {
        assert!(matches!(refused(regions, Present::Spans(&[])), SnapshotError::Regions), "{regions:?}");
    }
    let many: Vec<_> = (0..17).map(|index| region(index * PAGE, PAGE)).collect();
    let error = refused(&many, Present::Spans(&[]));
    assert!(matches!(error, SnapshotError::TooMuch { limit: Limit::Regions, .. }), "{error}");
}

#[test]
fn pages_outside_ram_are_refused() {
    for (gpa, bytes) in [(16 * PAGE, PAGE), (15 * PAGE, 2 * PAGE), (u64::MAX, 1), (64 * PAGE, u64::MAX)] {
        let error = refused(&REGIONS, Present::Spans(&[Span { gpa, bytes }]));
        assert!(matches!(error, SnapshotError::NotRam { .. }), "{gpa:#x}: {error}");
    }
}

#[test]
fn a_manifest_is_fit_for_a_terminal() {
    let dir = TempDir::new().expect("a directory");
    let try_with = |key: String| {
        let writer = Writer::create(&dir.path().join("s")).expect("begins");
        let mut about = about(None);
        about.key.insert("kernel".to_owned(), key);
        writer.finish(about, &REGIONS, Present::Spans(&[]), &zeros).expect_err("cannot be")
    };
    assert!(matches!(try_with("\x1b[2J".to_owned()), SnapshotError::Text));
    assert!(matches!(try_with("x".repeat(513)), SnapshotError::TooMuch { limit: Limit::TextBytes, .. }));
}

//! Files that version 1 wrote, byte for byte. A change of the format fails here first: it needs a new version and new files.
//! `SUPERMACHINE_BLESS=1` writes them anew.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use supermachine_snapshot::{Layout, Present, Region, Run, SnapshotId, Writer};
use tempfile::TempDir;

use crate::common::{Memory, PAGE, SECTIONS, about, open, page};

const REGIONS: [Region; 2] = [Region { gpa: 0, bytes: 2 * PAGE }, Region { gpa: 8 * PAGE, bytes: PAGE }];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Writes both: a full snapshot with pages 0 and 8, and a diff on it where page 8 became zero and page 1 something.
fn write(full: &Path, diff: &Path) {
    let mut base: Option<SnapshotId> = None;
    let changed = [page(1), page(8)];
    let cases = [
        (full, Memory::new(&[(0, 0x11), (8, 0x88)]), Present::All),
        (diff, Memory::new(&[(0, 0x11), (1, 0x22)]), Present::Spans(&changed)),
    ];
    for (dir, memory, present) in cases {
        let mut writer = Writer::create(dir).expect("begins");
        SECTIONS.iter().for_each(|(name, content)| writer.section(name, content.to_vec()).expect("a section"));
        let read = |gpa: u64, into: &mut [u8]| memory.read(gpa, into);
        base = Some(writer.finish(about(base), &REGIONS, present, &read).expect("saves"));
    }
}

#[test]
fn what_is_written_is_what_version_1_wrote() {
    if env::var_os("SUPERMACHINE_BLESS").is_some() {
        ["full", "diff"].into_iter().for_each(|name| drop(fs::remove_dir_all(golden(name))));
        fs::create_dir_all(golden("")).expect("a directory");
        write(&golden("full"), &golden("diff"));
    }
    let dir = TempDir::new().expect("a directory");
    write(&dir.path().join("full"), &dir.path().join("diff"));
    for file in ["full/state", "full/memory", "diff/state", "diff/memory"] {
        let (written, kept) = (fs::read(dir.path().join(file)), fs::read(golden(file)));
        assert!(written.expect("was written") == kept.expect("is kept"), "{file} differs");
    }
}

#[test]
fn what_version_1_wrote_is_read() {
    let (full, diff) = (open(&golden("full")), open(&golden("diff")));
    full.verify().expect("is whole");
    diff.verify().expect("is whole");
    assert_eq!(full.manifest().about, about(None));
    assert_eq!(full.sections().collect::<Vec<_>>(), SECTIONS);
    assert_eq!(diff.base(), Some(full.id()));
    let run = |first: u64, pages: u64| Run { position: first * PAGE, bytes: pages * PAGE };
    assert_eq!((full.runs(), diff.runs()), ([run(0, 1), run(2, 1)].as_slice(), [run(1, 2)].as_slice()));
    let layout = Layout::new(&diff, Some(&full)).expect("a layout");
    let over: Vec<_> = layout.over.iter().map(|over| (over.gpa, over.offset, over.bytes)).collect();
    assert_eq!(over, [(PAGE, PAGE, PAGE), (8 * PAGE, 2 * PAGE, PAGE)]);
}

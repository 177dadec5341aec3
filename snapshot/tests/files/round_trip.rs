//! What was saved is what is mapped.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use supermachine_snapshot::{Layout, Mapping, Present, Run, Snapshot, SnapshotError};
use tempfile::TempDir;

use crate::common::{Memory, PAGE, REGIONS, SECTIONS, about, open, page, save};

/// RAM as mappings that are made in order would show it.
fn mapped(layout: &Layout<'_>) -> BTreeMap<u64, u8> {
    let mut pages = BTreeMap::new();
    for Mapping { gpa, bytes, file, offset } in layout.regions.iter().chain(&layout.over) {
        for at in (0..*bytes).step_by(PAGE as usize) {
            let mut content = vec![0; PAGE as usize];
            file.read_exact_at(&mut content, offset + at).expect("in the file");
            assert!(content.iter().all(|byte| *byte == content[0]), "a page holds one byte");
            pages.insert((gpa + at) / PAGE, content[0]);
        }
    }
    pages.retain(|_, byte| *byte != 0);
    pages
}

#[test]
fn a_full_snapshot_has_its_pages_at_their_places() {
    let dir = TempDir::new().expect("a directory");
    let memory = Memory::new(&[(0, 1), (1, 2), (15, 3), (64, 4), (71, 5)]);
    let id = save(&dir.path().join("s"), &memory, Present::All, None);
    let snapshot = open(&dir.path().join("s"));
    assert_eq!(snapshot.id(), id);
    let layout = Layout::new(&snapshot, None).expect("a layout");
    assert_eq!(
        layout.regions.iter().map(|region| (region.gpa, region.offset)).collect::<Vec<_>>(),
        [(0, 0), (64 * PAGE, 16 * PAGE)]
    );
    assert!(layout.over.is_empty());
    assert_eq!(mapped(&layout), memory.0);
    assert_eq!(snapshot.manifest().about, about(None));
    assert_eq!(snapshot.manifest().memory.regions, REGIONS);
    assert_eq!(snapshot.manifest().memory.stored_bytes, 5 * PAGE);
    snapshot.verify().expect("is whole");
}

#[test]
fn sections_come_back_in_order() {
    let dir = TempDir::new().expect("a directory");
    save(&dir.path().join("s"), &Memory::new(&[]), Present::All, None);
    let snapshot = open(&dir.path().join("s"));
    assert_eq!(snapshot.sections().collect::<Vec<_>>(), SECTIONS);
    assert_eq!(snapshot.section("vcpu.0").expect("is there"), b"registers");
    assert!(matches!(snapshot.section("vcpu.1"), Err(SnapshotError::SectionMissing { name }) if name == "vcpu.1"));
}

#[test]
fn only_present_pages_are_read() {
    let dir = TempDir::new().expect("a directory");
    let memory = Memory::new(&[(3, 1), (7, 2), (64, 9)]);
    save(&dir.path().join("s"), &memory, Present::Spans(&[page(64), page(3), page(3), page(4)]), None);
    let snapshot = open(&dir.path().join("s"));
    let runs = [Run { position: 3 * PAGE, bytes: PAGE }, Run { position: 16 * PAGE, bytes: PAGE }];
    assert_eq!(snapshot.runs(), runs, "page 7 was not named, page 4 is zero");
    snapshot.verify().expect("is whole");
}

#[test]
fn a_diff_lies_over_its_base() {
    let dir = TempDir::new().expect("a directory");
    let (below, above) = (dir.path().join("base"), dir.path().join("diff"));
    let mut memory = Memory::new(&[(0, 1), (1, 2), (15, 3), (64, 4)]);
    let id = save(&below, &memory, Present::All, None);
    memory.0.extend([(1, 9), (15, 8), (64, 0), (66, 7)]);
    memory.0.retain(|_, byte| *byte != 0);
    save(&above, &memory, Present::Spans(&[page(1), page(15), page(64), page(66)]), Some(id));
    let (base, diff) = (open(&below), open(&above));
    let layout = Layout::new(&diff, Some(&base)).expect("a layout");
    let over: Vec<_> = layout.over.iter().map(|over| (over.gpa / PAGE, over.bytes / PAGE)).collect();
    let why = "a mapping ends with its region, and goes on over a few pages that the diff does not have";
    assert_eq!(over, [(1, 1), (15, 1), (64, 3)], "{why}");
    assert_eq!(mapped(&layout), memory.0, "a page that became zero too");
    diff.verify().expect("is whole");
}

#[test]
fn a_diff_is_refused_without_its_base() {
    let dir = TempDir::new().expect("a directory");
    let memory = Memory::new(&[(0, 1)]);
    let id = save(&dir.path().join("base"), &memory, Present::All, None);
    save(&dir.path().join("diff"), &memory, Present::Spans(&[page(0)]), Some(id));
    save(&dir.path().join("other"), &Memory::new(&[(0, 2)]), Present::All, None);
    let [base, diff, other] = ["base", "diff", "other"].map(|name| open(&dir.path().join(name)));
    assert!(matches!(Layout::new(&diff, None), Err(SnapshotError::Base { given: None, .. })));
    assert!(matches!(Layout::new(&diff, Some(&other)), Err(SnapshotError::Base { given: Some(_), .. })));
    assert!(matches!(Layout::new(&base, Some(&other)), Err(SnapshotError::NoBase)));
}

#[test]
fn a_diff_of_many_pieces_becomes_few_mappings() {
    let dir = TempDir::new().expect("a directory");
    let regions = [supermachine_snapshot::Region { gpa: 0, bytes: 8192 * PAGE }];
    let memory = Memory((0..8192).map(|page| (page, page as u8 | 1)).collect());
    let read = |gpa: u64, into: &mut [u8]| memory.read(gpa, into);
    let spans: Vec<_> = (0..8192).step_by(2).map(page).collect();
    let mut ids = Vec::new();
    for (name, base, present) in [("base", None, Present::All), ("diff", Some(0), Present::Spans(&spans))] {
        let writer = supermachine_snapshot::Writer::create(&dir.path().join(name)).expect("begins");
        let about = about(base.map(|index: usize| ids[index]));
        ids.push(writer.finish(about, &regions, present, &read).expect("saves"));
    }
    let (base, diff) = (open(&dir.path().join("base")), open(&dir.path().join("diff")));
    let layout = Layout::new(&diff, Some(&base)).expect("a layout");
    assert!(layout.over.len() <= 512, "{} mappings", layout.over.len());
    assert_eq!(mapped(&layout), memory.0);
}

#[test]
fn zero_pages_cost_nothing_on_disk() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("s");
    let regions = [supermachine_snapshot::Region { gpa: 0, bytes: 4 << 30 }];
    let memory = Memory::new(&[(0, 1), (1 << 19, 2)]);
    let read = |gpa: u64, into: &mut [u8]| memory.read(gpa, into);
    let spans = [page(0), page(5), page(1 << 19)];
    let writer = supermachine_snapshot::Writer::create(&path).expect("begins");
    writer.finish(about(None), &regions, Present::Spans(&spans), &read).expect("saves");
    let metadata = fs::metadata(path.join("memory")).expect("is there");
    assert_eq!(metadata.len(), (4 << 30) + 64);
    assert!(metadata.blocks() * 512 <= 64 << 10, "{} bytes on disk", metadata.blocks() * 512);
    open(&path).verify().expect("is whole");
}

#[test]
fn a_moved_copy_is_the_same_snapshot() {
    let dir = TempDir::new().expect("a directory");
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let id = save(&from, &Memory::new(&[(2, 2)]), Present::All, None);
    fs::create_dir(&to).expect("a directory");
    for name in ["state", "memory"] {
        fs::copy(from.join(name), to.join(name)).expect("copies");
    }
    let copied = open(&to);
    assert_eq!(copied.id(), id);
    copied.verify().expect("is whole");
}

#[test]
fn open_files_will_do() {
    let dir = TempDir::new().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    let [state, memory] = ["a", "b"].map(|name| fs::File::create_new(path(name)).expect("a file"));
    let writer = supermachine_snapshot::Writer::from_files(state, memory);
    let read = |gpa: u64, into: &mut [u8]| Memory::new(&[(1, 1)]).read(gpa, into);
    let id = writer.finish(about(None), &REGIONS, Present::All, &read).expect("saves");
    let open = |path: &Path| fs::File::open(path).expect("opens");
    let snapshot = Snapshot::from_files(&open(&path("a")), open(&path("b")), &Default::default()).expect("opens");
    assert_eq!(snapshot.id(), id);
}

//! Files that are damaged, or made by somebody who wishes harm: an error, no panic, no allocation beyond the file's size.

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use proptest::prelude::*;
use supermachine_snapshot::{Layout, Limit, Limits, Present, Snapshot, SnapshotError};
use tempfile::TempDir;

use crate::common::{Memory, PAGE, REGIONS, open, save};

/// A snapshot whose state file is replaced again and again.
struct Victim {
    _dir: TempDir,
    state: Vec<u8>,
    memory: File,
    scratch: File,
}

impl Victim {
    fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        save(&dir.path().join("s"), &Memory::new(&[(0, 1), (3, 2), (64, 3)]), Present::All, None);
        let state = fs::read(dir.path().join("s/state")).expect("reads");
        let memory = File::options().read(true).write(true).open(dir.path().join("s/memory")).expect("opens");
        let scratch = tempfile::tempfile().expect("a file");
        Self { _dir: dir, state, memory, scratch }
    }

    fn open_as(&self, state: &[u8], limits: &Limits) -> Result<Snapshot, SnapshotError> {
        let mut scratch = &self.scratch;
        scratch.set_len(0).expect("cuts");
        scratch.rewind().expect("seeks");
        scratch.write_all(state).expect("writes");
        scratch.rewind().expect("seeks");
        Snapshot::from_files(scratch, self.memory.try_clone().expect("a copy"), limits)
    }
}

/// Puts the right digest into a head that was changed.
fn seal(state: &mut [u8]) {
    let count = |at: usize| u32::from_le_bytes(state[at..at + 4].try_into().expect("four bytes")) as usize;
    let head = 64usize.saturating_add(72 * count(12)).saturating_add(count(16)).saturating_add(16 * count(20));
    let mut hasher = blake3::Hasher::new();
    hasher.update(&state[..32]).update(&state[64..head.clamp(64, state.len())]);
    state[32..64].copy_from_slice(hasher.finalize().as_bytes());
}

#[test]
fn any_flipped_byte_of_the_state_is_found() {
    let victim = Victim::new();
    victim.open_as(&victim.state, &Limits::default()).expect("is whole");
    for at in 0..victim.state.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut state = victim.state.clone();
            state[at] ^= flip;
            assert!(victim.open_as(&state, &Limits::default()).is_err(), "byte {at} ^ {flip:#x}");
        }
    }
}

#[test]
fn the_error_names_the_damaged_part() {
    let victim = Victim::new();
    let message = |at: usize| {
        let mut state = victim.state.clone();
        state[at] ^= 1;
        victim.open_as(&state, &Limits::default()).expect_err("is damaged").to_string()
    };
    let (end, device) = (victim.state.len(), b"{\"queues\":[]}".len());
    assert_eq!(message(end - 1), "the section device.blk is damaged: its digest differs");
    assert_eq!(message(end - device - 1), "the section vcpu.0 is damaged: its digest differs");
    assert_eq!(message(40), "the head of the state file is damaged: its digest differs");
    assert_eq!(message(0), "the state file is no part of a snapshot: its magic is missing");
    assert_eq!(message(8), "the snapshot has format version 0, this program has 1");
}

#[test]
fn any_other_length_of_the_state_is_found() {
    let victim = Victim::new();
    for len in 0..victim.state.len() {
        assert!(victim.open_as(&victim.state[..len], &Limits::default()).is_err(), "{len} bytes");
    }
    let longer = [victim.state.as_slice(), &[0]].concat();
    assert!(matches!(victim.open_as(&longer, &Limits::default()), Err(SnapshotError::Length { .. })));
}

#[test]
fn any_flipped_byte_of_the_memory_is_found() {
    let victim = Victim::new();
    let ram_bytes = 24 * PAGE;
    let snapshot = victim.open_as(&victim.state, &Limits::default()).expect("is whole");
    for at in (0..ram_bytes).step_by(509).chain([0, ram_bytes - 1]) {
        let mut byte = [0];
        victim.memory.read_exact_at(&mut byte, at).expect("reads");
        victim.memory.write_all_at(&[byte[0] ^ 0x10], at).expect("writes");
        assert!(matches!(snapshot.verify(), Err(SnapshotError::Damaged { .. })), "byte {at}");
        victim.memory.write_all_at(&byte, at).expect("writes");
    }
    snapshot.verify().expect("is whole again");
    for at in ram_bytes..ram_bytes + 64 {
        let mut byte = [0];
        victim.memory.read_exact_at(&mut byte, at).expect("reads");
        victim.memory.write_all_at(&[byte[0] ^ 0x10], at).expect("writes");
        assert!(victim.open_as(&victim.state, &Limits::default()).is_err(), "byte {at}");
        victim.memory.write_all_at(&byte, at).expect("writes");
    }
}

#[test]
fn a_cut_or_grown_memory_file_is_found() {
    let victim = Victim::new();
    let whole = 24 * PAGE + 64;
    for len in [0, 1, PAGE, 24 * PAGE, whole - 1, whole + 1, whole + PAGE] {
        victim.memory.set_len(len).expect("cuts");
        let result = victim.open_as(&victim.state, &Limits::default());
        assert!(matches!(result, Err(SnapshotError::Length { file: "memory", found, .. }) if found == len), "{len}");
    }
    victim.memory.set_len(whole).expect("grows");
    assert!(victim.open_as(&victim.state, &Limits::default()).is_err(), "as long as before, but cut in between");
}

#[test]
fn the_memory_of_another_snapshot_is_found() {
    let dir = TempDir::new().expect("a directory");
    let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
    save(&one, &Memory::new(&[(0, 1)]), Present::All, None);
    save(&two, &Memory::new(&[(0, 2)]), Present::All, None);
    fs::rename(one.join("memory"), two.join("memory")).expect("moves");
    assert!(matches!(Snapshot::open(&two, &Limits::default()), Err(SnapshotError::OtherMemory)));
}

#[test]
fn huge_counts_are_refused_before_anything_is_allocated() {
    let victim = Victim::new();
    for (at, limit) in [(12, Limit::Sections), (16, Limit::ManifestBytes), (20, Limit::Runs), (28, Limit::StateBytes)] {
        let mut state = victim.state.clone();
        state[at..at + 4].fill(0xff);
        let result = victim.open_as(&state, &Limits::default());
        assert!(matches!(result, Err(SnapshotError::TooMuch { limit: found, .. }) if found == limit), "{result:?}");
    }
    for at in [12, 16, 20] {
        let mut state = victim.state.clone();
        state[at..at + 4].copy_from_slice(&1000u32.to_le_bytes());
        let result = victim.open_as(&state, &Limits::default());
        assert!(matches!(result, Err(SnapshotError::Length { .. })), "more than the file has: {result:?}");
    }
}

#[test]
fn limits_are_the_callers() {
    let victim = Victim::new();
    let all = Limits::default();
    for (limits, limit) in [
        (Limits { state_bytes: 100, ..all }, Limit::StateBytes),
        (Limits { manifest_bytes: 10, ..all }, Limit::ManifestBytes),
        (Limits { sections: 2, ..all }, Limit::Sections),
        (Limits { section_bytes: 8, ..all }, Limit::SectionBytes),
        (Limits { runs: 1, ..all }, Limit::Runs),
        (Limits { ram_bytes: PAGE, ..all }, Limit::RamBytes),
    ] {
        let result = victim.open_as(&victim.state, &limits);
        assert!(matches!(result, Err(SnapshotError::TooMuch { limit: found, .. }) if found == limit), "{result:?}");
    }
}

#[test]
fn pipes_links_and_directories_are_no_snapshots() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("s");
    save(&path, &Memory::new(&[]), Present::All, None);
    for name in ["state", "memory"] {
        let file = path.join(name);
        let kept = path.join("kept");
        fs::rename(&file, &kept).expect("moves");
        let refused = |what: &str| assert!(Snapshot::open(&path, &Limits::default()).is_err(), "{name} as {what}");
        refused("nothing");
        symlink(&kept, &file).expect("links");
        refused("a link");
        fs::remove_file(&file).expect("removes");
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        refused("a pipe that nobody writes to");
        fs::remove_file(&file).expect("removes");
        fs::create_dir(&file).expect("a directory");
        refused("a directory");
        fs::remove_dir(&file).expect("removes");
        fs::rename(&kept, &file).expect("moves");
    }
    open(&path);
}

/// Whatever opens has mappings inside its RAM and its file.
fn check_layout(snapshot: &Snapshot) {
    let Ok(layout) = Layout::new(snapshot, None) else { return };
    let ram_bytes = snapshot.manifest().memory.ram_bytes();
    for mapping in layout.regions.iter().chain(&layout.over) {
        assert!(mapping.offset + mapping.bytes <= ram_bytes);
        assert!(mapping.gpa.checked_add(mapping.bytes).is_some());
    }
    assert!(layout.regions.len() <= REGIONS.len().max(16));
}

/// Texts of the manifest that a hostile one would change.
fn manifest_edit() -> impl Strategy<Value = (&'static str, String)> {
    let number = prop_oneof![Just(0u64), Just(1), Just(4095), Just(u64::MAX), Just(1 << 63), any::<u64>()];
    let field = prop_oneof![
        Just("\"bytes\":65536"),
        Just("\"gpa\":0"),
        Just("\"gpa\":262144"),
        Just("\"page_bytes\":4096"),
        Just("\"vcpus\":1")
    ];
    (field, number).prop_map(|(field, number)| {
        let name = field.split(':').next().unwrap_or_default();
        (field, format!("{name}:{number}"))
    })
}

/// Puts another manifest in; lengths and digest are right.
fn with_manifest(state: &[u8], edit: impl Fn(&str) -> String) -> Vec<u8> {
    let word = |at: usize| u32::from_le_bytes(state[at..at + 4].try_into().expect("four bytes")) as usize;
    let (start, len) = (64 + 72 * word(12) + 16 * word(20), word(16));
    let manifest = edit(std::str::from_utf8(&state[start..start + len]).expect("text"));
    let mut state = [&state[..start], manifest.as_bytes(), &state[start + len..]].concat();
    let bytes = state.len() as u64;
    state[16..20].copy_from_slice(&(manifest.len() as u32).to_le_bytes());
    state[24..32].copy_from_slice(&bytes.to_le_bytes());
    seal(&mut state);
    state
}

#[test]
fn a_manifest_with_an_unknown_field_is_refused() {
    let victim = Victim::new();
    let state = with_manifest(&victim.state, |manifest| manifest.replacen('{', "{\"new\":1,", 1));
    assert!(matches!(victim.open_as(&state, &Limits::default()), Err(SnapshotError::Manifest { .. })));
    let deep = with_manifest(&victim.state, |_| "[".repeat(100_000));
    assert!(matches!(victim.open_as(&deep, &Limits::default()), Err(SnapshotError::Manifest { .. })));
}

#[test]
fn runs_that_make_no_sense_are_refused() {
    let victim = Victim::new();
    let table = 64 + 3 * 72;
    for (at, value) in [(0, 1), (0, u64::MAX - 4095), (8, 0), (8, 5), (8, u64::MAX - 4095), (8, 8 * PAGE), (16, 0)] {
        let mut state = victim.state.clone();
        state[table + at..table + at + 8].copy_from_slice(&u64::to_le_bytes(value));
        seal(&mut state);
        let result = victim.open_as(&state, &Limits::default());
        assert!(matches!(result, Err(SnapshotError::Runs)), "{at}: {value:#x}: {result:?}");
    }
}

thread_local! {
    /// One for all cases of a property.
    static VICTIM: Victim = Victim::new();
}

proptest! {
    #[test]
    fn a_sealed_head_of_any_bytes_never_panics(edits in prop::collection::vec((0usize..600, any::<u8>()), 1..8)) {
        VICTIM.with(|victim| {
            let mut state = victim.state.clone();
            let len = state.len();
            edits.iter().for_each(|(at, byte)| state[at % len] = *byte);
            seal(&mut state);
            victim.open_as(&state, &Limits::default()).iter().for_each(check_layout);
        });
    }

    #[test]
    fn a_sealed_manifest_of_any_numbers_never_panics(edits in prop::collection::vec(manifest_edit(), 1..4)) {
        VICTIM.with(|victim| {
            let state = with_manifest(&victim.state, |manifest| {
                edits.iter().fold(manifest.to_owned(), |text, (from, to)| text.replacen(from, to, 1))
            });
            victim.open_as(&state, &Limits::default()).iter().for_each(check_layout);
        });
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let magic = [b"\x89SMVM\r\n\x1a".as_slice(), &1u32.to_le_bytes(), &bytes].concat();
        for bytes in [&bytes, &magic] {
            prop_assert!(VICTIM.with(|victim| victim.open_as(bytes, &Limits::default()).is_err()));
        }
    }
}

#[test]
fn a_path_that_is_not_there_is_an_error_that_names_it() {
    let error = Snapshot::open(Path::new("/nonexistent"), &Limits::default()).expect_err("is not there");
    assert_eq!(error.to_string(), "cannot open /nonexistent/state");
}

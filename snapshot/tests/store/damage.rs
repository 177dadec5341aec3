//! A template that is not what was baked is never used, told of in one line, and baked anew.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use supermachine_snapshot::store::{Parts, Store};

use crate::common::{get, mark, names, parts};
use crate::store;

/// A store with one template that nobody uses, and its directory.
fn baked() -> (tempfile::TempDir, Store, Parts, PathBuf) {
    let (dir, store) = store();
    let parts = parts("a");
    get(&store, &parts, 1).0.expect("bakes");
    let path = store.dir().join(parts.key().as_str());
    (dir, store, parts, path)
}

/// Damages a template; gives the line that is told when it is baked anew.
fn damaged(damage: impl FnOnce(&PathBuf)) -> String {
    let (_dir, store, parts, path) = baked();
    damage(&path);
    let (template, told) = get(&store, &parts, 2);
    assert_eq!(mark(&template.expect("bakes")), 2, "{told:?}");
    let [line, baking] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(baking, "baking");
    assert!(!line.contains('\n'));
    assert_eq!(names(&store).len(), 2, "nothing else is left");
    line.clone()
}

fn flip(path: PathBuf, at: u64) {
    let file = File::options().read(true).write(true).open(path).expect("opens");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("reads");
    file.write_all_at(&[byte[0] ^ 1], at).expect("writes");
}

#[test]
fn a_flipped_byte_anywhere_in_the_state() {
    let (_dir, _store, _parts, path) = baked();
    let bytes = fs::metadata(path.join("snapshot/state")).expect("is there").len();
    for at in (0..bytes).step_by(101).chain([bytes - 1]) {
        let line = damaged(|path| flip(path.join("snapshot/state"), at));
        assert!(line.starts_with("removed: "), "byte {at}: {line}");
    }
}

#[test]
fn the_line_says_what_is_wrong() {
    let section = damaged(|path| {
        let bytes = fs::metadata(path.join("snapshot/state")).expect("is there").len();
        flip(path.join("snapshot/state"), bytes - 1);
    });
    assert_eq!(section, "removed: the section vcpu.0 is damaged: its digest differs");
    let memory = damaged(|path| flip(path.join("snapshot/memory"), 5000));
    assert_eq!(memory, "removed: the memory file is damaged: its digest differs");
    let cut = damaged(|path| {
        let file = File::options().write(true).open(path.join("snapshot/memory")).expect("opens");
        file.set_len(1000).expect("cuts");
    });
    assert_eq!(cut, "removed: the memory file has 1000 bytes and should have 262208");
    let version = damaged(|path| {
        let file = File::options().write(true).open(path.join("snapshot/state")).expect("opens");
        file.write_all_at(&[2], 8).expect("writes");
    });
    assert_eq!(version, "removed: the snapshot has format version 2, this program has 1");
}

#[test]
fn files_that_are_missing() {
    for name in ["snapshot/state", "snapshot/memory", "use", "snapshot"] {
        let line = damaged(|path| {
            let path = path.join(name);
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("removes");
        });
        assert!(line.ends_with("No such file or directory (os error 2)"), "{name}: {line}");
    }
}

#[test]
fn a_template_under_another_key() {
    let (_dir, store, one, path) = baked();
    let two = parts("b");
    fs::rename(path, store.dir().join(two.key().as_str())).expect("moves");
    assert!(store.get(&two).is_none());
    let (template, told) = get(&store, &two, 2);
    assert_eq!(mark(&template.expect("bakes")), 2);
    assert_eq!(told, ["removed: it was made of other parts", "baking"]);
    assert!(store.get(&one).is_none());
}

#[test]
fn whole_content_with_other_times_is_sealed_again() {
    let (_dir, store, parts, path) = baked();
    let memory = File::options().write(true).open(path.join("snapshot/memory")).expect("opens");
    memory.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("another time");
    assert!(store.get(&parts).is_none(), "it is read before it is believed");
    let (template, told) = get(&store, &parts, 2);
    assert_eq!((mark(&template.expect("is there")), told.len()), (1, 0));
    assert!(store.get(&parts).is_some(), "once");
}

#[test]
fn those_who_use_it_keep_it_when_it_is_replaced() {
    let (_dir, store, parts, path) = baked();
    let used = store.get(&parts).expect("is there");
    flip(path.join("snapshot/state"), 900);
    let (template, told) = get(&store, &parts, 2);
    assert_eq!((mark(&template.expect("bakes")), told.len()), (2, 2));
    used.snapshot().verify().expect("its files are open");
    assert_eq!(mark(&used), 1);
}

#[test]
fn verify_reads_everything_and_removes_what_is_damaged() {
    let (_dir, store, parts, path) = baked();
    let key = parts.key();
    store.verify(&key).expect("reads").expect("is whole");
    flip(path.join("snapshot/memory"), 70000);
    let error = store.verify(&key).expect("reads").expect_err("is damaged");
    assert_eq!(error.to_string(), "the memory file is damaged: its digest differs");
    assert!(store.get(&parts).is_none() && !path.exists());
}

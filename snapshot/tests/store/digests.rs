//! Digests are kept for as long as nobody could have changed the file.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use supermachine_snapshot::store::Store;

use crate::store;

/// A file whose mtime is long ago. Its ctime is now: that is what keeps it out of the table.
fn file(store: &Store, content: &str) -> PathBuf {
    let path = store.dir().join("kernel");
    fs::write(&path, content).expect("writes");
    let file = File::options().write(true).open(&path).expect("opens");
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1000)).expect("sets");
    path
}

fn known(store: &Store) -> String {
    fs::read_to_string(store.dir().join("digests")).unwrap_or_default()
}

#[test]
fn it_is_the_digest_of_the_content() {
    let (_dir, store) = store();
    let digest = store.digest_of(&file(&store, "vmlinux")).expect("reads");
    assert_eq!(digest, blake3::hash(b"vmlinux").to_hex().as_str());
    assert!(store.digest_of(&store.dir().join("missing")).is_err());
}

#[test]
fn a_file_that_has_just_changed_is_read_each_time() {
    let (_dir, store) = store();
    let path = file(&store, "one");
    let one = store.digest_of(&path).expect("reads");
    assert_eq!(known(&store), "", "the next write could have the same time");
    file(&store, "two");
    assert_ne!(store.digest_of(&path).expect("reads"), one);
}

#[test]
fn a_file_that_was_left_alone_is_read_once() {
    let (_dir, store) = store();
    // A file that no test changes, installed long ago.
    let path = PathBuf::from("/bin/sh").canonicalize().expect("a shell");
    let digest = store.digest_of(&path).expect("reads");
    assert!(known(&store).contains(&digest));
    let lie = known(&store).replace(&digest, "from the table");
    fs::write(store.dir().join("digests"), lie).expect("writes");
    assert_eq!(store.digest_of(&path).expect("looks"), "from the table");
    for (field, other) in
        [("\"ino\":", "\"ino\":1"), ("\"mtime_ns\":", "\"mtime_ns\":1"), ("\"bytes\":", "\"bytes\":1")]
    {
        fs::write(store.dir().join("digests"), known(&store).replace(field, other)).expect("writes");
        assert_eq!(store.digest_of(&path).expect("reads"), digest, "{field} differs");
        fs::write(store.dir().join("digests"), known(&store).replace(&digest, "from the table")).expect("writes");
    }
}

#[test]
fn a_table_that_is_damaged_is_made_anew() {
    let (_dir, store) = store();
    let path = file(&store, "one");
    for damage in ["", "{", "[]", "{\"/x\":{}}"] {
        fs::write(store.dir().join("digests"), damage).expect("writes");
        assert_eq!(store.digest_of(&path).expect("reads"), blake3::hash(b"one").to_hex().as_str());
    }
}

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::Instant;

use rustix::fs::{AtFlags, Timespec, Timestamps, XattrFlags, lsetxattr, utimensat};
use tempfile::TempDir;

use super::*;

/// A tree with one of each that needs no privilege.
fn tree() -> TempDir {
    let dir = TempDir::new().expect("a directory");
    fs::create_dir_all(dir.path().join("a/b/c")).expect("directories");
    fs::write(dir.path().join("a/file"), "content").expect("a file");
    fs::write(dir.path().join("a/b/other"), "").expect("a file");
    symlink("a/file", dir.path().join("link")).expect("a link");
    dir
}

/// Gives a file the modification time that another has.
fn set_modified(path: &Path, like: &fs::Metadata) {
    let time = Timespec { tv_sec: like.mtime(), tv_nsec: like.mtime_nsec() };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(rustix::fs::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("sets times");
}

#[test]
fn the_same_tree_has_the_same_fingerprint_and_is_soon_settled() {
    let dir = tree();
    let first = settled(dir.path()).expect("takes it");
    assert!(first.settled, "20 ms are over");
    assert_eq!(first.entries, 7);
    assert_eq!(settled(dir.path()).expect("takes it"), first);
    let found = fs::metadata(dir.path()).expect("metadata");
    assert_eq!(first.root, (found.dev(), found.ino()));
}

#[test]
fn whatever_changes_changes_the_fingerprint() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 15] = [
        ("content of the same length", |root| fs::write(root.join("a/file"), "CONTENT").expect("writes")),
        ("content with the old time put back", |root| {
            let old = fs::metadata(root.join("a/file")).expect("metadata");
            fs::write(root.join("a/file"), "CONTENT").expect("writes");
            set_modified(&root.join("a/file"), &old);
        }),
        ("length", |root| fs::write(root.join("a/file"), "more content").expect("writes")),
        ("mode", |root| {
            fs::set_permissions(root.join("a/file"), fs::Permissions::from_mode(0o4755)).expect("sets");
        }),
        ("mode of the root", |root| fs::set_permissions(root, fs::Permissions::from_mode(0o711)).expect("sets")),
        ("owner of the link", |root| {
            std::os::unix::fs::lchown(root.join("link"), None, Some(rustix::process::getegid().as_raw()))
                .expect("sets");
        }),
        ("name", |root| fs::rename(root.join("a/file"), root.join("a/fila")).expect("renames")),
        ("place", |root| fs::rename(root.join("a/b/c"), root.join("a/c")).expect("renames")),
        ("target of the link", |root| {
            fs::remove_file(root.join("link")).expect("removes");
            symlink("a/fila", root.join("link")).expect("links");
        }),
        ("hard link", |root| fs::hard_link(root.join("a/file"), root.join("a/b/c/hard")).expect("links")),
        ("new file", |root| fs::write(root.join("a/b/c/new"), "").expect("writes")),
        ("removed directory", |root| fs::remove_dir(root.join("a/b/c")).expect("removes")),
        ("attribute", |root| {
            lsetxattr(root.join("a/file"), c"user.x", b"1", XattrFlags::empty()).expect("sets");
        }),
        ("attribute of the root", |root| lsetxattr(root, c"user.x", b"1", XattrFlags::empty()).expect("sets")),
        ("replaced by a copy", |root| {
            let old = fs::metadata(root.join("a/file")).expect("metadata");
            fs::copy(root.join("a/file"), root.join("copy")).expect("copies");
            set_modified(&root.join("copy"), &old);
            fs::rename(root.join("copy"), root.join("a/file")).expect("renames");
        }),
    ];
    for (what, change) in changes {
        let dir = tree();
        let before = settled(dir.path()).expect("takes it");
        change(dir.path());
        assert_ne!(take(dir.path()).expect("takes it").digest, before.digest, "{what}");
    }
}

#[test]
fn a_tree_of_this_moment_is_not_settled() {
    let dir = tree();
    // Whichever of the two is looked at within its tick: a slow machine may miss one, not a thousand.
    let unsettled = (0..1000).any(|number| {
        fs::write(dir.path().join("a/file"), number.to_string()).expect("writes");
        !take(dir.path()).expect("takes it").settled
    });
    assert!(unsettled);
    let waited = Instant::now();
    assert!(settled(dir.path()).expect("takes it").settled);
    assert!(waited.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_write_in_the_tick_of_the_fingerprint_is_never_missed_once_settled() {
    let dir = tree();
    let file = dir.path().join("a/file");
    for number in 0..200_u32 {
        fs::write(&file, format!("{number:08}")).expect("writes");
        let before = take(dir.path()).expect("takes it");
        fs::write(&file, format!("{:08}", number + 1_000_000)).expect("writes");
        let after = take(dir.path()).expect("takes it");
        assert!(!before.settled || before.digest != after.digest, "{number}");
    }
}

#[test]
fn a_large_tree_is_the_same_for_many_threads_and_what_vanishes_is_no_error() {
    let dir = TempDir::new().expect("a directory");
    for number in 0..400 {
        let sub = dir.path().join(format!("{}/{number}", number % 20));
        fs::create_dir_all(&sub).expect("directories");
        fs::write(sub.join("file"), "x").expect("a file");
    }
    let first = settled(dir.path()).expect("takes it");
    assert_eq!(first.entries, 1 + 20 + 400 + 400);
    assert!((0..20).all(|_| take(dir.path()).expect("takes it").digest == first.digest));
    std::thread::scope(|scope| {
        scope.spawn(|| fs::remove_dir_all(dir.path().join("7")).expect("removes"));
        let during = take(dir.path());
        assert!(matches!(during, Ok(_) | Err(FingerprintError::Changing { .. })), "{during:?}");
    });
}

#[test]
fn what_is_no_directory_is_named() {
    let dir = tree();
    for name in ["a/file", "link", "missing"] {
        let error = take(&dir.path().join(name)).expect_err(name);
        assert!(error.to_string().contains(name), "{error}");
    }
}

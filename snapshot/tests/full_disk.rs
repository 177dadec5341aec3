//! A disk that is full while baking. It is a small tmpfs in a mount namespace of a child, so it ends with the child.
//!
//! In a program of its own: for a moment a forked child has every lock that is held in its parent, and others wait for them.

#[path = "store/common.rs"]
mod common;

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use supermachine_snapshot::store::Store;
use tempfile::TempDir;

use common::{get, mark, names, parts};

const DISK: &str = "SUPERMACHINE_TEST_SMALL_DISK";

#[test]
fn a_full_disk_leaves_nothing() {
    let dir = TempDir::new().expect("a directory");
    let script = "mount -t tmpfs -o size=1m,mode=700 tmpfs \"$0\" || exit 77; exec \"$@\"";
    let exe = env::current_exe().expect("this program");
    let mut child = Command::new("unshare");
    child.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(dir.path()).arg(exe);
    child.args(["--exact", "on_a_small_disk", "--ignored", "--nocapture"]).env(DISK, dir.path());
    let output = child.output().expect("util-linux is there");
    let told = String::from_utf8_lossy(&output.stderr);
    if told.contains("unshare failed") || output.status.code() == Some(77) {
        println!("skipped: a mount needs root: {told}");
        return;
    }
    assert!(output.status.success(), "{}{told}", String::from_utf8_lossy(&output.stdout));
}

#[test]
#[ignore = "run by a_full_disk_leaves_nothing on a small disk"]
fn on_a_small_disk() {
    let Some(disk) = env::var_os(DISK).map(PathBuf::from) else { return };
    let store = Store::open(&disk).expect("a store");
    let parts = parts("a");
    let filler = disk.join("filler");
    let mut failed = 0;
    // From no byte free to room for all but the last files.
    for free in (0..288 << 10).step_by(16 << 10) {
        fill(&filler, free);
        let (result, _) = get(&store, &parts, 1);
        let result = result.map(|template| mark(&template));
        let left = names(&store);
        let lock = format!("{}.lock", parts.key());
        if let Err(error) = result {
            failed += 1;
            assert!(left.is_empty() || left == [lock], "{free} bytes free: {left:?}");
            assert!(has_cause(&error, "No space left on device"), "{free} bytes free: {error:?}");
        }
        store.prune(None).expect("prunes");
        assert!(names(&store).is_empty());
    }
    assert!(failed >= 10, "{failed} bakes failed");
    fs::remove_file(filler).expect("removes");
    assert_eq!(mark(&get(&store, &parts, 2).0.expect("there is room now")), 2);
}

fn has_cause(error: &dyn std::error::Error, text: &str) -> bool {
    error.to_string().contains(text) || error.source().is_some_and(|cause| has_cause(cause, text))
}

/// Fills the disk but for some bytes.
fn fill(filler: &Path, free: usize) {
    let mut file = File::create(filler).expect("a file");
    while file.write_all(&[1; 4096]).is_ok() {}
    let full = file.metadata().expect("is there").len();
    file.set_len(full.saturating_sub(free as u64)).expect("cuts");
}

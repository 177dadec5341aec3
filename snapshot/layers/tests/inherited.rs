//! A hold that a process has inherited. In a program of its own: for a moment a child that is forked has every lock that is held in its
//! parent, and tests beside it would find in use what is not.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use supermachine_layers::image::made;
use supermachine_layers::store::{Prune, Pruned, Store};
use supermachine_layers::{Caps, Options, form, pack_tree};
use tempfile::TempDir;

#[test]
fn an_inherited_descriptor_holds_as_long_as_its_process_lives() {
    let (tree, dir) = (TempDir::new().expect("a directory"), TempDir::new().expect("a directory"));
    fs::write(tree.path().join("file"), "content").expect("a file");
    let store = Store::open(dir.path().join("layers")).expect("opens");
    let hold = store.hold("machine").expect("holds");
    let options = Options::default();
    let pack = |root: &Path, out: File| pack_tree(root, out, &options, &Caps::default()).map(|summary| made(&summary));
    let image = store.tree(tree.path(), &form(&options), &hold, pack).expect("packs");
    let stdin = hold.as_fd().try_clone_to_owned().expect("a copy");
    // Its standard input is the hold, as a vmm's descriptor is.
    let mut child = Command::new("sleep").arg("1000").stdin(stdin).spawn().expect("starts");
    let file = hold.keep();
    let all = Prune { all: true, older_than: None };
    let first = store.prune(all).expect("prunes");
    child.kill().expect("kills");
    child.wait().expect("waits");
    assert_eq!(first, Pruned::default());
    assert!(file.exists());
    assert_eq!(store.prune(all).expect("prunes").images, [image.digest]);
    assert!(!file.exists());
}

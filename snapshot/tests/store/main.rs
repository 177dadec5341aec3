//! The store of templates. Threads stand for processes where that makes no difference: a flock belongs to an open file. No test here
//! may start a process, which would have the locks of all others until it executes.

mod baking;
mod common;
mod damage;
mod digests;
mod pruning;

use supermachine_snapshot::store::Store;
use tempfile::TempDir;

/// An empty store.
pub(crate) fn store() -> (TempDir, Store) {
    let dir = TempDir::new().expect("a directory");
    let store = Store::open(dir.path()).expect("a store");
    (dir, store)
}

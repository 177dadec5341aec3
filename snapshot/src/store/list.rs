//! What is in the store.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use crate::limits::Limits;
use crate::manifest::{Manifest, SnapshotId};
use crate::snapshot::Snapshot;

use super::bake::one_line;
use super::error::{StoreError, io_error};
use super::{Key, SNAPSHOT, Store, USE};

/// One template, or what is left of one.
#[derive(Debug)]
pub struct Entry {
    /// Its key.
    pub key: Key,
    /// Its snapshot's identity and manifest; where it cannot be opened, why.
    pub content: Result<(SnapshotId, Manifest), String>,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// When it was last used.
    pub last_used: Option<SystemTime>,
    /// Whether somebody uses it now.
    pub in_use: bool,
}

impl Entry {
    /// The base that it lies on.
    pub fn base(&self) -> Option<SnapshotId> {
        self.content.as_ref().ok().and_then(|(_, manifest)| manifest.about.base)
    }

    pub(super) fn id(&self) -> Option<SnapshotId> {
        self.content.as_ref().ok().map(|(id, _)| *id)
    }
}

impl Store {
    /// All templates, by key.
    ///
    /// # Errors
    /// The directory cannot be read. A template that cannot be is an entry that says so.
    pub fn list(&self) -> Result<Vec<Entry>, StoreError> {
        let named = |(name, rest): &(Key, Option<String>)| rest.is_none().then(|| name.clone());
        let keys: Vec<_> = self.names()?.iter().filter_map(named).collect();
        Ok(keys.into_iter().map(|key| self.entry(key)).collect())
    }

    /// All keys that anything is named for.
    pub(super) fn keys(&self) -> Result<BTreeSet<Key>, StoreError> {
        Ok(self.names()?.into_iter().map(|(key, _)| key).collect())
    }

    /// Names in the directory: key, and what is behind it.
    fn names(&self) -> Result<BTreeSet<(Key, Option<String>)>, StoreError> {
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(&self.dir).map_err(io_error("list", &self.dir))? {
            let name = entry.map_err(io_error("list", &self.dir))?.file_name();
            let Some(name) = name.to_str() else { continue };
            let (key, rest) = name.split_once('.').map_or((name, None), |(key, rest)| (key, Some(rest.to_owned())));
            names.extend(Key::parse(key).map(|key| (key, rest)));
        }
        Ok(names)
    }

    fn entry(&self, key: Key) -> Entry {
        let dir = self.template_dir(&key);
        let snapshot = Snapshot::open(&dir.join(SNAPSHOT), &Limits::default());
        let used = fs::symlink_metadata(dir.join(USE)).and_then(|metadata| metadata.modified());
        Entry {
            content: snapshot.map(|found| (found.id(), found.manifest().clone())).map_err(|error| one_line(&error)),
            disk_bytes: disk_bytes(&dir),
            last_used: used.ok(),
            in_use: self.in_use(&key),
            key,
        }
    }
}

/// Bytes on disk of a template: its files are at most one directory down.
fn disk_bytes(dir: &Path) -> u64 {
    let blocks = |path: &Path| path.symlink_metadata().map_or(0, |metadata| metadata.blocks() * 512);
    let inside = |dir: &Path| {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| blocks(&entry.path())).sum::<u64>()
    };
    blocks(dir) + inside(dir) + inside(&dir.join(SNAPSHOT))
}

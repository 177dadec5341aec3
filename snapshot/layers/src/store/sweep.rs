//! Removing: what a process left behind, what nothing leads to any more, and what people want gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use supermachine_lock::{self as lock, Mode};

use super::error::{if_there, io_error};
use super::record::Record;
use super::{LOCKS, MAKING, Store, StoreError};
use crate::digest::Digest;

/// What is to go.
#[derive(Debug, Clone, Copy, Default)]
pub struct Prune {
    /// Also what bundles name and what trees that still exist became: all that no container uses.
    pub all: bool,
    /// Only what was not used for so long.
    pub older_than: Option<Duration>,
}

/// What has gone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Images.
    pub images: Vec<Digest>,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// Removes images that nobody uses; never one that is held.
    pub fn prune(&self, what: Prune) -> Result<Pruned, StoreError> {
        let _gate = self.gate(Mode::Alone)?;
        self.sweep_drafts()?;
        let mut roots = self.roots()?;
        if what.all {
            roots.retain_held();
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let old = |image: &fs::Metadata| match what.older_than {
            None => true,
            Some(age) => {
                let used = Duration::from_secs(image.atime().max(0).cast_unsigned());
                now.checked_sub(used).is_some_and(|unused| unused >= age)
            }
        };
        self.remove_images(&roots, |_, image| old(image))
    }

    /// Removes what a process left behind and images that nothing leads to, unless the gate is taken: then the next does.
    pub fn sweep(&self) -> Result<(), StoreError> {
        let Some(_gate) = self.gate_if_free()? else { return Ok(()) };
        self.sweep_drafts()?;
        let roots = self.roots()?;
        let remembered: BTreeSet<_> = roots.records.values().map(|record| record.image).collect();
        let gone = self.remove_images(&roots, |image, _| !remembered.contains(image))?;
        if !gone.images.is_empty() {
            log::debug!("layer store: {} images that nothing leads to are removed", gone.images.len());
        }
        Ok(())
    }

    /// Removes drafts whose writers are gone, and names of locks that nobody has.
    pub(super) fn sweep_drafts(&self) -> Result<(), StoreError> {
        [MAKING, LOCKS].iter().try_for_each(|dir| self.sweep_free(dir))
    }

    fn sweep_free(&self, dir: &str) -> Result<(), StoreError> {
        for name in self.names(dir)? {
            let path = self.in_dir(dir, &name);
            let Some(file) = if_there(File::open(&path)).map_err(io_error("open", &path))? else { continue };
            // While it is ours and has the name, nobody can take the name.
            let ours = lock::try_hold(&file, Mode::Alone).map_err(io_error("lock", &path))?;
            if ours && lock::is_at(&file, &path) {
                if_there(fs::remove_file(&path)).map_err(io_error("remove", &path))?;
            }
        }
        Ok(())
    }

    /// What keeps images, without what keeps none any more; the gate is held alone.
    fn roots(&self) -> Result<Roots, StoreError> {
        let mut records = BTreeMap::new();
        for (key, record) in self.records()? {
            match record {
                Some(record) if record.tree.as_ref().is_none_or(|tree| tree.exists()) => {
                    records.insert(key, record);
                }
                _ => self.forget(&key)?,
            }
        }
        let trees = records.values().filter(|record| record.tree.is_some()).map(|record| record.image).collect();
        let held = self.held(true)?.into_keys().collect();
        Ok(Roots { records, held, bundles: self.of_bundles(true)?, trees })
    }

    /// Removes the images that nothing keeps and `goes` agrees to, and forgets what they were.
    fn remove_images(
        &self,
        roots: &Roots,
        goes: impl Fn(&Digest, &fs::Metadata) -> bool,
    ) -> Result<Pruned, StoreError> {
        let mut pruned = Pruned::default();
        for (image, found) in self.images()? {
            if roots.keep(&image) || !goes(&image, &found) {
                continue;
            }
            self.remove_image(&image, &roots.records)?;
            pruned.images.push(image);
            pruned.bytes = pruned.bytes.saturating_add(found.size());
        }
        Ok(pruned)
    }

    /// First the memory, so that a cut leaves an image that nothing leads to.
    pub(super) fn remove_image(&self, image: &Digest, records: &BTreeMap<String, Record>) -> Result<(), StoreError> {
        for (key, _) in records.iter().filter(|(_, record)| record.image == *image) {
            self.forget(key)?;
        }
        let path = self.image_path(image);
        if_there(fs::remove_file(&path)).map_err(io_error("remove", &path)).map(drop)
    }
}

/// What keeps images.
#[derive(Debug)]
struct Roots {
    records: BTreeMap<String, Record>,
    held: BTreeSet<Digest>,
    bundles: BTreeSet<Digest>,
    trees: BTreeSet<Digest>,
}

impl Roots {
    fn retain_held(&mut self) {
        self.bundles.clear();
        self.trees.clear();
    }

    fn keep(&self, image: &Digest) -> bool {
        [&self.held, &self.bundles, &self.trees].iter().any(|images| images.contains(image))
    }
}

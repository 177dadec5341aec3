//! The image of a plain directory tree, found again as long as the tree is exactly as it was.

use std::fs::File;
use std::path::Path;

use supermachine_lock::Mode;

use super::error::io_error;
use super::make::{copy, tree_record};
use super::record::{Key, Tree};
use super::write::Draft;
use super::{Hold, Image, Made, MakeError, Store, StoreError};
use crate::fingerprint::{self, Fingerprint};

/// How often a tree that changes meanwhile is packed before it is refused.
const TRIES: u32 = 3;

impl Store {
    /// The image of the tree at `root`: found by the tree's fingerprint, or written by `pack` into an empty file and kept until
    /// the tree is gone or another. `form` is as in [`Key::layer`].
    ///
    /// The fingerprint is taken before and after packing. A tree that changed in between is packed again; one whose last change
    /// is too recent for the file system's clock to tell it from a later one is packed and not remembered.
    ///
    /// # Errors
    /// Those of [`Store::layer`], and [`StoreError::Changing`] for a tree that does not stand still.
    pub fn tree<E>(
        &self,
        root: &Path,
        form: &str,
        hold: &Hold,
        mut pack: impl FnMut(&Path, File) -> Result<Made, E>,
    ) -> Result<Image, MakeError<E>>
    where
        E: std::error::Error + 'static,
    {
        let root = root.canonicalize().map_err(io_error("find", root))?;
        let key = Key::tree(&root, form);
        let mut before = fingerprint::settled(&root).map_err(StoreError::from)?;
        if let Some(image) = self.find_tree(&key, &before, hold)? {
            return Ok(image);
        }
        let _lock = self.key_lock(&key)?;
        if let Some(image) = self.find_tree(&key, &before, hold)? {
            return Ok(image);
        }
        self.sweep_drafts()?;
        let mut draft = Draft::new(self, 0o400)?;
        for _ in 0..TRIES {
            let made = pack(&root, copy(&draft)?);
            let after = fingerprint::take(&root).map_err(StoreError::from)?;
            if after.digest == before.digest {
                let made = made.map_err(MakeError::Make)?;
                return Ok(self.publish_tree(draft, &key, &root, &made, &before, hold)?);
            }
            // Whatever came of it, good or bad, is of a tree that is no more.
            draft.clear()?;
            before = fingerprint::settled(&root).map_err(StoreError::from)?;
        }
        Err(StoreError::Changing { path: root, tries: TRIES }.into())
    }

    fn find_tree(&self, key: &Key, now: &Fingerprint, hold: &Hold) -> Result<Option<Image>, StoreError> {
        let _gate = self.gate(Mode::Shared)?;
        let Some(record) = self.record(key.as_str())? else { return Ok(None) };
        match &record.tree {
            Some(tree) if tree.fingerprint == now.digest => self.take(&record, hold),
            _ => Ok(None),
        }
    }

    fn publish_tree(
        &self,
        draft: Draft,
        key: &Key,
        root: &Path,
        made: &Made,
        then: &Fingerprint,
        hold: &Hold,
    ) -> Result<Image, StoreError> {
        self.publish(draft, made, hold, |store| {
            // A path that is no text cannot be written down.
            if !then.settled || root.to_str().is_none() {
                return store.forget(key.as_str());
            }
            let tree = Tree { path: root.to_owned(), fingerprint: then.digest, root: then.root };
            store.write_record(key, &tree_record(key, made, tree))
        })
    }
}

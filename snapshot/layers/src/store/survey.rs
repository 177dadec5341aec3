//! What is in the store, and whether it is what it was.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use serde::Serialize;
use supermachine_lock::Mode;

use super::error::{if_there, io_error};
use super::record::Record;
use super::{Store, StoreError};
use crate::digest::Digest;

/// An image and what leads to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Digest of its bytes.
    pub image: Digest,
    /// Its bytes.
    pub bytes: u64,
    /// What was converted into it; nothing for one that is used by its makers only.
    pub sources: Vec<Source>,
    /// Files, directories and so on in it; 0 if not known.
    pub entries: u64,
    /// Bytes of the files in it, uncompressed; 0 if not known.
    pub content_bytes: u64,
    /// Who uses it right now.
    pub users: Vec<String>,
    /// Whether a bundle names it.
    pub bundle: bool,
    /// When it was used last, seconds since 1970.
    pub used: u64,
}

/// What an image was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// An image layer, by the digest of its uncompressed tar.
    Layer(Digest),
    /// A directory.
    Tree(PathBuf),
    /// Attributes that layers give to each other's directories, by the digest of the list of these layers' images.
    Attributes(Digest),
}

/// The state of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// Its bytes are those that were written.
    Good,
    /// They are others.
    Damaged,
    /// It is remembered and not there.
    Missing,
}

/// An image that was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Digest that its bytes should have.
    pub image: Digest,
    /// What was found.
    pub condition: Condition,
    /// Whether it was removed.
    pub removed: bool,
}

impl Store {
    /// All images, by their digests.
    pub fn list(&self) -> Result<Vec<Listed>, StoreError> {
        let _gate = self.gate(Mode::Shared)?;
        let (held, bundles) = (self.held(false)?, self.of_bundles(false)?);
        let records: Vec<_> = self.records()?.into_iter().filter_map(|(_, record)| record).collect();
        let list = self.images()?.into_iter().map(|(image, found)| {
            let of_image = || records.iter().filter(|record| record.image == image);
            let known = of_image().next();
            Listed {
                image,
                bytes: found.size(),
                sources: of_image().filter_map(source).collect(),
                entries: known.map_or(0, |record| record.entries),
                content_bytes: known.map_or(0, |record| record.content_bytes),
                users: held.get(&image).cloned().unwrap_or_default(),
                bundle: bundles.contains(&image),
                used: found.atime().max(0).cast_unsigned(),
            }
        });
        Ok(list.collect())
    }

    /// Reads all images and compares them with their digests; removes those that are damaged and not in use, and the memory of
    /// those that are not there, if `remove` says so.
    pub fn verify(&self, remove: bool) -> Result<Vec<Verified>, StoreError> {
        let mut all = Vec::new();
        for (image, _) in self.images()? {
            let path = self.image_path(&image);
            // Pruned meanwhile.
            let Some(file) = if_there(File::open(&path)).map_err(io_error("open", &path))? else { continue };
            let (found, _) = Digest::of_reader(file).map_err(io_error("read", &path))?;
            let condition = if found == image { Condition::Good } else { Condition::Damaged };
            all.push(Verified { image, condition, removed: false });
        }
        let records: BTreeMap<_, _> =
            self.records()?.into_iter().filter_map(|(key, record)| Some((key, record?))).collect();
        for record in records.values() {
            let listed = all.iter().any(|verified| verified.image == record.image);
            if !listed && !self.image_path(&record.image).is_file() {
                all.push(Verified { image: record.image, condition: Condition::Missing, removed: false });
            }
        }
        if remove {
            self.remove_bad(&mut all, &records)?;
        }
        Ok(all)
    }

    fn remove_bad(&self, all: &mut [Verified], records: &BTreeMap<String, Record>) -> Result<(), StoreError> {
        let _gate = self.gate(Mode::Alone)?;
        let held = self.held(true)?;
        for bad in all.iter_mut().filter(|verified| verified.condition != Condition::Good) {
            if !held.contains_key(&bad.image) {
                self.remove_image(&bad.image, records)?;
                bad.removed = true;
            }
        }
        Ok(())
    }
}

fn source(record: &Record) -> Option<Source> {
    let tree = record.tree.as_ref().map(|tree| Source::Tree(tree.path.clone()));
    tree.or(record.diff_id.map(Source::Layer)).or(record.stack.map(Source::Attributes))
}

//! What the store remembers of a layer or a tree: which image it became.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::error::{if_there, io_error};
use super::make::Made;
use super::{RECORDS, Store, StoreError, write};
use crate::digest::Digest;

const VERSION: u32 = 1;
const SUFFIX: &str = ".json";
/// What keys begin with.
const LAYER: &str = "layer-";
const ATTRIBUTES: &str = "attributes-";

/// What an image is found by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// Of an image layer: the digest of its tar, uncompressed, and the form of images it is to become, a word of letters and
    /// digits that changes whenever the same layer would give other bytes.
    pub fn layer(diff_id: &Digest, form: &str) -> Self {
        Self(format!("{LAYER}{}-{}", diff_id.hex(), plain(form)))
    }

    /// Of the attributes that layers give to each other's directories: their images, the lowest first.
    pub fn attributes(layers: &[Digest], form: &str) -> Self {
        let lines: String = layers.iter().map(|image| format!("{image}\n")).collect();
        Self(format!("{ATTRIBUTES}{}-{}", Digest::of(lines.as_bytes()).hex(), plain(form)))
    }

    /// Of the tree at a path.
    pub(super) fn tree(path: &Path, form: &str) -> Self {
        Self(format!("tree-{}-{}", Digest::of(path.as_os_str().as_bytes()).hex(), plain(form)))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

fn perhaps() -> bool {
    true
}

fn plain(form: &str) -> String {
    form.chars().filter(char::is_ascii_alphanumeric).collect()
}

/// The memory of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    pub(super) image: Digest,
    pub(super) bytes: u64,
    /// Files, directories and so on.
    pub(super) entries: u64,
    /// Bytes of files, uncompressed.
    pub(super) content_bytes: u64,
    #[serde(default)]
    pub(super) root_opaque: bool,
    /// A record that does not tell may be of one.
    #[serde(default = "perhaps")]
    pub(super) unlisted: bool,
    /// When it was made, seconds since 1970.
    pub(super) made: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) diff_id: Option<Digest>,
    /// Of the layers that lie below one of attributes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stack: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tree: Option<Tree>,
}

/// A tree as it was when it was packed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tree {
    pub(super) path: PathBuf,
    pub(super) fingerprint: Digest,
    /// Device and inode of its root directory.
    pub(super) root: (u64, u64),
}

impl Tree {
    /// Whether there still is a directory that it may be the memory of.
    pub(super) fn exists(&self) -> bool {
        let same = |found: Metadata| (found.dev(), found.ino()) == self.root;
        fs::symlink_metadata(&self.path).is_ok_and(same)
    }
}

impl Record {
    pub(super) fn new(key: &Key, made: &Made, tree: Option<Tree>) -> Self {
        let of = |kind: &str| {
            let hex = key.0.strip_prefix(kind).and_then(|rest| rest.split('-').next());
            hex.and_then(Digest::from_hex)
        };
        Self {
            version: VERSION,
            image: made.image,
            bytes: made.bytes,
            entries: made.entries,
            content_bytes: made.content_bytes,
            root_opaque: made.root_opaque,
            unlisted: made.unlisted,
            made: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            diff_id: of(LAYER),
            stack: of(ATTRIBUTES),
            tree,
        }
    }
}

impl Store {
    fn record_path(&self, key: &str) -> PathBuf {
        self.in_dir(RECORDS, &format!("{key}{SUFFIX}"))
    }

    /// The memory of a key. One that a crash of the host cut, or that another version wrote, is none.
    pub(super) fn record(&self, key: &str) -> Result<Option<Record>, StoreError> {
        let path = self.record_path(key);
        let bytes = if_there(fs::read(&path)).map_err(io_error("read", &path))?;
        let record = bytes.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
        Ok(record.filter(|record| record.version == VERSION))
    }

    pub(super) fn write_record(&self, key: &Key, record: &Record) -> Result<(), StoreError> {
        let path = self.record_path(key.as_str());
        let json = serde_json::to_vec(record).map_err(|error| io_error("write", &path)(error.into()))?;
        write::replace(self, &path, &json)
    }

    pub(super) fn forget(&self, key: &str) -> Result<(), StoreError> {
        let path = self.record_path(key);
        if_there(fs::remove_file(&path)).map_err(io_error("remove", &path)).map(drop)
    }

    /// Keys and memories; unreadable ones with nothing.
    pub(super) fn records(&self) -> Result<Vec<(String, Option<Record>)>, StoreError> {
        let names = self.names(RECORDS)?;
        let keys = names.iter().filter_map(|name| name.strip_suffix(SUFFIX));
        keys.map(|key| Ok((key.to_owned(), self.record(key)?))).collect()
    }

    /// Images and their sizes.
    pub(super) fn images(&self) -> Result<Vec<(Digest, Metadata)>, StoreError> {
        let mut images = Vec::new();
        for name in self.names(super::IMAGES)? {
            let stem = Path::new(&name).file_stem().and_then(OsStr::to_str).and_then(Digest::from_hex);
            let Some(image) = stem else { continue };
            let path = self.image_path(&image);
            let found = if_there(fs::symlink_metadata(&path)).map_err(io_error("look at", &path))?;
            images.extend(found.map(|found| (image, found)));
        }
        Ok(images)
    }
}

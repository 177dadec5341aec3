//! The layer store: squashfs images by the digest of their bytes, each made once, for all containers.
//!
//! | in the store | |
//! |---|---|
//! | `images/<sha256>.squashfs` | an image; complete and on disk whenever it has this name |
//! | `records/<key>.json` | which image a layer or a tree became |
//! | `holds/<name>` | the images somebody uses; the file's lock is held as long as they are in use |
//! | `bundles/<name>` | the path of a bundle whose layers are kept for it |
//! | `making/<name>` | an image that is being written; its writer holds the file's lock |
//! | `locks/<key>` | held while the image for a key is made |
//! | `gate` | held, shared, while an image is found and noted as used, alone while images are removed |
//!
//! All locks are those of open files: what a process that was killed leaves behind is free, and goes with the next that is
//! made or pruned.

mod bundles;
mod error;
mod hold;
mod make;
mod record;
mod survey;
mod sweep;
mod tree;
mod write;

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

pub use error::{MakeError, StoreError};
pub use hold::Hold;
pub use make::{Image, Made};
pub use record::Key;
pub use survey::{Condition, Listed, Source, Verified};
pub use sweep::{Prune, Pruned};

use supermachine_lock::{self as lock, Mode};

use crate::digest::Digest;
use error::io_error;

const IMAGES: &str = "images";
const RECORDS: &str = "records";
const HOLDS: &str = "holds";
const BUNDLES: &str = "bundles";
const MAKING: &str = "making";
const LOCKS: &str = "locks";
const SUFFIX: &str = "squashfs";

/// The store in one directory.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// The store at an absolute path, which is made if it is not there.
    pub fn open(dir: PathBuf) -> Result<Self, StoreError> {
        // The last that is made: whoever sees it sees all.
        if !dir.join(LOCKS).is_dir() {
            for name in [IMAGES, RECORDS, HOLDS, BUNDLES, MAKING, LOCKS] {
                let path = dir.join(name);
                DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(io_error("make", &path))?;
            }
        }
        Ok(Self { dir })
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where an image is, if it is there.
    pub fn image_path(&self, image: &Digest) -> PathBuf {
        self.dir.join(IMAGES).join(format!("{}.{SUFFIX}", image.hex()))
    }

    fn in_dir(&self, dir: &str, name: &str) -> PathBuf {
        self.dir.join(dir).join(name)
    }

    /// Waits until images may be found, or removed.
    fn gate(&self, mode: Mode) -> Result<File, StoreError> {
        let path = self.dir.join("gate");
        let file = lock::open(&path).map_err(io_error("open", &path))?;
        lock::hold(&file, mode).map_err(io_error("lock", &path))?;
        Ok(file)
    }

    /// The right to remove images, if nobody needs the gate just now.
    fn gate_if_free(&self) -> Result<Option<File>, StoreError> {
        let path = self.dir.join("gate");
        let file = lock::open(&path).map_err(io_error("open", &path))?;
        let free = lock::try_hold(&file, Mode::Alone).map_err(io_error("lock", &path))?;
        Ok(free.then_some(file))
    }

    /// Names in one of its directories that are text, in order.
    fn names(&self, dir: &str) -> Result<Vec<String>, StoreError> {
        let path = self.dir.join(dir);
        let read = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in path.read_dir()? {
                names.extend(entry?.file_name().into_string());
            }
            names.sort_unstable();
            Ok(names)
        };
        read().map_err(io_error("read", &path))
    }
}

#[cfg(test)]
mod tests;

//! Writing an image: whole, or nothing of it; one that was there before is there until then.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use supermachine_snapshot::sparse;

use super::{CheckpointError, DATA_SUFFIX, MANIFEST, Manifest, io_error, is_data_name};
use crate::state::write_json;

/// An image that is being written. Dropping it removes what is there of it.
#[derive(Debug)]
pub struct Draft {
    folder: PathBuf,
    /// Whether the directory was not there.
    made: bool,
    name: String,
    data: PathBuf,
    done: bool,
    /// Locked, so that there is one at a time.
    _lock: File,
}

impl Draft {
    /// Begins an image in `folder`, which is made if it is not there. What a writer left that died goes.
    ///
    /// # Errors
    /// The directory cannot be used, or another image is being written to it.
    pub fn begin(folder: &Path) -> Result<Self, CheckpointError> {
        let made = !folder.exists();
        let mut builder = DirBuilder::new();
        builder.mode(0o700).recursive(true).create(folder).map_err(io_error("make", folder))?;
        let lock = File::open(folder).map_err(io_error("open", folder))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(CheckpointError::Busy { path: folder.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(io_error("lock", folder)(source)),
        }
        let name = format!("{:016x}{DATA_SUFFIX}", RandomState::new().build_hasher().finish());
        let data = folder.join(&name);
        let draft = Self { folder: folder.to_owned(), made, name, data, done: false, _lock: lock };
        draft.sweep(current(folder).as_deref());
        builder.recursive(false).create(&draft.data).map_err(io_error("make", &draft.data))?;
        Ok(draft)
    }

    /// Where the files go.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Digests of the layers.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn layers(&self, count: u32) -> Result<Vec<String>, CheckpointError> {
        (0..count).map(|number| digest(&self.data.join("layers").join(number.to_string()))).collect()
    }

    /// Digest of the disk for what was written to the root.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn upper(&self) -> Result<String, CheckpointError> {
        digest(&self.data.join("upper"))
    }

    /// The image is whole: from here on it is the directory's.
    ///
    /// # Errors
    /// The host's disk is full or broken; then the one that was there before still is.
    pub fn commit(mut self, manifest: &Manifest) -> Result<(), CheckpointError> {
        let path = self.folder.join(MANIFEST);
        write_json(&path, manifest).map_err(io_error("write", &path))?;
        self.done = true;
        self.sweep(Some(&self.name));
        Ok(())
    }

    /// Removes all files of images but those with this name.
    fn sweep(&self, keep: Option<&str>) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let other = name.to_str().is_some_and(|name| is_data_name(name) && Some(name) != keep);
            if other && let Err(error) = fs::remove_dir_all(entry.path()) {
                log::warn!("{} stays: {error}", entry.path().display());
            }
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let removed = match fs::remove_dir_all(&self.data) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        if let Err(error) = removed {
            log::warn!("{} stays: {error}", self.data.display());
        } else if self.made {
            // Somebody else may have put something there.
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

/// Name of the directory that the image in `folder` has its files in, if there is one.
fn current(folder: &Path) -> Option<String> {
    let bytes = fs::read(folder.join(MANIFEST)).ok()?;
    let manifest: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    manifest.get("data")?.as_str().map(str::to_owned)
}

fn digest(path: &Path) -> Result<String, CheckpointError> {
    let file = File::open(path).map_err(io_error("open", path))?;
    sparse::digest(&file).map_err(io_error("read", path))
}

//! Directories of work in progress: nobody looks for templates in them, and whoever has the lock may remove them.

use std::fs::{self, DirBuilder};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::error::{StoreError, io_error};
use super::{Key, Store, WORK};

/// A directory that is removed with all in it, unless it was renamed.
#[derive(Debug)]
pub(super) struct Work(PathBuf);

impl Work {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // Nothing is there after a rename. What cannot be removed is the next baker's to remove.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Store {
    /// A path that nobody has.
    pub(super) fn work_path(&self, key: &Key) -> PathBuf {
        self.dir.join(format!("{key}.{WORK}.{:016x}", RandomState::new().build_hasher().finish()))
    }

    /// A new directory.
    pub(super) fn work(&self, key: &Key) -> Result<Work, StoreError> {
        let path = self.work_path(key);
        DirBuilder::new().mode(0o700).create(&path).map_err(io_error("make", &path))?;
        Ok(Work(path))
    }

    /// Takes what is at `from` away from its name, then removes it: nobody ever sees half of it there.
    pub(super) fn take_away(&self, key: &Key, from: &Path) -> Result<(), StoreError> {
        let work = Work(self.work_path(key));
        match fs::rename(from, work.path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(io_error("remove", from)),
        }
    }

    /// Removes what dead bakers left. The caller has the lock.
    pub(super) fn clear_work(&self, key: &Key) -> Result<(), StoreError> {
        let prefix = format!("{key}.{WORK}.");
        for entry in fs::read_dir(&self.dir).map_err(io_error("list", &self.dir))? {
            let path = entry.map_err(io_error("list", &self.dir))?.path();
            let name = path.file_name().unwrap_or_default();
            if name.as_encoded_bytes().starts_with(prefix.as_bytes()) {
                fs::remove_dir_all(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(())
    }
}

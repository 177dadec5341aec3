//! Finding images, and making those that are not there, each by one maker while the others wait.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use supermachine_lock::{self as lock, Mode};

use super::error::{if_there, io_error};
use super::record::{Key, Record, Tree};
use super::write::Draft;
use super::{Hold, LOCKS, MakeError, Store, StoreError};
use crate::digest::Digest;

/// What a writer says of the image it has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// Digest of the image's bytes.
    pub image: Digest,
    /// Bytes of the image.
    pub bytes: u64,
    /// Files, directories and so on in it.
    pub entries: u64,
    /// Bytes of the files in it, uncompressed.
    pub content_bytes: u64,
    /// Whether no layer below this one may show.
    pub root_opaque: bool,
    /// Whether layers below this one describe directories of it.
    pub unlisted: bool,
}

/// An image that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Digest of its bytes.
    pub digest: Digest,
    /// Its bytes.
    pub bytes: u64,
    /// Its file.
    pub path: PathBuf,
    /// Whether it was there before.
    pub found: bool,
    /// Whether no layer below this one may show.
    pub root_opaque: bool,
    /// Whether layers below this one describe directories of it.
    pub unlisted: bool,
}

impl Store {
    /// The image of a layer: found, or written by `make` into an empty file and kept. `hold` has it from then on.
    ///
    /// Of those that want the same layer at the same time one calls `make`, in whatever process they are.
    ///
    /// # Errors
    /// Nothing is left of an image when this fails, and the next caller tries again.
    pub fn layer<E>(
        &self,
        key: &Key,
        hold: &Hold,
        make: impl FnOnce(File) -> Result<Made, E>,
    ) -> Result<Image, MakeError<E>>
    where
        E: std::error::Error + 'static,
    {
        if let Some(image) = self.find(key, hold)? {
            return Ok(image);
        }
        let _lock = self.key_lock(key)?;
        if let Some(image) = self.find(key, hold)? {
            return Ok(image);
        }
        self.sweep_drafts()?;
        let draft = Draft::new(self, 0o400)?;
        let made = make(copy(&draft)?).map_err(MakeError::Make)?;
        let image =
            self.publish(draft, &made, hold, |store| store.write_record(key, &Record::new(key, &made, None)))?;
        Ok(image)
    }

    /// The image that a key is known to have become, held from then on.
    pub fn find(&self, key: &Key, hold: &Hold) -> Result<Option<Image>, StoreError> {
        let _gate = self.gate(Mode::Shared)?;
        let Some(record) = self.record(key.as_str())? else { return Ok(None) };
        self.take(&record, hold)
    }

    /// The image of a record, if it is whole; the gate is held.
    pub(super) fn take(&self, record: &Record, hold: &Hold) -> Result<Option<Image>, StoreError> {
        let path = self.image_path(&record.image);
        if !self.has_length(&path, record.bytes)? {
            return Ok(None);
        }
        hold.add(&record.image)?;
        self.touch(&path);
        Ok(Some(Image {
            digest: record.image,
            bytes: record.bytes,
            path,
            found: true,
            root_opaque: record.root_opaque,
            unlisted: record.unlisted,
        }))
    }

    fn has_length(&self, path: &Path, bytes: u64) -> Result<bool, StoreError> {
        let found = if_there(fs::symlink_metadata(path)).map_err(io_error("look at", path))?;
        Ok(found.is_some_and(|found| found.is_file() && found.size() == bytes))
    }

    /// Notes that an image was used now, for those that prune by age.
    pub(super) fn touch(&self, path: &Path) {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let same = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let times = Timestamps { last_access: now, last_modification: same };
        if let Err(errno) = rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW) {
            log::debug!("{}: its time of use stays: {errno}", path.display());
        }
    }

    /// Waits for the right to make the image of a key; its file is removed at the end.
    pub(super) fn key_lock(&self, key: &Key) -> Result<KeyLock, StoreError> {
        let path = self.in_dir(LOCKS, key.as_str());
        let lock = lock::hold_removable(&path, || ()).map_err(io_error("lock", &path))?;
        Ok(KeyLock { _lock: lock, path })
    }

    /// Keeps an image that was written whole: on disk first, then under its name, then remembered.
    pub(super) fn publish(
        &self,
        draft: Draft,
        made: &Made,
        hold: &Hold,
        remember: impl FnOnce(&Self) -> Result<(), StoreError>,
    ) -> Result<Image, StoreError> {
        let path = self.image_path(&made.image);
        let found = draft.file().metadata().map_err(io_error("look at", &path))?.size();
        if found != made.bytes {
            return Err(StoreError::Length { found, said: made.bytes });
        }
        draft.sync()?;
        {
            let _gate = self.gate(Mode::Shared)?;
            // The same bytes may be there already, and in use: their pages are shared then.
            if !self.has_length(&path, made.bytes)? {
                draft.name(&path)?;
            }
            hold.add(&made.image)?;
            self.touch(&path);
            remember(self)?;
        }
        self.sweep()?;
        let Made { image, bytes, root_opaque, unlisted, .. } = *made;
        Ok(Image { digest: image, bytes, path, found: false, root_opaque, unlisted })
    }
}

/// A second descriptor of a draft.
pub(super) fn copy(draft: &Draft) -> Result<File, StoreError> {
    draft.file().try_clone().map_err(|source| StoreError::Io { what: "write", path: PathBuf::new(), source })
}

/// The right to make the image of a key.
#[derive(Debug)]
pub(super) struct KeyLock {
    _lock: lock::Removable,
    path: PathBuf,
}

impl Drop for KeyLock {
    fn drop(&mut self) {
        // Before the lock is free: who waits for it sees that it is another file's by then.
        let _ = fs::remove_file(&self.path);
    }
}

/// A tree as it is remembered.
pub(super) fn tree_record(key: &Key, made: &Made, tree: Tree) -> Record {
    Record::new(key, made, Some(tree))
}

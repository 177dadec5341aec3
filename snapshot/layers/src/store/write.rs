//! Files that are written under another name, and that are gone if their writer ends early.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use supermachine_lock::{self as lock, Mode};

use super::error::io_error;
use super::{MAKING, Store, StoreError};

/// A name that no other has, unless clocks go back: who makes a file of it finds out.
pub(super) fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{:x}-{count:x}-{:x}", std::process::id(), since.as_nanos())
}

/// Makes a new file, locked for its maker alone, in a directory whose files go when nobody holds their locks.
pub(super) fn locked_file(dir: &Path, mode: u32) -> io::Result<(File, PathBuf)> {
    loop {
        let path = dir.join(unique());
        let file = match OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            other => other?,
        };
        // A sweep may have come between: then it is gone.
        if lock::try_hold(&file, Mode::Alone)? && lock::is_at(&file, &path) {
            return Ok((file, path));
        }
    }
}

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Draft {
    file: File,
    path: PathBuf,
    done: bool,
}

impl Draft {
    /// An empty one.
    pub(super) fn new(store: &Store, mode: u32) -> Result<Self, StoreError> {
        let dir = store.dir.join(MAKING);
        let (file, path) = locked_file(&dir, mode).map_err(io_error("write into", &dir))?;
        Ok(Self { file, path, done: false })
    }

    /// To write to.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Empties it.
    pub(super) fn clear(&mut self) -> Result<(), StoreError> {
        let cleared = self.file.set_len(0).and_then(|()| io::Seek::rewind(&mut self.file));
        cleared.map_err(io_error("write", &self.path))
    }

    /// Has everything on disk.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(io_error("write", &self.path))
    }

    /// Gives it its name; what had it is replaced.
    pub(super) fn name(mut self, to: &Path) -> Result<(), StoreError> {
        fs::rename(&self.path, to).map_err(io_error("make", to))?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.done {
            // The error that led here is the one to tell; what stays is swept by the next.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Replaces a small file as a whole. It is not waited for: after a crash of the host it is there whole, empty, or not.
pub(super) fn replace(store: &Store, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let draft = Draft::new(store, 0o600)?;
    draft.file().write_all(bytes).map_err(io_error("write", path))?;
    draft.name(path)
}

//! Locks on files: flocks, so that they end with whoever held them, and a wait for one is no polling.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

/// Opens a lock's file, made if missing, never through a link, closed in children.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)
}

/// Whether `path` still names this file.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(held), Ok(there)) = (file.metadata(), path.symlink_metadata()) else { return false };
    (held.dev(), held.ino()) == (there.dev(), there.ino())
}

/// The lock of a baker.
#[derive(Debug)]
pub(super) struct Exclusive {
    /// The locked file.
    pub(super) file: File,
    /// Whether another held it before.
    pub(super) waited: bool,
}

/// Takes the lock at `path` for itself; calls `waiting` once if another holds it, then waits. Whoever holds it may remove the file:
/// then the new one counts.
pub(super) fn exclusive(path: &Path, mut waiting: impl FnMut()) -> io::Result<Exclusive> {
    let mut waited = false;
    loop {
        let file = open(path)?;
        if !try_exclusive(&file)? {
            if !waited {
                waiting();
            }
            waited = true;
            retry(|| file.lock())?;
        }
        if is_at(&file, path) {
            return Ok(Exclusive { file, waited });
        }
    }
}

/// Takes the lock at `path` if it is free.
pub(super) fn exclusive_if_free(path: &Path) -> io::Result<Option<File>> {
    let file = open(path)?;
    Ok((try_exclusive(&file)? && is_at(&file, path)).then_some(file))
}

/// Takes an open file's lock for itself if it is free.
pub(super) fn try_exclusive(file: &File) -> io::Result<bool> {
    tried(file.try_lock())
}

/// Takes an open file's lock with others, if nobody has it alone.
pub(super) fn try_shared(file: &File) -> io::Result<bool> {
    tried(file.try_lock_shared())
}

/// Takes an open file's lock with others, after whoever has it alone.
pub(super) fn shared(file: &File) -> io::Result<()> {
    retry(|| file.lock_shared())
}

fn tried(result: Result<(), TryLockError>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// A signal ends the wait of a system call, not ours.
fn retry(mut lock: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    loop {
        match lock() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

//! Advisory locks on whole files: whoever holds one is alive, and its end, however it comes, frees it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags, flock};

/// Whether others may hold it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They may, in this mode.
    Shared,
    /// They may not.
    Alone,
}

/// Opens a lock's file, made if missing, never through a link.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(path)
}

/// Waits for the lock. It is held until the last copy of the descriptor is closed.
pub(crate) fn hold(file: &File, mode: Mode) -> io::Result<()> {
    let operation = if mode == Mode::Shared { FlockOperation::LockShared } else { FlockOperation::LockExclusive };
    Ok(rustix::io::retry_on_intr(|| flock(file, operation))?)
}

/// Takes the lock if that needs no waiting.
pub(crate) fn try_hold(file: &File, mode: Mode) -> io::Result<bool> {
    let operation = match mode {
        Mode::Shared => FlockOperation::NonBlockingLockShared,
        Mode::Alone => FlockOperation::NonBlockingLockExclusive,
    };
    match rustix::io::retry_on_intr(|| flock(file, operation)) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether `path` still names this file.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(held), Ok(there)) = (file.metadata(), path.symlink_metadata()) else { return false };
    (held.dev(), held.ino()) == (there.dev(), there.ino())
}

/// Makes and locks a file that its holder removes while it has the lock, so that nothing is left of it. Waits.
pub(crate) fn hold_removable(path: &Path) -> io::Result<File> {
    loop {
        let file = open(path)?;
        hold(&file, Mode::Alone)?;
        // Who held it before has removed it: others lock another file by now.
        if is_at(&file, path) {
            return Ok(file);
        }
    }
}

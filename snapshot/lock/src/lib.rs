//! Advisory locks on whole files (flock): whoever holds one is alive, and its end, however it comes, frees it. A lock is held until the
//! last copy of its descriptor is closed, here or in a child. A wait for one is no polling.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Whether others may hold it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They may, in this mode.
    Shared,
    /// They may not.
    Alone,
}

/// Opens a lock's file to read and write: made with mode 0600 if missing, never through a link, closed in programs that are started.
///
/// # Errors
/// Those of `open`; ELOOP for a link.
pub fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)
}

/// Waits for the lock of an open file.
///
/// # Errors
/// Those of `flock`; a signal does not end the wait.
pub fn hold(file: &File, mode: Mode) -> io::Result<()> {
    loop {
        let held = match mode {
            Mode::Shared => file.lock_shared(),
            Mode::Alone => file.lock(),
        };
        match held {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Takes the lock of an open file if that needs no waiting; whether it has it.
///
/// # Errors
/// Those of `flock`.
pub fn try_hold(file: &File, mode: Mode) -> io::Result<bool> {
    let held = match mode {
        Mode::Shared => file.try_lock_shared(),
        Mode::Alone => file.try_lock(),
    };
    match held {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether `path` still names this file.
pub fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(held), Ok(there)) = (file.metadata(), path.symlink_metadata()) else { return false };
    (held.dev(), held.ino()) == (there.dev(), there.ino())
}

/// A lock whose file its holder may remove while it has it, so that nothing is left of it.
#[derive(Debug)]
pub struct Removable {
    /// The locked file.
    pub file: File,
    /// Whether another held it before.
    pub waited: bool,
}

/// Takes the lock at `path` alone, the file made if missing; calls `waiting` once if another holds it, then waits.
///
/// # Errors
/// Those of [`open`] and [`hold`].
pub fn hold_removable(path: &Path, mut waiting: impl FnMut()) -> io::Result<Removable> {
    let mut waited = false;
    loop {
        let file = open(path)?;
        if !try_hold(&file, Mode::Alone)? {
            if !waited {
                waiting();
            }
            waited = true;
            hold(&file, Mode::Alone)?;
        }
        // Whoever held it before may have removed it: others lock another file by now.
        if is_at(&file, path) {
            return Ok(Removable { file, waited });
        }
    }
}

/// The same if nobody holds it.
///
/// # Errors
/// Those of [`open`] and [`try_hold`].
pub fn try_hold_removable(path: &Path) -> io::Result<Option<File>> {
    let file = open(path)?;
    Ok((try_hold(&file, Mode::Alone)? && is_at(&file, path)).then_some(file))
}

/// Whether nobody holds the lock of the file at `path` alone. A file that is not there is held by nobody.
///
/// # Errors
/// Those of `open` and `flock`.
pub fn is_free(path: &Path) -> io::Result<bool> {
    match File::open(path) {
        Ok(file) => try_hold(&file, Mode::Shared),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Waits until nobody holds the lock of the file at `path` alone, at most for `limit`; whether that is so. A file that is not there is
/// held by nobody.
///
/// # Errors
/// Those of `open` and `flock`.
pub fn wait_until_free(path: &Path, limit: Duration) -> io::Result<bool> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        other => other?,
    };
    if try_hold(&file, Mode::Shared)? {
        return Ok(true);
    }
    // A wait for a lock has no limit, one for a thread has.
    let (freed, is_free) = mpsc::channel();
    thread::spawn(move || freed.send(hold(&file, Mode::Shared)));
    is_free.recv_timeout(limit).map_or(Ok(false), |locked| locked.map(|()| true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_lives_as_long_as_its_last_descriptor() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let path = dir.path().join("alive");
        assert!(is_free(&path).expect("no file"));
        let first = open(&path).expect("opens");
        hold(&first, Mode::Alone).expect("locks");
        let copy = first.try_clone().expect("a copy");
        assert!(!is_free(&path).expect("asks"));
        assert!(!try_hold(&open(&path).expect("opens"), Mode::Alone).expect("asks"));
        drop(first);
        assert!(!is_free(&path).expect("asks"), "the copy holds it");
        assert!(!wait_until_free(&path, Duration::from_millis(10)).expect("waits"));
        let waits = thread::spawn({
            let path = path.clone();
            move || wait_until_free(&path, Duration::from_secs(60)).expect("waits")
        });
        drop(copy);
        assert!(waits.join().expect("no panic"));
        assert!(is_free(&path).expect("asks"));
        assert!(try_hold(&open(&path).expect("opens"), Mode::Alone).expect("asks"));
    }

    #[test]
    fn some_may_share_what_one_may_have() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let path = dir.path().join("gate");
        let [one, two, three] = [(); 3].map(|()| open(&path).expect("opens"));
        hold(&one, Mode::Shared).expect("locks");
        assert!(try_hold(&two, Mode::Shared).expect("asks"));
        assert!(!try_hold(&three, Mode::Alone).expect("asks"));
        drop((one, two));
        assert!(try_hold(&three, Mode::Alone).expect("asks"));
        assert!(!try_hold(&open(&path).expect("opens"), Mode::Shared).expect("asks"));
    }

    #[test]
    fn a_file_that_was_replaced_is_noticed() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let path = dir.path().join("lock");
        let file = open(&path).expect("opens");
        assert!(is_at(&file, &path));
        std::fs::remove_file(&path).expect("removes");
        assert!(!is_at(&file, &path));
        let _other = open(&path).expect("opens");
        assert!(!is_at(&file, &path));
    }

    #[test]
    fn who_waits_for_a_lock_that_is_removed_gets_the_next() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let path = dir.path().join("lock");
        let first = hold_removable(&path, || unreachable!("nobody has it")).expect("locks");
        assert!(!first.waited && try_hold_removable(&path).expect("asks").is_none());
        let (begins, began) = mpsc::channel();
        let waits = thread::spawn({
            let path = path.clone();
            move || hold_removable(&path, || begins.send(()).expect("somebody waits")).expect("locks")
        });
        began.recv().expect("waits");
        std::fs::remove_file(&path).expect("removes");
        drop(first);
        let second = waits.join().expect("no panic");
        assert!(second.waited && is_at(&second.file, &path));
    }

    #[test]
    fn a_link_is_no_lock() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let path = dir.path().join("lock");
        std::os::unix::fs::symlink(dir.path().join("other"), &path).expect("links");
        assert_eq!(open(&path).expect_err("a link").raw_os_error(), Some(libc::ELOOP));
        assert!(!dir.path().join("other").exists());
    }
}

//! Advisory locks on whole files: who holds one is alive.
// UNSAFETY: flock has no safe form that leaves the lock to other holders of the same open file.
#![expect(unsafe_code, reason = "flock")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Opens a lock's file, made if missing, never through a link, closed in children.
pub fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)
}

/// Waits for the lock for itself. It is held until the last copy of the descriptor is closed, here or in a child.
pub fn hold(file: &File) -> io::Result<()> {
    flock(file, libc::LOCK_EX)
}

/// Takes the lock for itself if it is free.
pub fn try_hold(file: &File) -> io::Result<bool> {
    tried(flock(file, libc::LOCK_EX | libc::LOCK_NB))
}

/// Whether nobody holds the lock of the file at `path`. A file that is not there is held by nobody.
pub fn is_free(path: &Path) -> io::Result<bool> {
    match File::open(path) {
        Ok(file) => tried(flock(&file, libc::LOCK_SH | libc::LOCK_NB)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Waits until nobody holds the lock of the file at `path`, at most for `limit`; whether that is so. A file that is not there
/// is held by nobody.
pub fn wait_until_free(path: &Path, limit: Duration) -> io::Result<bool> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        other => other?,
    };
    if tried(flock(&file, libc::LOCK_SH | libc::LOCK_NB))? {
        return Ok(true);
    }
    // A wait for a lock has no limit, one for a thread has.
    let (freed, is_free) = mpsc::channel();
    thread::spawn(move || freed.send(flock(&file, libc::LOCK_SH)));
    is_free.recv_timeout(limit).map_or(Ok(false), |locked| locked.map(|()| true))
}

/// Whether `path` still names this file.
pub fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(held), Ok(there)) = (file.metadata(), path.symlink_metadata()) else { return false };
    (held.dev(), held.ino()) == (there.dev(), there.ino())
}

fn tried(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

fn flock(file: &File, operation: i32) -> io::Result<()> {
    loop {
        // SAFETY: takes two numbers; the descriptor is open as long as `file` lives.
        if unsafe { libc::flock(file.as_raw_fd(), operation) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
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
        hold(&first).expect("locks");
        let copy = first.try_clone().expect("a copy");
        assert!(!is_free(&path).expect("asks"));
        assert!(!try_hold(&open(&path).expect("opens")).expect("asks"));
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
        assert!(try_hold(&open(&path).expect("opens")).expect("asks"));
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
}

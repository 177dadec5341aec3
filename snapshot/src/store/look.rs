//! Finding a template that is there.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::errno::Errno;
use supermachine_lock::{self as lock, Mode};

use crate::error::SnapshotError;
use crate::limits::Limits;
use crate::snapshot::Snapshot;

use super::error::{StoreError, io_error};
use super::{Key, Parts, SNAPSHOT, Store, USE, seal};

/// A template in use: it is not pruned as long as this, or a copy of [`Template::guard`] in any process, lives.
#[derive(Debug)]
pub struct Template {
    key: Key,
    dir: PathBuf,
    guard: File,
    snapshot: Snapshot,
}

impl Template {
    /// Its key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The directory of its snapshot, for [`Snapshot::open`] in another process.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The open snapshot.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The file whose shared lock says that the template is in use. A child that inherits it keeps the template for its own life.
    pub fn guard(&self) -> &File {
        &self.guard
    }

    /// Snapshot and guard, for a machine that keeps both.
    pub fn into_parts(self) -> (Snapshot, File) {
        (self.snapshot, self.guard)
    }
}

/// What is there for a key.
pub(super) enum Found {
    /// A template.
    Ready(Box<Template>),
    /// Nothing, or something that is being removed.
    Missing,
    /// A template that was written to since it was baked; what was read of it is good.
    Unsealed(Box<Template>),
    /// Nothing that can be used.
    Bad(Stale),
}

/// Why a template cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stale {
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("it was made of other parts")]
    Parts,
    #[error("it cannot be locked")]
    Lock(#[source] io::Error),
}

impl Stale {
    /// Whether the template may be good, and only this process cannot read it now.
    pub(super) fn may_pass(&self) -> bool {
        let (Self::Snapshot(SnapshotError::Io { source, .. }) | Self::Lock(source)) = self else { return false };
        let passing = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::EACCES, Errno::EPERM, Errno::ENOLCK];
        source.raw_os_error().is_some_and(|error| passing.contains(&Errno::from_raw(error)))
    }
}

impl Store {
    /// The template for `parts` if it is there, whole and of nobody's hand since it was baked. Cost: some ten system calls and the
    /// digest of its state; nothing that grows with RAM. Nothing is waited for.
    pub fn get(&self, parts: &Parts) -> Option<Template> {
        match self.look(parts, |file| lock::try_hold(file, Mode::Shared)) {
            Found::Ready(template) => Some(*template),
            _ => None,
        }
    }

    /// What is there. `share` takes the shared lock, or tells that somebody has it alone.
    pub(super) fn look(&self, parts: &Parts, share: impl Fn(&File) -> io::Result<bool>) -> Found {
        let key = parts.key();
        let dir = self.template_dir(&key);
        let path = dir.join(USE);
        let guard = match File::open(&path) {
            Ok(guard) => guard,
            Err(_) if dir.symlink_metadata().is_err() => return Found::Missing,
            Err(error) => return Found::Bad(Stale::Lock(error)),
        };
        match share(&guard) {
            Ok(true) if lock::is_at(&guard, &path) => {}
            Ok(_) => return Found::Missing,
            Err(error) => return Found::Bad(Stale::Lock(error)),
        }
        let snapshot_dir = dir.join(SNAPSHOT);
        let snapshot = match Snapshot::open(&snapshot_dir, &Limits::default()) {
            Ok(snapshot) => snapshot,
            Err(error) => return Found::Bad(error.into()),
        };
        if snapshot.manifest().about.key != *parts.map() {
            return Found::Bad(Stale::Parts);
        }
        let template = Box::new(Template { key, dir: snapshot_dir, guard, snapshot });
        if !seal::holds(&dir) {
            return Found::Unsealed(template);
        }
        // A file system that cannot keep the time of the last use loses nothing else.
        let _ = template.guard.set_modified(SystemTime::now());
        Found::Ready(template)
    }

    /// A template that this process has just put at its place, with the lock it took before.
    pub(super) fn made(&self, key: Key, guard: File, snapshot: Snapshot) -> Template {
        let dir = self.template_dir(&key).join(SNAPSHOT);
        Template { key, dir, guard, snapshot }
    }

    /// Writes a template's seal anew, its content having been read.
    pub(super) fn seal_again(&self, key: &Key) -> Result<(), StoreError> {
        let dir = self.template_dir(key);
        seal::write(&dir).map_err(io_error("seal", dir))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_descriptors_does_not_condemn_a_template() {
        let lock = |error: Errno| Stale::Lock(io::Error::from_raw_os_error(error as i32)).may_pass();
        assert!(lock(Errno::EMFILE) && lock(Errno::EACCES));
        assert!(!lock(Errno::ENOENT) && !lock(Errno::EIO));
        let open = |error: Errno| {
            let source = io::Error::from_raw_os_error(error as i32);
            Stale::Snapshot(SnapshotError::Io { what: "open", path: "state".into(), source }).may_pass()
        };
        assert!(open(Errno::ENFILE) && !open(Errno::ELOOP));
        assert!(!Stale::Parts.may_pass() && !Stale::Snapshot(SnapshotError::OtherMemory).may_pass());
    }
}

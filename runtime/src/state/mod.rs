//! The state directory: one directory a container, its record, its lock, the sign of life of its machine.
//!
//! `<root>/<id>/` has `state.json` (the record), `exec.json`, `lock` (held by a verb that changes something), `alive` (held
//! by the vmm for its life), `control` (the vmm's socket) and `vmm.log`. No process is trusted by its number alone: a
//! container whose `alive` is free has ended.

mod id;
mod record;

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use supermachine_lock::{self as lock, Mode};

pub use id::{Id, IdError};
pub use record::{ExecBase, OciState, Record, VERSION, Vmm, VolumeRecord, write_json, write_whole};

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is being made.
    Creating,
    /// It waits for its start.
    Created,
    /// Its program runs.
    Running,
    /// Its machine stands still.
    Paused,
    /// It is over.
    Stopped,
}

impl Status {
    /// The word that others see.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// Errors with the state directory.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// No container has this id.
    #[error("container does not exist")]
    NoContainer,
    /// A container has this id.
    #[error("container with given ID already exists")]
    Exists,
    /// An id that cannot be.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The directory was removed while this verb worked.
    #[error("the container was deleted meanwhile")]
    Deleted,
    /// A file or directory cannot be used.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A record that this program does not understand.
    #[error("{}: not a record of this version of supermachine-runtime", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

fn io_error<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StateError + 'a {
    move |source| StateError::Io { what, path: path.to_owned(), source }
}

/// The directory of all containers.
#[derive(Debug, Clone)]
pub struct Root {
    path: PathBuf,
}

impl Root {
    /// A root at an absolute path; nothing is made yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of a container that exists, with or without a record.
    pub fn find(&self, id: &str) -> Result<Dir, StateError> {
        // What cannot be an id names nothing.
        let id = Id::new(id)
            .map_err(|error| if error == IdError::Empty { error.into() } else { StateError::NoContainer })?;
        let path = self.path.join(id.as_str());
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => Ok(Dir { id, path }),
            _ => Err(StateError::NoContainer),
        }
    }

    /// Makes the directory of a new container and locks it.
    pub fn make(&self, id: &str) -> Result<(Dir, File), StateError> {
        let id = Id::new(id)?;
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        builder.recursive(true).create(&self.path).map_err(io_error("make the state directory", &self.path))?;
        let path = self.path.join(id.as_str());
        match builder.recursive(false).create(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(StateError::Exists),
            Err(source) => return Err(io_error("make", &path)(source)),
        }
        let dir = Dir { id, path };
        let lock = dir.lock()?;
        Ok((dir, lock))
    }

    /// Directories of all containers by id.
    pub fn all(&self) -> Result<Vec<Dir>, StateError> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(io_error("read", &self.path))?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let entry = entry.map_err(io_error("read", &self.path))?;
            let id = entry.file_name().to_str().and_then(|name| Id::new(name).ok());
            if let Some(id) = id
                && entry.file_type().is_ok_and(|kind| kind.is_dir())
            {
                all.push(Dir { id, path: entry.path() });
            }
        }
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }
}

/// The directory of one container.
#[derive(Debug, Clone)]
pub struct Dir {
    /// The container's id.
    pub id: Id,
    path: PathBuf,
}

impl Dir {
    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Waits until no other verb changes the container.
    pub fn lock(&self) -> Result<File, StateError> {
        let path = self.join("lock");
        let open = || match lock::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StateError::Deleted),
            other => other.map_err(io_error("open", &path)),
        };
        let file = open()?;
        lock::hold(&file, Mode::Alone).map_err(io_error("lock", &path))?;
        // While this one waited, the other may have been a delete.
        if lock::is_at(&file, &path) { Ok(file) } else { Err(StateError::Deleted) }
    }

    /// Whether a verb is changing the container right now.
    pub fn is_locked(&self) -> bool {
        lock::is_free(&self.join("lock")).is_ok_and(|free| !free)
    }

    /// Whether its machine lives.
    pub fn is_alive(&self) -> Result<bool, StateError> {
        let path = self.join("alive");
        Ok(!lock::is_free(&path).map_err(io_error("ask for the lock of", &path))?)
    }

    /// Waits for the end of its machine, at most for `limit`; whether that has come.
    pub fn wait_for_end(&self, limit: Duration) -> Result<bool, StateError> {
        let path = self.join("alive");
        lock::wait_until_free(&path, limit).map_err(io_error("wait for the lock of", &path))
    }

    /// Its record; `None` if its `create` was cut off before there was one.
    pub fn record(&self) -> Result<Option<Record>, StateError> {
        self.read("state.json")
    }

    /// Replaces its record.
    pub fn write_record(&self, record: &Record) -> Result<(), StateError> {
        let path = self.join("state.json");
        write_json(&path, record).map_err(io_error("write", &path))
    }

    /// What `exec` starts from.
    pub fn exec_base(&self) -> Result<Option<ExecBase>, StateError> {
        self.read("exec.json")
    }

    /// Keeps what `exec` starts from.
    pub fn write_exec_base(&self, base: &ExecBase) -> Result<(), StateError> {
        let path = self.join("exec.json");
        write_json(&path, base).map_err(io_error("write", &path))
    }

    /// Removes the directory. The record goes last but for the lock, so that a cut leaves a container that can be deleted.
    pub fn remove(&self) -> Result<(), StateError> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(io_error("read", &self.path))?,
        };
        let names = entries.filter_map(|entry| entry.ok().map(|entry| entry.file_name()));
        let mut names: Vec<_> = names.collect();
        names.sort_by_key(|name| (name == "lock", name == "state.json"));
        for name in names {
            let path = self.path.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other.map_err(io_error("remove", &path))?,
            }
        }
        match fs::remove_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(io_error("remove", &self.path)),
        }
    }

    /// Name of the user that owns it, its number if that has none.
    pub fn owner(&self) -> String {
        let Ok(found) = fs::metadata(&self.path) else { return String::new() };
        let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(found.uid()));
        user.ok().flatten().map_or_else(|| format!("#{}", found.uid()), |user| user.name)
    }

    fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StateError> {
        let path = self.join(name);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(io_error("read", &path))?,
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|source| StateError::Record { path, source })
    }
}

#[cfg(test)]
mod tests;

//! The container's control group on the host, in every hierarchy there is: v1, v2 or both.
//!
//! The vmm sits in it, so the host's tools see the container where they expect it. A hierarchy that cannot be written
//! is left out with a line in the log; where the configuration names a path and none can be had, that is an error.
//! An [`Intent`] comes first: it knows what will be made, so that this can be written down before it is.

mod detect;
mod intent;
mod limits;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use detect::{Hierarchy, Kind};
pub use intent::Intent;
pub use limits::{Limits, Setting, VMM_MEMORY, VMM_TASKS};

/// How often an emptied group is tried again while the kernel still counts it as busy.
const REMOVE_TRIES: u32 = 200;

/// How often a group is made again when one above it vanishes meanwhile.
const MAKE_TRIES: u32 = 100;

/// Errors with the host's control groups.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A path that leads nowhere good.
    #[error("linux.cgroupsPath: {path:?} has a `..` or no name in it")]
    Path {
        /// As it was given.
        path: String,
    },
    /// No hierarchy takes it.
    #[error("linux.cgroupsPath: no control group {path:?} can be made in any hierarchy of this host")]
    Nowhere {
        /// As it was given.
        path: String,
        /// Why the last one did not.
        #[source]
        source: io::Error,
    },
    /// A limit was refused.
    #[error("linux.resources: cannot write {value:?} to {}", path.display())]
    Limit {
        /// The file.
        path: PathBuf,
        /// What for.
        value: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another step.
    #[error("control group {}: cannot {what}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// A group in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    folder: PathBuf,
    /// Controllers of a v1 hierarchy; empty for v2.
    controllers: Vec<String>,
    /// Folders that were made for it, the innermost first; its own is the first if it was not there before.
    made: Vec<PathBuf>,
    /// Whether they were only about to be made.
    #[serde(default)]
    is_intended: bool,
}

/// A control group of a container; [`Cgroup::remove`] ends it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    places: Vec<Place>,
}

/// Ways for one process into a group, none of which waits for the rest of the host (decision 16): to write a process id into `cgroup.procs`
/// has the kernel wait for an RCU grace period, up to 15 ms.
#[derive(Debug, Default)]
pub struct Doors {
    /// The directory of version 2, into which a process can be forked (`CLONE_INTO_CGROUP`).
    pub unified: Option<File>,
    /// The file `tasks` of each hierarchy of version 1. A process of one thread that writes 0 there is in the group.
    pub tasks: Vec<(PathBuf, File)>,
}

impl Cgroup {
    /// Sets limits, new or changed. For a new container that is the last step of its making: the boot of its machine is
    /// not slowed down by them, and the vmm has its devices open.
    ///
    /// # Errors
    /// The first that the kernel refuses, by file and value; others are set all the same.
    pub fn set(&self, limits: &Limits<'_>) -> Result<(), CgroupError> {
        self.places.iter().try_for_each(|place| place.set(limits))
    }

    /// Opens the ways in for a process that is about to be forked.
    ///
    /// # Errors
    /// The first hierarchy that lets nobody in.
    pub fn doors(&self) -> Result<Doors, CgroupError> {
        let mut doors = Doors::default();
        for place in &self.places {
            if place.controllers.is_empty() {
                doors.unified = File::open(&place.folder).ok();
            } else {
                let path = place.folder.join("tasks");
                let opened = fs::OpenOptions::new().write(true).open(&path);
                let file = opened.map_err(|source| Self::cannot_add(path.clone(), source))?;
                doors.tasks.push((path, file));
            }
        }
        Ok(doors)
    }

    /// Moves a process into the group of version 2, if there is one. The kernel waits for an RCU grace period meanwhile.
    ///
    /// # Errors
    /// It does not take the process.
    pub fn add_unified(&self, pid: u32) -> Result<(), CgroupError> {
        self.places.iter().filter(|place| place.controllers.is_empty()).try_for_each(|place| {
            let path = place.folder.join("cgroup.procs");
            fs::write(&path, pid.to_string()).map_err(|source| Self::cannot_add(path.clone(), source))
        })
    }

    /// The error of a process that a hierarchy does not take, at one of its files.
    pub fn cannot_add(path: PathBuf, source: io::Error) -> CgroupError {
        CgroupError::Io { what: "add a process", path, source }
    }

    /// The processes in it.
    pub fn processes(&self) -> Vec<u32> {
        let Some(place) = self.places.first() else { return Vec::new() };
        let text = fs::read_to_string(place.folder.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Its folder in each hierarchy, by controller name; the unified one has an empty name.
    pub fn folders(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.places.iter().flat_map(|place| {
            let unified = place.controllers.is_empty().then_some("");
            let names = place.controllers.iter().map(String::as_str).chain(unified);
            names.map(|name| (name, place.folder.as_path()))
        })
    }

    /// Removes it unless it was there before, and the groups above it that were made for it if nobody else uses them. Its
    /// processes have ended.
    pub fn remove(&self) -> Result<(), CgroupError> {
        self.places.iter().try_for_each(Place::remove)
    }
}

impl Place {
    /// Another container's end may take away a folder above that was there a moment ago.
    fn make_again(hierarchy: &Hierarchy, inner: &Path) -> io::Result<Self> {
        for _ in 1..MAKE_TRIES {
            match Self::make(hierarchy, inner) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => return other,
            }
        }
        Self::make(hierarchy, inner)
    }

    /// The top of a hierarchy.
    fn at(hierarchy: &Hierarchy) -> Self {
        let controllers = match &hierarchy.kind {
            Kind::V1(controllers) => controllers.clone(),
            Kind::V2 => Vec::new(),
        };
        Self { folder: hierarchy.mount.clone(), controllers, made: Vec::new(), is_intended: false }
    }

    fn make(hierarchy: &Hierarchy, inner: &Path) -> io::Result<Self> {
        let mut place = Self::at(hierarchy);
        for component in inner.components() {
            let above = place.folder.clone();
            place.folder.push(component);
            if let Err(error) = place.make_one(&above) {
                place.remove_made();
                return Err(error);
            }
        }
        Ok(place)
    }

    fn make_one(&mut self, above: &Path) -> io::Result<()> {
        if self.controllers.is_empty() {
            enable_controllers(above);
        }
        match fs::create_dir(&self.folder) {
            Ok(()) => self.made.insert(0, self.folder.clone()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        if self.controllers.iter().any(|name| name == "cpuset") {
            inherit_cpuset(above, &self.folder)?;
        }
        Ok(())
    }

    fn set(&self, limits: &Limits<'_>) -> Result<(), CgroupError> {
        if self.controllers.is_empty() {
            return limits.v2().iter().try_for_each(|setting| self.write_unified(setting));
        }
        let settings = self.controllers.iter().flat_map(|controller| limits.v1(controller));
        let settings: Vec<_> = settings.collect();
        // A new limit may only be possible after the other of the pair has made room for it.
        let failed: Vec<_> = settings.iter().filter(|setting| self.write(setting).is_err()).collect();
        failed.into_iter().try_for_each(|setting| self.write(setting))
    }

    /// In a hybrid host the controllers are elsewhere: what has no file here is no limit of this hierarchy.
    fn write_unified(&self, setting: &Setting) -> Result<(), CgroupError> {
        if self.folder.join(&setting.file).exists() {
            return self.write(setting);
        }
        log::debug!("{} has no {}", self.folder.display(), setting.file);
        Ok(())
    }

    fn write(&self, Setting { file, value }: &Setting) -> Result<(), CgroupError> {
        let path = self.folder.join(file);
        let written = fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut f| io::Write::write_all(&mut f, value.as_bytes()));
        written.map_err(|source| CgroupError::Limit { path, value: value.clone(), source })
    }

    fn remove(&self) -> Result<(), CgroupError> {
        if self.made.first() != Some(&self.folder) {
            return Ok(());
        }
        for _ in 0..REMOVE_TRIES {
            match self.remove_own() {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    // The last task is being taken apart, which no event tells of in v1.
                    std::thread::yield_now();
                    wait_a_little();
                }
                Err(source) => {
                    return Err(CgroupError::Io { what: "remove it", path: self.folder.clone(), source });
                }
                Ok(()) => {
                    self.remove_made();
                    return Ok(());
                }
            }
        }
        if self.is_intended {
            // Another made it first, and uses it.
            return Ok(());
        }
        let source = io::Error::from_raw_os_error(libc::EBUSY);
        Err(CgroupError::Io { what: "remove it, processes are in it", path: self.folder.clone(), source })
    }

    /// The container has no groups below its own before it was made.
    fn remove_own(&self) -> io::Result<()> {
        if self.is_intended { remove_one(&self.folder) } else { remove_tree(&self.folder) }
    }

    /// A group that another uses by now stays.
    fn remove_made(&self) {
        for folder in &self.made {
            if fs::remove_dir(folder).is_err_and(|error| error.kind() != io::ErrorKind::NotFound) {
                break;
            }
        }
    }
}

/// Waits 5 ms on a descriptor that never becomes ready.
fn wait_a_little() {
    let _ = nix::poll::poll(&mut [], nix::poll::PollTimeout::from(5u8));
}

/// Lets groups below `folder` have every controller that it has itself.
fn enable_controllers(folder: &Path) {
    let controllers = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    for controller in controllers.split_whitespace() {
        if let Err(error) = fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}")) {
            log::debug!("{} does not pass on {controller}: {error}", folder.display());
        }
    }
}

/// A new v1 cpuset is empty and takes no process; it starts as a copy of the one above.
fn inherit_cpuset(above: &Path, folder: &Path) -> io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if fs::read_to_string(folder.join(file))?.trim().is_empty() {
            fs::write(folder.join(file), fs::read_to_string(above.join(file))?.trim())?;
        }
    }
    Ok(())
}

/// Removes a group and the groups below it. One that does not exist is removed.
fn remove_tree(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    remove_one(folder)
}

fn remove_one(folder: &Path) -> io::Result<()> {
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests;

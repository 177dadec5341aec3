//! Making a snapshot: all of it or nothing.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Limit, SnapshotError, at_most, io_error};
use crate::format;
use crate::layout::host_page_bytes;
use crate::limits::Limits;
use crate::manifest::{About, Manifest, SnapshotId};
use crate::memory;
use crate::ram::{Present, Ram, Region};
use crate::spec::{MEMORY_FILE, STATE_FILE};

/// A snapshot that is being made. Dropped before [`Writer::finish`], it leaves nothing.
#[derive(Debug)]
pub struct Writer {
    state: File,
    memory: File,
    sections: Vec<(String, Vec<u8>)>,
    limits: Limits,
    place: Option<Place>,
}

/// Where it is made, and what it becomes.
#[derive(Debug)]
struct Place {
    work: PathBuf,
    target: PathBuf,
}

impl Drop for Place {
    fn drop(&mut self) {
        // It is not there any more when it was finished.
        let _ = fs::remove_dir_all(&self.work);
    }
}

impl Writer {
    /// Begins the snapshot that will be the directory `target`, which does not exist. Until it is finished it is a hidden directory
    /// beside it.
    ///
    /// # Errors
    /// The directory or a file in it cannot be made.
    pub fn create(target: &Path) -> Result<Self, SnapshotError> {
        let place = Place { work: work_path(target), target: target.to_owned() };
        DirBuilder::new().mode(0o700).create(&place.work).map_err(io_error("make", &place.work))?;
        let (state, memory) = (make(place.work.join(STATE_FILE))?, make(place.work.join(MEMORY_FILE))?);
        Ok(Self { place: Some(place), ..Self::from_files(state, memory) })
    }

    /// Begins it in two empty files that are open for writing; they become durable, their names are the caller's.
    pub fn from_files(state: File, memory: File) -> Self {
        Self { state, memory, sections: Vec::new(), limits: Limits::default(), place: None }
    }

    /// Adds a section. Its name is of 1 to 32 of `a-z0-9._-` and not one that is there.
    ///
    /// # Errors
    /// A bad name, or more than [`Limits::default`] takes.
    pub fn section(&mut self, name: &str, content: Vec<u8>) -> Result<(), SnapshotError> {
        format::check_name(name)?;
        at_most(Limit::Sections, self.sections.len() as u64 + 1, self.limits.sections.into())?;
        at_most(Limit::SectionBytes, content.len() as u64, self.limits.section_bytes)?;
        if self.sections.iter().any(|(other, _)| other == name) {
            return Err(SnapshotError::SectionTwice { name: name.to_owned() });
        }
        self.sections.push((name.to_owned(), content));
        Ok(())
    }

    /// Writes the pages of `present`, then the state, makes both durable and gives the directory its name. With `about.base` the
    /// memory is a diff: `present` must have every page that differs from the base's.
    ///
    /// # Errors
    /// Whatever failed; nothing is left then.
    pub fn finish(
        mut self,
        about: About,
        regions: &[Region],
        present: Present<'_>,
        ram: &impl Ram,
    ) -> Result<SnapshotId, SnapshotError> {
        let saved = memory::save(&self.memory, regions, host_page_bytes(), present, about.base.is_some(), ram)?;
        let manifest = Manifest { about, memory: saved.record };
        let (id, bytes) = format::encode(&manifest, &saved.runs, &self.sections, &self.limits)?;
        self.state.write_all(&bytes).map_err(io_error("write", STATE_FILE))?;
        self.memory.sync_all().map_err(io_error("write", MEMORY_FILE))?;
        self.state.sync_all().map_err(io_error("write", STATE_FILE))?;
        if let Some(place) = &self.place {
            publish(&place.work, &place.target)?;
        }
        Ok(id)
    }
}

/// A name that nobody else has, dead or alive.
fn work_path(target: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{:016x}", RandomState::new().build_hasher().finish()));
    target.with_file_name(name)
}

fn make(path: PathBuf) -> Result<File, SnapshotError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600).open(&path).map_err(io_error("make", path))
}

fn publish(work: &Path, target: &Path) -> Result<(), SnapshotError> {
    sync_dir(work)?;
    fs::rename(work, target).map_err(io_error("make", target))?;
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync_dir(parent.unwrap_or(Path::new(".")))
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), SnapshotError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error("write", dir))
}

//! Opening a snapshot: a constructor that takes both files for hostile.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::error::{SnapshotError, io_error};
use crate::format::{self, State};
use crate::limits::Limits;
use crate::manifest::{Kind, Manifest, SnapshotId};
use crate::memory::{self, Run};
use crate::spec::{HEADER_BYTES, MEMORY_FILE, STATE_FILE};

/// An open snapshot. All of its state was checked; of its memory, that the file is whole and belongs to the state.
#[derive(Debug)]
pub struct Snapshot {
    state: State,
    memory: File,
}

impl Snapshot {
    /// Opens the snapshot in `dir`. Costs two opens and the reading of the state: nothing that grows with RAM.
    ///
    /// # Errors
    /// Whatever is wrong with it.
    pub fn open(dir: &Path, limits: &Limits) -> Result<Self, SnapshotError> {
        Self::from_files(&open(dir.join(STATE_FILE))?, open(dir.join(MEMORY_FILE))?, limits)
    }

    /// The same from files that are open for reading, `state` at its start.
    ///
    /// # Errors
    /// Whatever is wrong with them.
    pub fn from_files(state: &File, memory: File, limits: &Limits) -> Result<Self, SnapshotError> {
        let state = format::decode(read_state(state, limits)?, limits)?;
        memory::check_trailer(&memory, &state.manifest.memory)?;
        Ok(Self { state, memory })
    }

    /// Its identity. Two snapshots with one identity are equal in every byte that counts.
    pub fn id(&self) -> SnapshotId {
        self.state.id
    }

    /// What it says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.state.manifest
    }

    /// What was saved.
    pub fn kind(&self) -> Kind {
        self.state.manifest.about.kind
    }

    /// The base that it needs, if its memory is a diff.
    pub fn base(&self) -> Option<SnapshotId> {
        self.state.manifest.about.base
    }

    /// All sections, in the order they were written: names and contents.
    pub fn sections(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let content =
            |(name, place)| (String::as_str(name), self.state.bytes.get(Clone::clone(place)).unwrap_or_default());
        self.state.sections.iter().map(|(name, place)| (name, place)).map(content)
    }

    /// One section.
    ///
    /// # Errors
    /// [`SnapshotError::SectionMissing`].
    pub fn section(&self, name: &str) -> Result<&[u8], SnapshotError> {
        let missing = || SnapshotError::SectionMissing { name: name.to_owned() };
        self.sections().find(|(found, _)| *found == name).map(|(_, content)| content).ok_or_else(missing)
    }

    /// Where the memory file has pages: in a full snapshot all other pages are zero, in a diff they are the base's. Pages in a run
    /// may be zero too.
    pub fn runs(&self) -> &[Run] {
        &self.state.runs
    }

    /// The memory file: RAM at its positions, a trailer behind it.
    pub fn memory(&self) -> &File {
        &self.memory
    }

    /// Reads all pages and checks them: seconds for gigabytes.
    ///
    /// # Errors
    /// [`SnapshotError::Damaged`], or a file that cannot be read.
    pub fn verify(&self) -> Result<(), SnapshotError> {
        memory::verify(&self.memory, &self.state.manifest.memory)
    }
}

/// Never through a link, and without waiting for the other end of a pipe.
fn open(path: PathBuf) -> Result<File, SnapshotError> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(&path).map_err(io_error("open", path))
}

fn read_state(file: &File, limits: &Limits) -> Result<Vec<u8>, SnapshotError> {
    let metadata = file.metadata().map_err(io_error("look at", STATE_FILE))?;
    if !metadata.is_file() {
        return Err(SnapshotError::NotAFile { file: STATE_FILE });
    }
    let mut bytes = Vec::new();
    file.take(HEADER_BYTES as u64).read_to_end(&mut bytes).map_err(io_error("read", STATE_FILE))?;
    let expected = format::file_bytes(&bytes, limits)?;
    if metadata.len() != expected {
        return Err(SnapshotError::Length { file: STATE_FILE, expected, found: metadata.len() });
    }
    bytes.reserve_exact(usize::try_from(expected).unwrap_or(0).saturating_sub(bytes.len()));
    let rest = expected.saturating_sub(HEADER_BYTES as u64);
    file.take(rest).read_to_end(&mut bytes).map_err(io_error("read", STATE_FILE))?;
    Ok(bytes)
}

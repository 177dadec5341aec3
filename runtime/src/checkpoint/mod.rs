//! Images of checkpoints: a directory that has a container as it was, to go on from, here or on another machine.
//!
//! ```text
//! <image>/
//!   checkpoint.json    what there is, with digests; names the directory that has it, and is replaced as a whole
//!   <16 hex>.d/
//!     snapshot/        the machine (docs/snapshot-format.md)
//!     layers/0, 1, …   the root file system's images
//!     upper            the disk for what was written to it, if it had one
//! ```
//!
//! [`Draft`] makes one, [`Image`] is the constructor that distrusts one.

mod draft;
mod image;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use supermachine_snapshot::{SnapshotError, SnapshotId};

pub use draft::Draft;
pub use image::Image;

/// Version of the manifest and the directory's form.
pub const VERSION: u32 = 1;
/// Name of the manifest.
const MANIFEST: &str = "checkpoint.json";
/// End of the name of the directory with everything else.
const DATA_SUFFIX: &str = ".d";

/// What an image has: `checkpoint.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`VERSION`].
    pub version: u32,
    /// Name of the directory with the files.
    pub data: String,
    /// Id of the container that was saved.
    pub id: String,
    /// RAM of its machine in MiB.
    pub memory_mib: u64,
    /// Whether its first process has a terminal.
    pub terminal: bool,
    /// Identity of the snapshot.
    pub snapshot: SnapshotId,
    /// Digests of the layers, the lowest first.
    pub layers: Vec<String>,
    /// Digest of the disk for what was written to the root.
    pub upper: Option<String>,
    /// Volumes, which stay where they are.
    pub volumes: Vec<VolumeMark>,
}

/// A volume as it was when its container was saved: what the container's kernel holds of it is right for this content only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeMark {
    /// Absolute path of its image.
    pub path: PathBuf,
    /// Whether the container cannot write to it.
    pub read_only: bool,
    /// Its length.
    pub bytes: u64,
    /// When it was last written to, nanoseconds since 1970.
    pub written_ns: i64,
}

impl VolumeMark {
    /// The volume as it is now.
    ///
    /// # Errors
    /// It is not there.
    pub fn now(path: &Path, read_only: bool) -> Result<Self, CheckpointError> {
        use std::os::unix::fs::MetadataExt;
        let volume = |source| CheckpointError::Io { what: "find volume", path: path.to_owned(), source };
        let metadata = std::fs::metadata(path).map_err(volume)?;
        let written_ns = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
        Ok(Self { path: path.to_owned(), read_only, bytes: metadata.len(), written_ns })
    }
}

/// An image that cannot be written or used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file or directory.
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
    /// Another checkpoint is being written there.
    #[error("{}: another checkpoint is being written to it", path.display())]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// There is no image.
    #[error("{}: no checkpoint of supermachine-runtime is there", path.display())]
    None {
        /// The directory.
        path: PathBuf,
    },
    /// The manifest is not one.
    #[error("{}: not what a checkpoint has", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Another version's.
    #[error("{}: made by another version, whose images have version {found} and not {VERSION}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A part of the manifest that cannot be.
    #[error("{}: {what}", path.display())]
    Bad {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// A file that is not what was saved.
    #[error("{}: damaged, or not the file that was saved", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The snapshot.
    #[error("snapshot {}", path.display())]
    Snapshot {
        /// Its directory.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: SnapshotError,
    },
    /// A volume that was changed.
    #[error("volume {}: changed since the checkpoint, whose container relies on what was in it", path.display())]
    Volume {
        /// Its image.
        path: PathBuf,
    },
    /// What the machine saved is not what the container has.
    #[error("the container has {known} volumes, its machine saved {saved}")]
    Volumes {
        /// Those of the container.
        known: usize,
        /// Those of the machine.
        saved: usize,
    },
}

fn io_error<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> CheckpointError + 'a {
    move |source| CheckpointError::Io { what, path: path.to_owned(), source }
}

/// Whether a name is one of a directory with an image's files: no other is ever opened or removed.
fn is_data_name(name: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    name.strip_suffix(DATA_SUFFIX).is_some_and(|stem| stem.len() == 16 && stem.bytes().all(hex))
}

#[cfg(test)]
mod tests;

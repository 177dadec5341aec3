//! What can be wrong with a snapshot, each in one line.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::manifest::SnapshotId;
use crate::spec;

/// What a cap is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Limit {
    StateBytes,
    ManifestBytes,
    Sections,
    SectionBytes,
    Runs,
    RamBytes,
    Regions,
    TextBytes,
    ListEntries,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StateBytes => "bytes of state",
            Self::ManifestBytes => "bytes of manifest",
            Self::Sections => "sections",
            Self::SectionBytes => "bytes in a section",
            Self::Runs => "runs of pages",
            Self::RamBytes => "bytes of RAM",
            Self::Regions => "regions of RAM",
            Self::TextBytes => "bytes in a string of the manifest",
            Self::ListEntries => "entries in a list of the manifest",
        })
    }
}

/// A snapshot could not be written, opened or verified.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The operating system refused.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A directory, pipe or device instead of a file.
    #[error("the {file} file is not a regular file")]
    NotAFile {
        /// Which of the two.
        file: &'static str,
    },
    /// Another kind of file.
    #[error("the {file} file is no part of a snapshot: its magic is missing")]
    Magic {
        /// Which of the two.
        file: &'static str,
    },
    /// Another version of the format.
    #[error("the snapshot has format version {found}, this program has {}", spec::VERSION)]
    Version {
        /// The file's.
        found: u32,
    },
    /// More than is believed.
    #[error("{found} {limit}, at most {max} are taken")]
    TooMuch {
        /// Of what.
        limit: Limit,
        /// What the file or caller has.
        found: u64,
        /// What is taken.
        max: u64,
    },
    /// Cut or grown.
    #[error("the {file} file has {found} bytes and should have {expected}")]
    Length {
        /// Which of the two.
        file: &'static str,
        /// Bytes it should have.
        expected: u64,
        /// Bytes it has.
        found: u64,
    },
    /// Its digest is not the one that was written.
    #[error("the {part} is damaged: its digest differs")]
    Damaged {
        /// Which part.
        part: Part,
    },
    /// The manifest is no JSON of this format.
    #[error("the manifest does not parse")]
    Manifest {
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A string that does not belong on a terminal.
    #[error("the manifest has control characters in a string")]
    Text,
    /// A section's name that is empty, too long, or has other characters than `a-z0-9._-`.
    #[error("a section has a name that cannot be")]
    SectionName,
    /// Two sections with one name.
    #[error("section {name} is there twice")]
    SectionTwice {
        /// The name.
        name: String,
    },
    /// A section that is not there.
    #[error("section {name} is missing")]
    SectionMissing {
        /// The name.
        name: String,
    },
    /// Regions of RAM that are empty, unordered, overlapping, or not whole pages.
    #[error("the regions of RAM make no machine")]
    Regions,
    /// A page size that no host has, or that is smaller than this host's.
    #[error("the memory file is cut in pages of {page_bytes} bytes, which this host cannot map")]
    PageSize {
        /// The file's.
        page_bytes: u32,
    },
    /// Runs that are empty, unordered, overlapping, beyond the RAM or not whole pages.
    #[error("the table of pages makes no sense")]
    Runs,
    /// Pages outside the RAM were to be saved.
    #[error("pages at {gpa:#x} are not RAM")]
    NotRam {
        /// Where.
        gpa: u64,
    },
    /// The memory file is another snapshot's.
    #[error("the memory file belongs to another snapshot")]
    OtherMemory,
    /// A diff without its base, or with another.
    #[error("the snapshot needs the base {needs}, not {}", given.map_or_else(|| "none".to_owned(), |id| id.to_string()))]
    Base {
        /// What the diff was made on.
        needs: SnapshotId,
        /// What was given.
        given: Option<SnapshotId>,
    },
    /// A base for a snapshot that is whole, or a base that is a diff itself, or one with other RAM.
    #[error("the given base cannot be one of this snapshot")]
    NoBase,
}

/// A part of a snapshot with a digest of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Header, tables and manifest.
    Head,
    /// A section.
    Section(String),
    /// The pages.
    Memory,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head => f.write_str("head of the state file"),
            Self::Section(name) => write!(f, "section {name}"),
            Self::Memory => f.write_str("memory file"),
        }
    }
}

/// For `map_err`: an I/O error of `path`.
pub(crate) fn io_error(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.into();
    move |source| SnapshotError::Io { what, path, source }
}

/// Refuses more than `max`.
pub(crate) fn at_most(limit: Limit, found: u64, max: u64) -> Result<(), SnapshotError> {
    if found > max { Err(SnapshotError::TooMuch { limit, found, max }) } else { Ok(()) }
}

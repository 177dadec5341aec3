//! Image layer tars: POSIX ustar and pax, GNU's extensions, and what star and libarchive add for extended attributes.
//!
//! The reader is our own because an archive is hostile: each length in it is checked against a cap before anything is kept, and every
//! form that is not understood is refused by name instead of being skipped.

mod apply;
mod compression;
mod entry;
mod header;
mod path;
mod pax;
mod sparse;
mod stream;

use std::io::{self, Read};

use crate::squashfs::{Attributes, ImageError, ImageWriter, NodeId};
use apply::Apply;
pub(crate) use compression::open as decompress;
use entry::Entries;
use stream::Stream;

/// Errors with archives.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// It is compressed in a way that layers are not.
    #[error("the archive is compressed with {name}: only gzip and zstd are known")]
    Compression {
        /// The compressor.
        name: &'static str,
    },
    /// What should be a header is none, or cannot be read.
    #[error("the archive has no good header after {after:?}")]
    Header {
        /// The name of the entry before; empty if it would be the first.
        after: String,
        /// What is wrong.
        #[source]
        source: EntryError,
    },
    /// An entry cannot be taken.
    #[error("the archive's entry {name:?}")]
    Entry {
        /// Its name as far as it is known.
        name: String,
        /// What is wrong with it.
        #[source]
        source: EntryError,
    },
}

/// What is wrong with an entry of an archive.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// The archive, or what decompresses it, gives no more.
    #[error("cannot be read")]
    Read(#[source] io::Error),
    /// The archive ends in it.
    #[error("is cut off: the archive ends early")]
    Truncated,
    /// A header's checksum is not that of its bytes.
    #[error("has a header whose checksum is wrong")]
    Checksum,
    /// After the block that marks the end came something else than the second one.
    #[error("is followed by a lone block of zeros")]
    LoneZeros,
    /// A number cannot be read, or is out of range.
    #[error("has a bad {field}")]
    Number {
        /// Which.
        field: &'static str,
    },
    /// An extended header is malformed.
    #[error("has a malformed extended header")]
    Extended,
    /// The map of a sparse file contradicts itself or the file.
    #[error("has a wrong map of a sparse file")]
    Sparse,
    /// A kind of entry that is not known, or of no use in a layer.
    #[error("is of the unknown type {0:?}")]
    Kind(char),
    /// A name or what a link names is larger than the cap, or one part of it than 255 bytes.
    #[error("has a {what} of more than {cap} bytes")]
    Long {
        /// What is too long.
        what: &'static str,
        /// What it may have.
        cap: usize,
    },
    /// A part of a path is `..`.
    #[error("has a path with `..` in it")]
    DotDot,
    /// A path has a zero byte in it, or nothing at all.
    #[error("has a path that no file can have")]
    BadPath,
    /// The root of the layer is something else than a directory.
    #[error("would replace the root by something else than a directory")]
    Root,
    /// A directory on its path is something else in this layer; a symbolic link there is never followed.
    #[error("is below {parent:?}, which is no directory")]
    Parent {
        /// The path of what is no directory.
        parent: String,
    },
    /// The target of a hard link is not in this layer, or is a directory.
    #[error("is a hard link to {target:?}, which is no file of this layer")]
    LinkTarget {
        /// What it names.
        target: String,
    },
    /// A whiteout of no name, or one on the way to something else.
    #[error("is no proper whiteout")]
    Whiteout,
    /// An extended attribute that Linux would not allow.
    #[error("has an extended attribute that is too long or malformed")]
    Xattr,
    /// The image cannot hold it, or cannot be written.
    #[error(transparent)]
    Image(#[from] ImageError),
}

impl EntryError {
    /// What an error of reading means.
    fn read(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            _ => Self::Read(error),
        }
    }
}

/// Puts the content of an archive into the image, and reads the archive to its end.
pub(crate) fn read_tar(input: impl Read, image: &mut ImageWriter) -> Result<(), TarError> {
    image.tree.node_mut(NodeId::ROOT).attributes = Attributes::UNLISTED;
    let mut entries = Entries::new(Stream::new(compression::open(input)?), image.budget.caps());
    loop {
        let next = entries.next(&mut image.budget);
        let Some(entry) = next.map_err(|source| entries.error(source))? else { break };
        let name = || String::from_utf8_lossy(&entry.path).into_owned();
        let applied = Apply { image: &mut *image, stream: entries.stream() }.entry(&entry);
        applied.map_err(|source| TarError::Entry { name: name(), source })?;
    }
    let marked = image.mark_unlisted().map_err(EntryError::from);
    marked.map_err(|source| entries.error(source))?;
    image.unmarked_end = !entries.marked_end();
    let drained = entries.stream().drain(&mut image.budget);
    drained.map_err(|source| entries.error(source))
}

//! Turns directory trees and image layer tars into squashfs images, exactly and reproducibly.
//!
//! [`pack_tree`] and [`pack_tar`] write an image in one pass, compressing on several threads; what they hold in memory grows
//! with the number of entries, not with the bytes of files. The reader is the Linux kernel. `docs/layers.md` says what is exact.

pub mod bundle_layers;
mod caps;
pub mod digest;
mod error;
pub mod fingerprint;
mod form;
pub mod image;
mod overlay;
pub mod reader;
mod source;
mod squashfs;
pub mod store;

use std::fs::File;
use std::io::Read;
use std::path::Path;

pub use caps::{CapError, Caps};
pub use error::PackError;
pub use form::form;
pub use source::{EntryError, TarError, TreeError};
pub use squashfs::{Compressor, ImageError, Lost, Options, Summary};

/// Packs the tree below the directory `root`, its own attributes included, into `out`, an empty file open for reading and
/// writing.
///
/// Symbolic links below `root` are never followed; mounts in it are packed with their content. When an error is returned, `out` holds
/// nothing of use.
///
/// # Errors
///
/// What cannot be read, a tree that changes while it is read ([`TreeError::Changed`]; trying again is sensible), a cap, a
/// limit of the format, or `out` that cannot be written.
pub fn pack_tree(root: &Path, out: File, options: &Options, caps: &Caps) -> Result<Summary, PackError> {
    let mut image = squashfs::ImageWriter::new(out, options, caps)?;
    source::read_tree(root, &mut image)?;
    Ok(image.finish()?)
}

/// Packs an image layer's tar, plain or compressed with gzip or zstd (which its first bytes tell), into `out`, an empty file open
/// for reading and writing. `input` is read to its end.
///
/// Whiteouts in AUFS form become those of overlayfs. When an error is returned, `out` holds nothing of use; nothing else is
/// touched in any case.
///
/// # Errors
///
/// An archive that is damaged, truncated, or names places outside itself, a cap, a limit of the format, `input` that cannot be
/// read or `out` that cannot be written.
pub fn pack_tar(input: impl Read, out: File, options: &Options, caps: &Caps) -> Result<Summary, PackError> {
    let mut image = squashfs::ImageWriter::new(out, options, caps)?;
    source::read_tar(input, &mut image)?;
    Ok(image.finish()?)
}

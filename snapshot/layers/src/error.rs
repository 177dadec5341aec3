//! The error of the whole crate.

use std::io;

use crate::{EntryError, ImageError, TarError, TreeError};

/// Why no image was made.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The image could not be written, or cannot hold what it was to hold.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The directory tree could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The archive could not be read.
    #[error(transparent)]
    Tar(#[from] TarError),
}

impl PackError {
    /// The error of the image in it, if it is one.
    pub fn image(&self) -> Option<&ImageError> {
        match self {
            Self::Image(error)
            | Self::Tree(TreeError::Image { source: error, .. })
            | Self::Tar(TarError::Header { source: EntryError::Image(error), .. })
            | Self::Tar(TarError::Entry { source: EntryError::Image(error), .. }) => Some(error),
            Self::Tree(_) | Self::Tar(_) => None,
        }
    }

    /// There was no room for the image: the disk or a quota is full.
    pub fn is_storage_full(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(self.image(), Some(ImageError::Write(error)) if full.contains(&error.kind()))
    }
}

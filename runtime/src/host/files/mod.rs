//! What a container has of the host, open: layers, a disk to write to, volumes, shared directories and files.
//!
//! All of it is opened here, as who calls the runtime and where the caller is: the vmm may be in other namespaces.

mod ext4;
mod shares;
mod volumes;

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use supermachine_vmm_api::{ContainerFiles, Volume};

use crate::plan::{HostVolume, Plan};

pub use ext4::FormatError;
pub use shares::ShareError;
pub use volumes::VolumeError;

/// What a container has of the host and cannot have.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// An image of the root file system.
    #[error("layer {}", path.display())]
    Layer {
        /// The image.
        path: PathBuf,
        /// Why it cannot be read.
        #[source]
        source: io::Error,
    },
    /// The disk for what is written to the root.
    #[error("cannot make the disk for the root file system in {}", dir.display())]
    Disk {
        /// Where it was to be.
        dir: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Its file system.
    #[error("the disk for the root file system")]
    Format(#[from] FormatError),
    /// A bind mount.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// A volume.
    #[error(transparent)]
    Volume(#[from] VolumeError),
}

/// Open files, and what the vmm is told about them.
#[derive(Debug, Default)]
pub struct Files {
    open: Vec<OwnedFd>,
    names: ContainerFiles,
}

impl Files {
    /// Opens what the plan's bind mounts show, and gives the mounts the numbers of their shares.
    ///
    /// # Errors
    /// A source that is not there or cannot be shared.
    pub fn of_binds(plan: &mut Plan) -> Result<Self, FilesError> {
        let mut files = Self::default();
        shares::open(plan, &mut files)?;
        Ok(files)
    }

    /// Opens the images of a root file system, the lowest first.
    ///
    /// # Errors
    /// One that cannot be opened.
    pub fn add_layers(&mut self, images: &[PathBuf]) -> Result<(), FilesError> {
        for path in images {
            let file = File::open(path).map_err(|source| FilesError::Layer { path: path.clone(), source })?;
            let number = self.add(file);
            self.names.layers.push(number);
        }
        Ok(())
    }

    /// Takes over images of a root file system that are open, the lowest first.
    pub fn add_open_layers(&mut self, images: Vec<File>) {
        for image in images {
            let number = self.add(image);
            self.names.layers.push(number);
        }
    }

    /// Makes a disk with this content for what is written to the root, which like that of [`add_disk`](Self::add_disk)
    /// has no name.
    ///
    /// # Errors
    /// The host's disk.
    pub fn add_copy_of_disk(&mut self, dir: &Path, content: &File) -> Result<(), FilesError> {
        let failed = |source| FilesError::Disk { dir: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let file = tempfile::tempfile_in(dir).map_err(failed)?;
        supermachine_snapshot::sparse::copy_into(content, &file).map_err(failed)?;
        self.names.upper = Some(self.add(file));
        Ok(())
    }

    /// Makes a disk of so many MiB for what is written to the root. It has no name in `dir`: nothing is left of it when
    /// the machine has ended, however that was.
    ///
    /// # Errors
    /// The host's disk, or `mke2fs`.
    pub fn add_disk(&mut self, dir: &Path, mib: u64) -> Result<(), FilesError> {
        let failed = |source| FilesError::Disk { dir: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let file = tempfile::tempfile_in(dir).map_err(failed)?;
        ext4::format(&file, mib, ext4::Kind::Scratch)?;
        self.names.upper = Some(self.add(file));
        Ok(())
    }

    /// Opens volumes, locked as long as the machine has them, and makes those that do not exist.
    ///
    /// # Errors
    /// One that is in use, or cannot be opened or made.
    pub fn add_volumes(&mut self, volumes: &[HostVolume]) -> Result<(), FilesError> {
        for volume in volumes {
            let file = self.add(volumes::open(volume)?);
            self.names.volumes.push(Volume { file, read_only: volume.read_only });
        }
        Ok(())
    }

    /// The open files in the order of their numbers.
    pub fn open(&self) -> Vec<BorrowedFd<'_>> {
        self.open.iter().map(AsFd::as_fd).collect()
    }

    /// What the vmm is told.
    pub fn names(&self) -> ContainerFiles {
        self.names.clone()
    }

    fn add(&mut self, file: impl Into<OwnedFd>) -> u32 {
        self.open.push(file.into());
        // A container has some hundreds of files.
        u32::try_from(self.open.len()).unwrap_or(u32::MAX).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests;

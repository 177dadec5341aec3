//! Late binding: the files of a container become the backing of the machine's devices, once its guest is up.

use std::fs::File;
use std::os::fd::OwnedFd;

use supermachine_agent_protocol::container::{ContainerMount, MountSource, Root};
use supermachine_agent_protocol::spec::LAYERS_MAX;
use supermachine_share::{ShareConfig, ShareError, SymlinkPolicy};
use supermachine_vmm_api::{ContainerFiles, Share, Symlinks, Volume};

use crate::machine::{Backing, Machine, MachineError};
use crate::settings::{CONTAINER_DISKS, FIRST_VOLUME_DISK, LAYERS_DISK, UPPER_DISK};

/// Files that cannot be given to the machine's devices.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A number that no file has, or that two uses have.
    #[error("there is no file {number}, or it is used twice")]
    NoFile {
        /// The number.
        number: u32,
    },
    /// More layers than a disk has partitions.
    #[error("{count} layers are too many, {LAYERS_MAX} are possible")]
    Layers {
        /// How many there are.
        count: usize,
    },
    /// More volumes than disks.
    #[error("{count} volumes are too many, {} are possible", CONTAINER_DISKS - FIRST_VOLUME_DISK)]
    Volumes {
        /// How many there are.
        count: usize,
    },
    /// A mount of a share that is not there.
    #[error("there is no share {number}")]
    NoShare {
        /// Its number.
        number: u32,
    },
    /// The machine has no device for shared directories.
    #[error("the machine was made without a device for shared directories")]
    NoShares,
    /// A guest that has files of a share open, of which another server knows nothing.
    #[error("what a container shares with the host cannot be given back to one that was saved")]
    SharesAgain,
    /// A directory or file that cannot be shared.
    #[error("share {number}")]
    Share {
        /// Its place among the container's.
        number: usize,
        /// Why.
        #[source]
        source: ShareError,
    },
    /// The machine.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

/// Open files by their number, each to be taken once.
pub struct Files(Vec<Option<OwnedFd>>);

impl Files {
    /// Files whose numbers are their positions.
    pub fn new(files: Vec<OwnedFd>) -> Self {
        Self(files.into_iter().map(Some).collect())
    }

    fn take(&mut self, number: u32) -> Result<OwnedFd, BindError> {
        let place = usize::try_from(number).ok().and_then(|index| self.0.get_mut(index));
        place.and_then(Option::take).ok_or(BindError::NoFile { number })
    }
}

/// Gives the machine the disks that `wanted` names, and tells the container's root where they are in the guest.
///
/// # Errors
/// A file that is not there, that a device cannot use, or a device that has a backing already.
pub fn bind_disks(
    machine: &Machine,
    wanted: &ContainerFiles,
    files: &mut Files,
    root: &mut Root,
) -> Result<(), BindError> {
    let ContainerFiles { layers, upper, volumes, shares: _ } = wanted;
    if layers.len() > LAYERS_MAX {
        return Err(BindError::Layers { count: layers.len() });
    }
    if volumes.len() > CONTAINER_DISKS - FIRST_VOLUME_DISK {
        return Err(BindError::Volumes { count: volumes.len() });
    }
    if !layers.is_empty() {
        let images = layers.iter().map(|number| files.take(*number).map(File::from)).collect::<Result<_, _>>()?;
        (root.disk, root.layers) = (device(LAYERS_DISK), machine.attach_layers(LAYERS_DISK, images)?);
    }
    if let Some(number) = upper {
        machine.attach_image(UPPER_DISK, files.take(*number)?.into(), "of the writable layer", Backing::Scratch)?;
        root.upper = Some(device(UPPER_DISK));
    }
    for (slot, Volume { file, read_only }) in (FIRST_VOLUME_DISK..).zip(volumes) {
        let backing = if *read_only { Backing::ReadOnly } else { Backing::Lasting };
        let name = format!("of volume {}", slot - FIRST_VOLUME_DISK);
        machine.attach_image(slot, files.take(*file)?.into(), &name, backing)?;
    }
    Ok(())
}

/// Gives a machine that goes on from a snapshot the disks that its guest knows already.
///
/// # Errors
/// As for [`bind_disks`], and files that are not what the guest knows.
pub fn bind_disks_again(machine: &Machine, wanted: &ContainerFiles, files: &mut Files) -> Result<(), BindError> {
    bind_disks(machine, wanted, files, &mut Root::default())?;
    Ok(machine.check_disks()?)
}

/// Shares the directories and files that `wanted` names, and tells the container's mounts the numbers that they have got.
///
/// # Errors
/// A file that is not there or cannot be shared, or a mount of none of them.
pub fn share(
    machine: &Machine,
    wanted: &ContainerFiles,
    files: &mut Files,
    mounts: &mut [ContainerMount],
) -> Result<(), BindError> {
    let shares = &wanted.shares;
    let mut given = Vec::with_capacity(shares.len());
    for (number, Share { file, read_only, symlinks }) in shares.iter().enumerate() {
        let symlinks = match symlinks {
            Symlinks::Deny => SymlinkPolicy::Deny,
            Symlinks::Opaque => SymlinkPolicy::Opaque,
            Symlinks::Follow => SymlinkPolicy::Follow,
        };
        let config = ShareConfig { root: files.take(*file)?, read_only: *read_only, symlinks };
        let shared = machine.share().ok_or(BindError::NoShares)?.add(config);
        given.push(shared.map_err(|source| BindError::Share { number, source })?);
    }
    for mount in mounts {
        if let MountSource::Share { number } = &mut mount.source {
            let own = usize::try_from(*number).ok().and_then(|index| given.get(index));
            *number = *own.ok_or(BindError::NoShare { number: *number })?;
        }
    }
    Ok(())
}

/// Name of a block device in the guest.
fn device(slot: usize) -> String {
    let letter = u8::try_from(slot).ok().and_then(|slot| b'a'.checked_add(slot));
    format!("/dev/vd{}", char::from(letter.unwrap_or(b'?')))
}

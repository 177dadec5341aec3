//! The sources of bind mounts: opened so that the vmm can share them, each once.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open as open_path};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use rustix::mount::{OpenTreeFlags, open_tree};
use supermachine_agent_protocol::container::{ContainerMount, MountSource};
use supermachine_vmm_api::Share;

use super::Files;
use crate::plan::{HostBind, Plan};

/// A bind mount that cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// The source cannot be opened.
    #[error("mounts[{index}].source: {}", path.display())]
    Open {
        /// Index of the mount in `config.json`.
        index: usize,
        /// The source.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The source is something that the guest could not use.
    #[error("mounts[{index}].source: {} {what}", path.display())]
    Special {
        /// Index of the mount in `config.json`.
        index: usize,
        /// The source.
        path: PathBuf,
        /// What it is, and why it is no use.
        what: &'static str,
    },
}

/// Opens the sources of all bind mounts of a plan.
pub(super) fn open(plan: &mut Plan, files: &mut Files) -> Result<(), ShareError> {
    let mut shared: Vec<&HostBind> = Vec::new();
    for bind in &plan.binds {
        // A plan has a mount for each of its binds.
        let Some(mount) = plan.container.mounts.get_mut(bind.mount) else { continue };
        if let Some(shm) = shared_memory(bind, mount) {
            *mount = shm;
            continue;
        }
        let known = shared.iter().position(|other| HostBind { mount: bind.mount, ..(*other).clone() } == *bind);
        let number = match known {
            Some(number) => number,
            None => {
                let HostBind { read_only, symlinks, .. } = *bind;
                let file = files.add(source(bind)?);
                files.names.shares.push(Share { file, read_only, symlinks });
                shared.push(bind);
                shared.len().saturating_sub(1)
            }
        };
        mount.source = MountSource::Share { number: u32::try_from(number).unwrap_or(u32::MAX) };
    }
    Ok(())
}

/// Opens the source of a bind mount. It may be a link, as for `mount(2)`.
fn source(bind: &HostBind) -> Result<OwnedFd, ShareError> {
    let failed = |errno: Errno| ShareError::Open { index: bind.mount, path: bind.source.clone(), source: errno.into() };
    let special = |what| ShareError::Special { index: bind.mount, path: bind.source.clone(), what };
    let file = open_path(&bind.source, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(failed)?;
    let mode = fstat(&file).map_err(failed)?.st_mode;
    match SFlag::from_bits_truncate(mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => Ok(file),
        SFlag::S_IFDIR if bind.follows => Ok(file),
        SFlag::S_IFDIR => Ok(view(&file, bind).unwrap_or(file)),
        SFlag::S_IFSOCK => Err(special("is a socket: nobody answers on it in the guest, whose kernel is another")),
        SFlag::S_IFIFO => Err(special("is a named pipe: its other end could not be in the guest")),
        _ => Err(special("is a device of the host: the guest has others")),
    }
}

/// A view of a directory that stays as it is: with what is mounted below now or, unless the bind is recursive, without.
fn view(directory: &OwnedFd, bind: &HostBind) -> Option<OwnedFd> {
    let below = if bind.recursive { OpenTreeFlags::AT_RECURSIVE } else { OpenTreeFlags::empty() };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let view = open_tree(directory, "", flags | below);
    let path = bind.source.display();
    view.inspect_err(|error| log::info!("mounts below {path} come and go as on the host: no view of it: {error}")).ok()
}

/// For a tmpfs of the host on `/dev/shm`: one of the guest, as large. Memory that processes share is no file of the host.
fn shared_memory(bind: &HostBind, mount: &ContainerMount) -> Option<ContainerMount> {
    if mount.destination != "/dev/shm" {
        return None;
    }
    let bytes = tmpfs_bytes(&bind.source)?;
    let source = MountSource::Filesystem { fstype: "tmpfs".to_owned(), source: "shm".to_owned() };
    let flags = mount.flags.iter().filter(|flag| !matches!(flag.as_str(), "bind" | "rbind")).cloned().collect();
    Some(ContainerMount { source, flags, data: format!("mode=1777,size={bytes}"), ..mount.clone() })
}

/// Size in bytes of the tmpfs that `path` lies on; nothing if it lies on something else.
fn tmpfs_bytes(path: &Path) -> Option<u64> {
    let stat = statfs(path).ok()?;
    let block = u64::try_from(stat.block_size()).ok()?;
    let bytes = stat.blocks().checked_mul(block)?;
    (stat.filesystem_type() == TMPFS_MAGIC).then_some(bytes)
}

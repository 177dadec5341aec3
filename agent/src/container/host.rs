//! What a container's mounts have of the host: its shared directories and files, and its volumes. Each is mounted in the
//! guest's own mount namespace, once, where no container sees it; their mounts show it again.

use std::os::fd::AsFd;
use std::path::Path;

use supermachine_agent_protocol::container::{ContainerMount, MountSource};
use supermachine_agent_protocol::spec::SHARES_TAG;

use super::disk;
use super::options::Options;
use super::rootfs::{make_folder, open_folder};
use super::tree::Tree;
use crate::reply::{Step, bad_request, failed};
use crate::sys;

/// Where the shared ones are.
const SHARES: &str = "/run/supermachine/shares";
/// Where the volumes are, each under its device's name.
const VOLUMES: &str = "/run/supermachine/volumes";

/// The path of a shared directory or file.
pub(super) fn shared(number: u32) -> String {
    format!("{SHARES}/{number}")
}

/// The path of a volume.
pub(super) fn volume(device: &str) -> String {
    let name = device.rsplit('/').next().unwrap_or_default();
    format!("{VOLUMES}/{name}")
}

/// Checks the name of a volume's device.
pub(super) fn check(device: &str) -> Step {
    match device.strip_prefix("/dev/") {
        Some(name) if !name.is_empty() && name != ".." && name != "." && !name.contains('/') => Ok(()),
        _ => Err(bad_request(format!("mount: {device:?} is no block device"))),
    }
}

/// Mounts what `mounts` show and is not mounted yet.
pub(super) fn mount_all(mounts: &[ContainerMount]) -> Step {
    for mount in mounts {
        match &mount.source {
            MountSource::Share { .. } => mount_once(SHARES, || {
                let tree = Tree::new("virtiofs", SHARES_TAG, &[], 0);
                tree.map_err(failed(|| "mount the shared directories (virtiofs)".to_owned()))
            })?,
            MountSource::Volume { device, fstype } => {
                mount_once(&volume(device), || new_volume(mounts, device, fstype))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Mounts on a folder of the guest what nothing is mounted on yet.
fn mount_once(path: &str, tree: impl FnOnce() -> Step<Tree>) -> Step {
    make_folder(path)?;
    if is_mounted(path) {
        return Ok(());
    }
    let attach = |tree: Tree| tree.attach(open_folder(path)?.as_fd());
    attach(tree()?).map_err(failed(|| format!("mount on {path:?}")))
}

fn is_mounted(path: &str) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.dev());
    let path = Path::new(path);
    let above = path.parent().map(device);
    !matches!((device(path), above), (Ok(own), Some(Ok(above))) if own == above)
}

/// The file system of a volume: read-only, for the disk below as well, if all of its mounts are.
fn new_volume(all: &[ContainerMount], device: &str, fstype: &str) -> Step<Tree> {
    let is_of_it =
        |mount: &&ContainerMount| matches!(&mount.source, MountSource::Volume { device: of, .. } if of == device);
    let mut attributes = libc::MOUNT_ATTR_RDONLY;
    let mut data = Vec::new();
    for mount in all.iter().filter(is_of_it) {
        attributes &= Options::parse(&mount.flags)?.own.set;
        data.extend(mount.data.split(',').filter(|option| !option.is_empty()));
    }
    let disk = disk::open(device, 1)?;
    let mut options: Vec<(&str, Option<&str>)> = data
        .into_iter()
        .map(|option| option.split_once('=').map_or((option, None), |(key, value)| (key, Some(value))))
        .collect();
    if attributes & libc::MOUNT_ATTR_RDONLY != 0 {
        sys::set_disk_read_only(&disk).map_err(failed(|| format!("make disk {device:?} read-only")))?;
        options.push(("ro", None));
    } else {
        // Space of the host that is freed here is free there.
        options.push(("discard", None));
    }
    Tree::new(fstype, device, &options, attributes).map_err(failed(|| format!("mount volume {device:?} ({fstype})")))
}

//! The mounts of a container, in order, each at a place inside its root.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::{SFlag, fstat};
use supermachine_agent_protocol::ErrorReply;
use supermachine_agent_protocol::container::{ContainerMount, MountSource};

use super::inside::{Inside, Missing, kind};
use super::options::Options;
use super::rootfs::open_folder;
use super::tree::{Change, Tree};
use super::{copy, host};
use crate::reply::{Step, bad_request, failed, os_error};

/// What mounting has to know of the container.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surroundings<'a> {
    /// Its control group's directory in the guest.
    pub(super) group: &'a Path,
    /// Whether it has a control group namespace.
    pub(super) own_cgroups: bool,
    /// Whether it has a user namespace but not a network namespace: then it may not mount `sysfs`.
    pub(super) needs_bound_sysfs: bool,
}

/// What is left to do once everything is mounted.
#[derive(Debug, Default)]
pub(super) struct Later {
    /// File systems in memory that become read-only when nothing more is to be made in them.
    pub(super) read_only: Vec<Tree>,
    /// Propagation: what the root is given would overwrite it.
    pub(super) propagation: Vec<(Tree, u64, bool)>,
}

/// Checks what can be checked before there is a child.
pub(super) fn check(mounts: &[ContainerMount]) -> Step {
    for mount in mounts {
        Options::parse(&mount.flags)?;
        if !mount.destination.starts_with('/') {
            return Err(bad_request(format!("mount: destination {:?} is not absolute", mount.destination)));
        }
        if mount.destination.chars().all(|c| matches!(c, '/' | '.')) {
            return Err(bad_request(format!("mount: {:?} would hide the root", mount.destination)));
        }
        match &mount.source {
            MountSource::Bind { path } if !path.starts_with('/') => {
                return Err(bad_request(format!("mount: source {path:?} is not absolute")));
            }
            MountSource::Volume { device, .. } => host::check(device)?,
            _ => {}
        }
    }
    Ok(())
}

/// Mounts everything inside `root`.
pub(super) fn mount_all(root: Inside<'_>, mounts: &[ContainerMount], about: Surroundings<'_>) -> Step<Later> {
    let mut later = Later::default();
    for mount in mounts {
        mount_one(root, mount, about, &mut later)?;
    }
    Ok(later)
}

fn mount_one(root: Inside<'_>, mount: &ContainerMount, about: Surroundings<'_>, later: &mut Later) -> Step {
    let options = Options::parse(&mount.flags)?;
    let failed = |errno| mount_error(mount, errno);
    let bind = bound_path(mount, about);
    let (tree, target) = match &bind {
        Some(path) => bind_tree(root, mount, path, &options).map_err(failed)?,
        None => new_tree(root, mount, &options).map_err(failed)?,
    };
    let MountSource::Filesystem { fstype, .. } = &mount.source else {
        // What was bound keeps its flags but for those that are asked for.
        tree.change(options.own, false).map_err(failed)?;
        return finish(tree, &target, &options, later).map_err(failed);
    };
    if bind.is_some() {
        tree.change(options.own, true).map_err(failed)?;
    }
    finish(tree, &target, &options, later).map_err(failed)?;
    if fstype == "tmpfs" && options.own.set & libc::MOUNT_ATTR_RDONLY != 0 {
        let again = root.find(&mount.destination, Missing::Refuse).map_err(failed)?;
        later.read_only.push(Tree::attached(again));
    }
    Ok(())
}

/// The path of the guest that a mount shows, if it is one.
fn bound_path(mount: &ContainerMount, about: Surroundings<'_>) -> Option<String> {
    match &mount.source {
        MountSource::Bind { path } => Some(path.clone()),
        MountSource::Share { number } => Some(host::shared(*number)),
        MountSource::Volume { device, .. } => Some(host::volume(device)),
        MountSource::Cgroup {} if !about.own_cgroups => about.group.to_str().map(str::to_owned),
        MountSource::Filesystem { fstype, .. } if fstype == "sysfs" && about.needs_bound_sysfs => {
            Some("/sys".to_owned())
        }
        _ => None,
    }
}

fn bind_tree(root: Inside<'_>, mount: &ContainerMount, path: &str, options: &Options) -> nix::Result<(Tree, OwnedFd)> {
    let source = open_folder(path)?;
    let is_folder = kind(&fstat(&source)?) == SFlag::S_IFDIR;
    let missing = if is_folder { Missing::MakeDirectory } else { Missing::MakeFile };
    let target = root.find(&mount.destination, missing)?;
    let whole = options.recursive_bind || matches!(mount.source, MountSource::Filesystem { .. });
    Ok((Tree::of(source.as_fd(), whole)?, target))
}

fn new_tree(root: Inside<'_>, mount: &ContainerMount, options: &Options) -> nix::Result<(Tree, OwnedFd)> {
    let (fstype, source) = match &mount.source {
        MountSource::Filesystem { fstype, source } => (fstype.as_str(), source.as_str()),
        _ => ("cgroup2", "cgroup"),
    };
    let mut of_fs: Vec<(&str, Option<&str>)> = options.filesystem.iter().map(|name| (*name, None)).collect();
    let hidden_mode;
    let target = match root.find(&mount.destination, Missing::Refuse) {
        Err(Errno::ENOENT) => root.find(&mount.destination, Missing::MakeDirectory)?,
        found => {
            let target = found?;
            if fstype == "tmpfs" {
                // A file system in memory looks like the directory it hides, unless it is told otherwise.
                hidden_mode = format!("{:04o}", fstat(&target)?.st_mode & 0o7777);
                of_fs.push(("mode", Some(&hidden_mode)));
            }
            target
        }
    };
    let data = mount.data.split(',').filter(|option| !option.is_empty());
    of_fs.extend(data.map(|option| option.split_once('=').map_or((option, None), |(key, value)| (key, Some(value)))));
    let mut attributes = options.own.set;
    if fstype == "tmpfs" {
        attributes &= !libc::MOUNT_ATTR_RDONLY;
    }
    let tree = Tree::new(fstype, source, &of_fs, attributes)?;
    if options.copy_up {
        copy::copy_folder(target.as_fd(), tree.as_fd())?;
    }
    Ok((tree, target))
}

fn finish(tree: Tree, target: &OwnedFd, options: &Options, later: &mut Later) -> nix::Result<()> {
    tree.change(options.recursive, true)?;
    tree.attach(target.as_fd())?;
    for (propagation, recursive) in &options.propagation {
        tree.change(Change { propagation: *propagation, ..Change::default() }, *recursive)?;
    }
    if let Some((propagation, recursive)) = options.propagation.last() {
        later.propagation.push((tree, *propagation, *recursive));
    }
    Ok(())
}

impl Later {
    /// Makes file systems in memory read-only.
    pub(super) fn make_read_only(&self) -> Step {
        let change = Change { set: libc::MOUNT_ATTR_RDONLY, ..Change::default() };
        let result = self.read_only.iter().try_for_each(|tree| tree.change(change, false));
        result.map_err(failed(|| "make a tmpfs read-only".to_owned()))
    }

    /// Gives mounts the propagation they asked for.
    pub(super) fn propagate(&self) -> Step {
        let set = |(tree, propagation, recursive): &(Tree, u64, bool)| {
            tree.change(Change { propagation: *propagation, ..Change::default() }, *recursive)
        };
        self.propagation.iter().try_for_each(set).map_err(failed(|| "set a mount's propagation".to_owned()))
    }
}

/// What went wrong with a mount, in the words of its bundle.
pub(super) fn mount_error(mount: &ContainerMount, errno: Errno) -> ErrorReply {
    let source = match &mount.source {
        MountSource::Filesystem { fstype, .. } => fstype.as_str(),
        MountSource::Cgroup {} => "cgroup",
        MountSource::Bind { path } => path.as_str(),
        MountSource::Share { .. } => "share",
        MountSource::Volume { device, .. } => device.as_str(),
    };
    os_error(&format!("mount {source:?} to {:?}", mount.destination), errno)
}

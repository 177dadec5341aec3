//! Mounts that a container gets after it was built, perhaps in a template: what it shares with the host.
//!
//! Its first process cannot reach what they show any more: it has entered its root. So the agent makes a view of each in
//! the guest's own mount namespace, and the process attaches them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::stat::{SFlag, fstat};
use supermachine_agent_protocol::container::{ContainerMount, MountSource};
use supermachine_agent_protocol::spec::SHARED_MOUNTS_MAX;

use super::host;
use super::inside::{Inside, Missing, kind};
use super::mounts::{self, mount_error};
use super::options::Options;
use super::rootfs::open_folder;
use super::tree::{Change, Tree};
use crate::reply::{Step, bad_request};

/// A view of what each mount shows, with its options.
pub(crate) fn views(wanted: &[ContainerMount]) -> Step<Vec<Tree>> {
    if wanted.len() > SHARED_MOUNTS_MAX {
        let count = wanted.len();
        return Err(bad_request(format!("furnish: {count} mounts are too many, {SHARED_MOUNTS_MAX} are possible")));
    }
    mounts::check(wanted)?;
    let numbers = wanted.iter().map(number).collect::<Step<Vec<_>>>()?;
    host::mount_all(wanted)?;
    wanted.iter().zip(numbers).map(|(mount, number)| view(mount, number)).collect()
}

/// The number of the share that a mount shows.
fn number(mount: &ContainerMount) -> Step<u32> {
    match mount.source {
        MountSource::Share { number } => Ok(number),
        _ => Err(bad_request(format!("furnish: {:?} shows nothing of the host", mount.destination))),
    }
}

fn view(mount: &ContainerMount, number: u32) -> Step<Tree> {
    let options = Options::parse(&mount.flags)?;
    let view = || -> nix::Result<Tree> {
        let tree = Tree::of(open_folder(host::shared(number))?.as_fd(), options.recursive_bind)?;
        tree.change(options.own, false)?;
        tree.change(options.recursive, true)?;
        Ok(tree)
    };
    view().map_err(|errno| mount_error(mount, errno))
}

/// Attaches each view inside `root`.
pub(super) fn mount_all(root: Inside<'_>, wanted: &[ContainerMount], views: &[OwnedFd]) -> Step {
    if wanted.len() != views.len() {
        return Err(bad_request("furnish: there is not one view for each mount"));
    }
    wanted.iter().zip(views).try_for_each(|(mount, view)| mount_one(root, mount, view.as_fd()))
}

fn mount_one(root: Inside<'_>, mount: &ContainerMount, view: BorrowedFd<'_>) -> Step {
    let options = Options::parse(&mount.flags)?;
    let attach = || -> nix::Result<()> {
        let is_folder = kind(&fstat(view)?) == SFlag::S_IFDIR;
        let missing = if is_folder { Missing::MakeDirectory } else { Missing::MakeFile };
        let target = root.find(&mount.destination, missing)?;
        let tree = Tree::attached(view.try_clone_to_owned().map_err(|_| nix::errno::Errno::EMFILE)?);
        tree.attach(target.as_fd())?;
        let mut changes = options.propagation.iter();
        changes.try_for_each(|&(propagation, below)| tree.change(Change { propagation, ..Change::default() }, below))
    };
    attach().map_err(|errno| mount_error(mount, errno))
}

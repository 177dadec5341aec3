//! Paths of a container that show nothing, or cannot be written.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::stat::{SFlag, fstat};

use super::inside::{Inside, Missing, kind};
use super::rootfs::open_folder;
use super::tree::{Change, Tree};
use crate::reply::{Step, bad_request, failed};

const READ_ONLY: Change = Change { set: libc::MOUNT_ATTR_RDONLY, clear: 0, propagation: 0 };

/// Checks paths before there is a child.
pub(super) fn check(paths: &[String]) -> Step {
    match paths.iter().find(|path| !path.starts_with('/')) {
        Some(odd) => Err(bad_request(format!("masked or read-only path {odd:?} is not absolute"))),
        None => Ok(()),
    }
}

/// Hides each path that exists: a file behind `/dev/null`, a directory behind an empty one.
pub(super) fn mask_all(root: Inside<'_>, paths: &[String]) -> Step {
    paths.iter().try_for_each(|path| mask(root, path).map_err(failed(|| format!("mask path {path:?}"))))
}

/// Makes each path that exists read-only, with what is mounted below.
pub(super) fn make_all_read_only(root: Inside<'_>, paths: &[String]) -> Step {
    paths.iter().try_for_each(|path| make_read_only(root, path).map_err(failed(|| format!("readonly path {path:?}"))))
}

/// Makes the root read-only.
pub(super) fn make_root_read_only(root: &Tree) -> Step {
    root.change(READ_ONLY, false).map_err(failed(|| "make the root read-only".to_owned()))
}

fn mask(root: Inside<'_>, path: &str) -> nix::Result<()> {
    let target = match root.find(path, Missing::Refuse) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        other => other?,
    };
    let tree = if kind(&fstat(&target)?) == SFlag::S_IFDIR {
        Tree::new("tmpfs", "tmpfs", &[("nr_inodes", Some("2")), ("nr_blocks", Some("1"))], libc::MOUNT_ATTR_RDONLY)?
    } else {
        Tree::of(open_folder("/dev/null")?.as_fd(), false)?
    };
    tree.attach(target.as_fd())
}

fn make_read_only(root: Inside<'_>, path: &str) -> nix::Result<()> {
    let target = match root.find(path, Missing::Refuse) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        other => other?,
    };
    let tree = Tree::of(target.as_fd(), true)?;
    tree.change(READ_ONLY, true)?;
    tree.attach(target.as_fd())
}

//! A container's root: squashfs layers below a writable one in memory or on a disk, and entering it.

use std::fs::DirBuilder;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{chdir, fchdir, pivot_root};
use rustix::fs::{XattrFlags, getxattr, listxattr, setxattr};
use rustix::io::Errno;
use supermachine_agent_protocol::container::{Extent, Root};
use supermachine_agent_protocol::spec::LAYERS_MAX;

use super::disk;
use super::tree::Tree;
use crate::reply::{Step, bad_request, failed};

/// Where the parts of a root are mounted while it is put together.
const PARTS: &str = "/run/supermachine/parts";
/// Where a container mounts its root before it enters it.
const ROOT: &str = "/run/supermachine/root";
/// What layers lie on whole pieces of, in bytes.
const ALIGNMENT: u64 = 4096;
/// The longest value of an extended attribute, and the longest list of their names, in bytes: Linux's `XATTR_SIZE_MAX`.
const XATTR_BYTES: usize = 65536;

/// Checks what can be checked before anything is made.
pub(super) fn check(root: &Root) -> Step {
    let odd = |extent: &Extent| {
        let whole = extent.offset.is_multiple_of(ALIGNMENT) && extent.length.is_multiple_of(ALIGNMENT);
        !whole || extent.length == 0 || extent.offset.checked_add(extent.length).is_none()
    };
    match root.layers.len() {
        0 => Err(bad_request("root: there are no layers")),
        1..=LAYERS_MAX if !root.layers.iter().any(odd) => Ok(()),
        1..=LAYERS_MAX => Err(bad_request("root: a layer does not lie on whole pages of its disk")),
        count => Err(bad_request(format!("root: {count} layers are too many, {LAYERS_MAX} are possible"))),
    }
}

/// Puts the root together. It is attached nowhere, and holds its parts itself.
pub(super) fn assemble(root: &Root) -> Step<Tree> {
    make_folder(ROOT)?;
    make_folder(PARTS)?;
    let parts = Tree::new("tmpfs", "supermachine", &[("mode", Some("0700"))], 0)
        .and_then(|tree| tree.attach(open_folder(PARTS)?.as_fd()))
        .map_err(failed(|| "mount a tmpfs for the root".to_owned()));
    let assembled = parts.and_then(|()| overlay(root));
    // What the overlay uses it keeps.
    let _ = umount2(PARTS, MntFlags::MNT_DETACH);
    assembled
}

fn overlay(root: &Root) -> Step<Tree> {
    let lower = mount_layers(root)?;
    let writable = match &root.upper {
        Some(device) => mount_upper(device)?,
        None => PARTS.to_owned(),
    };
    let (upper, work) = (format!("{writable}/upper"), format!("{writable}/work"));
    make_folder(&upper)?;
    make_folder(&work)?;
    let topmost = lower.first().map(String::as_str).unwrap_or_default();
    dress(&upper, topmost).map_err(failed(|| "copy the root directory's attributes".to_owned()))?;
    // One by one: all in one option would be more than the page that one may have.
    let mut options: Vec<(&str, Option<&str>)> =
        lower.iter().map(|layer| ("lowerdir+", Some(layer.as_str()))).collect();
    options.extend([("upperdir", Some(upper.as_str())), ("workdir", Some(work.as_str()))]);
    options.push(("redirect_dir", Some("on")));
    if root.upper.is_some() {
        // The disk does not outlive the machine: nothing on it needs to be durable.
        options.push(("volatile", None));
    }
    Tree::new("overlay", "overlay", &options, 0).map_err(failed(|| "mount the root (overlay)".to_owned()))
}

/// Mounts each layer; gives where, the topmost first.
fn mount_layers(root: &Root) -> Step<Vec<String>> {
    let end = root.layers.iter().map(|layer| layer.offset.saturating_add(layer.length)).max().unwrap_or(0);
    let disk = disk::open(&root.disk, end)?;
    let mut folders = Vec::with_capacity(root.layers.len());
    for (number, layer) in (1..=u8::MAX).zip(&root.layers) {
        let device = match &root.layers[..] {
            [Extent { offset: 0, .. }] => root.disk.clone(),
            _ => disk::partition(&disk, &root.disk, number, layer)?,
        };
        let folder = format!("{PARTS}/{number}");
        make_folder(&folder)?;
        Tree::new("squashfs", &device, &[("ro", None)], 0)
            .and_then(|tree| tree.attach(open_folder(&folder)?.as_fd()))
            .map_err(failed(|| format!("mount layer {number} of {} ({device:?}, squashfs)", root.layers.len())))?;
        folders.push(folder);
    }
    folders.reverse();
    Ok(folders)
}

/// Mounts the disk for what is written; gives where.
fn mount_upper(device: &str) -> Step<String> {
    let folder = format!("{PARTS}/disk");
    make_folder(&folder)?;
    disk::open(device, 1)?;
    // Space of the host that is freed here is free there.
    Tree::new("ext4", device, &[("discard", None)], libc::MOUNT_ATTR_NOATIME)
        .and_then(|tree| tree.attach(open_folder(&folder)?.as_fd()))
        .map_err(failed(|| format!("mount the writable layer ({device:?}, ext4)")))?;
    Ok(folder)
}

/// Gives `folder` the attributes of `like`: the directory that a container sees as its root is the writable layer's.
fn dress(folder: &str, like: &str) -> std::io::Result<()> {
    let model = std::fs::metadata(like)?;
    chown(folder, Some(model.uid()), Some(model.gid()))?;
    std::fs::set_permissions(folder, PermissionsExt::from_mode(model.mode() & 0o7777))?;
    copy_xattrs(folder, like)?;
    let times = [(model.atime(), model.atime_nsec()), (model.mtime(), model.mtime_nsec())];
    let [accessed, modified] = times.map(|(seconds, nanoseconds)| TimeSpec::new(seconds, nanoseconds));
    Ok(utimensat(AT_FDCWD, folder, &accessed, &modified, UtimensatFlags::FollowSymlink)?)
}

/// Copies extended attributes but the overlay's own, as the kernel does when it copies a directory up.
fn copy_xattrs(folder: &str, like: &str) -> std::io::Result<()> {
    let mut names = vec![0; XATTR_BYTES];
    let mut value = vec![0; XATTR_BYTES];
    match listxattr(like, &mut names) {
        Ok(length) => names.truncate(length),
        // A layer of which nothing has any.
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    for name in names.filter(|name| !name.starts_with(b"trusted.overlay.")) {
        let length = getxattr(like, name, &mut value)?;
        match setxattr(folder, name, value.get(..length).unwrap_or_default(), XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP) => (),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Attaches the root in this mount namespace.
pub(super) fn attach(tree: &Tree) -> Step {
    let mount = || tree.attach(open_folder(ROOT)?.as_fd());
    mount().map_err(failed(|| "mount the root".to_owned()))
}

/// Makes `root`, which is attached, the root of this mount namespace, and leaves nothing else in it.
pub(super) fn enter(root: BorrowedFd<'_>) -> Step {
    let pivot = || -> nix::Result<()> {
        fchdir(root)?;
        pivot_root(".", ".")?;
        // The old root lies on the new one now.
        umount2(".", MntFlags::MNT_DETACH)?;
        chdir("/")
    };
    pivot().map_err(failed(|| "pivot_root".to_owned()))
}

/// Makes a directory of the guest and those above it.
pub(super) fn make_folder(path: &str) -> Step {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.map_err(failed(|| format!("mkdir {path:?}")))
}

/// A handle of a directory or file of the guest.
pub(super) fn open_folder(path: impl AsRef<Path>) -> nix::Result<std::os::fd::OwnedFd> {
    open(path.as_ref(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
}

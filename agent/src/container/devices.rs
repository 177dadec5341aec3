//! Device nodes, the links in `/dev`, and the console.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstatat, makedev, mknodat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, symlinkat, unlinkat};
use supermachine_agent_protocol::container::{Container, Device, DeviceKind, MountSource};

use super::inside::{Inside, Missing, kind};
use super::rootfs::open_folder;
use super::tree::Tree;
use crate::reply::{Step, bad_request, failed};

/// Links that programs expect in `/dev`.
const LINKS: [(&str, &str); 4] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// Checks devices before there is a child.
pub(super) fn check(devices: &[Device]) -> Step {
    match devices.iter().find(|device| !device.path.starts_with('/') || device.mode > 0o7777) {
        Some(odd) => Err(bad_request(format!("device {:?}: path or mode {:#o} cannot be meant", odd.path, odd.mode))),
        None => Ok(()),
    }
}

/// Makes the container's nodes and links, unless its `/dev` is another's.
pub(super) fn make_all(root: Inside<'_>, spec: &Container, in_user_namespace: bool) -> Step {
    let foreign = spec.mounts.iter().any(|mount| {
        matches!(mount.source, MountSource::Bind { .. }) && mount.destination.trim_end_matches('/') == "/dev"
    });
    if foreign {
        return Ok(());
    }
    for device in &spec.devices {
        make(root, device, in_user_namespace).map_err(failed(|| format!("make device {:?}", device.path)))?;
    }
    for (path, target) in LINKS {
        link(root, path, target).map_err(failed(|| format!("link {path:?}")))?;
    }
    if open_folder("/proc/kcore").is_ok() {
        link(root, "/dev/core", "/proc/kcore").map_err(failed(|| "link \"/dev/core\"".to_owned()))?;
    }
    let has_terminals = spec.mounts.iter().any(|mount| mount.destination.trim_end_matches('/') == "/dev/pts");
    if has_terminals {
        link_ptmx(root).map_err(failed(|| "link \"/dev/ptmx\"".to_owned()))?;
    }
    Ok(())
}

fn make(root: Inside<'_>, device: &Device, in_user_namespace: bool) -> nix::Result<()> {
    let Device { path, kind: what, major, minor, mode, uid, gid } = device;
    if in_user_namespace && *what != DeviceKind::Fifo {
        return bind(root, path);
    }
    let kind = match what {
        DeviceKind::Block => SFlag::S_IFBLK,
        DeviceKind::Character => SFlag::S_IFCHR,
        DeviceKind::Fifo => SFlag::S_IFIFO,
    };
    let mode = Mode::from_bits_truncate(*mode);
    let (folder, name) = root.find_parent(path)?;
    match mknodat(&folder, name.as_os_str(), kind, mode, makedev((*major).into(), (*minor).into())) {
        // The image has one, or an earlier mount.
        Err(Errno::EEXIST) => return Ok(()),
        Err(Errno::EPERM) => return bind(root, path),
        other => other?,
    }
    let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
    fchownat(&folder, name.as_os_str(), Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    fchmodat(&folder, name.as_os_str(), mode, FchmodatFlags::FollowSymlink)
}

/// Shows the guest's own node.
fn bind(root: Inside<'_>, path: &str) -> nix::Result<()> {
    let tree = Tree::of(open_folder(path)?.as_fd(), false)?;
    tree.attach(root.find(path, Missing::MakeFile)?.as_fd())
}

fn link(root: Inside<'_>, path: &str, target: &str) -> nix::Result<()> {
    let (folder, name) = root.find_parent(path)?;
    match symlinkat(target, &folder, name.as_os_str()) {
        Err(Errno::EEXIST) => Ok(()),
        other => other,
    }
}

/// The container's own terminals are made at its own device.
fn link_ptmx(root: Inside<'_>) -> nix::Result<()> {
    let (folder, name) = root.find_parent("/dev/ptmx")?;
    match unlinkat(&folder, name.as_os_str(), UnlinkatFlags::NoRemoveDir) {
        Err(Errno::ENOENT) => {}
        other => other?,
    }
    symlinkat("pts/ptmx", &folder, name.as_os_str())
}

/// Shows a terminal as the container's console.
pub(super) fn put_console(root: Inside<'_>, slave: BorrowedFd<'_>) -> Step {
    let put = || -> nix::Result<()> {
        let (folder, name) = root.find_parent("/dev/console")?;
        let exists = fstatat(&folder, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW);
        if exists.is_ok_and(|status| kind(&status) == SFlag::S_IFLNK) {
            unlinkat(&folder, name.as_os_str(), UnlinkatFlags::NoRemoveDir)?;
        }
        make_console_file(&folder, &name)?;
        Tree::of(slave, false)?.attach(root.find("/dev/console", Missing::Refuse)?.as_fd())
    };
    put().map_err(failed(|| "mount the terminal on \"/dev/console\"".to_owned()))
}

fn make_console_file(folder: impl AsFd, name: &OsStr) -> nix::Result<()> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    match openat(folder, name, flags, Mode::from_bits_truncate(0o666)) {
        Err(Errno::EEXIST) => Ok(()),
        other => other.map(drop),
    }
}

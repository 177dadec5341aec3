//! Mounts that are made before they are attached anywhere: the kernel's newer mount calls.
// UNSAFETY: fsopen, fsconfig, fsmount, open_tree, mount_setattr and move_mount have no wrappers.
#![expect(unsafe_code, reason = "mount system calls on descriptors, C strings and locals")]

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;

use crate::sys;

// Commands of fsconfig, `include/uapi/linux/mount.h`.
const SET_FLAG: libc::c_uint = 0;
const SET_STRING: libc::c_uint = 1;
const CREATE: libc::c_uint = 6;

/// A mount that is attached nowhere yet, or was attached from here.
#[derive(Debug)]
pub(crate) struct Tree(OwnedFd);

/// What `mount_setattr` changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// `MOUNT_ATTR_…` to set.
    pub(crate) set: u64,
    /// `MOUNT_ATTR_…` to clear before.
    pub(crate) clear: u64,
    /// One of `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE`, `MS_UNBINDABLE`; 0 leaves it.
    pub(crate) propagation: u64,
}

impl Tree {
    /// A new file system. `options` are its own, flags without a value; `attributes` are `MOUNT_ATTR_…`.
    pub(crate) fn new(
        fstype: &str,
        source: &str,
        options: &[(&str, Option<&str>)],
        attributes: u64,
    ) -> nix::Result<Self> {
        let name = c_string(fstype)?;
        // SAFETY: a C string that outlives the call, and an integer.
        let context = descriptor(unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), libc::FSOPEN_CLOEXEC) })?;
        if !source.is_empty() {
            configure(&context, SET_STRING, Some("source"), Some(source))?;
        }
        for (key, value) in options {
            let command = if value.is_some() { SET_STRING } else { SET_FLAG };
            configure(&context, command, Some(key), *value)?;
        }
        configure(&context, CREATE, None, None)?;
        // SAFETY: the call takes a descriptor and integers.
        descriptor(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), libc::FSMOUNT_CLOEXEC, attributes) })
            .map(Self)
    }

    /// Another view of what is at `source`, with what is mounted below if `recursive`.
    pub(crate) fn of(source: BorrowedFd<'_>, recursive: bool) -> nix::Result<Self> {
        let below = if recursive { libc::AT_RECURSIVE } else { 0 };
        let empty_path = libc::AT_EMPTY_PATH | below;
        let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | empty_path.cast_unsigned();
        // SAFETY: a descriptor, a C string literal and an integer.
        let tree = unsafe { libc::syscall(libc::SYS_open_tree, source.as_raw_fd(), c"".as_ptr(), flags) };
        descriptor(tree).map(Self)
    }

    /// The mount whose root a handle of a path is.
    pub(crate) fn attached(root: OwnedFd) -> Self {
        Self(root)
    }

    /// Changes it, and what is mounted below if `recursive`.
    pub(crate) fn change(&self, change: Change, recursive: bool) -> nix::Result<()> {
        if change == Change::default() {
            return Ok(());
        }
        let Change { set, clear, propagation } = change;
        let attr = libc::mount_attr { attr_set: set, attr_clr: clear, propagation, userns_fd: 0 };
        let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
        // SAFETY: a descriptor, a C string literal, an integer, and a local with its size.
        Errno::result(unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                self.0.as_raw_fd(),
                c"".as_ptr(),
                flags,
                &raw const attr,
                size_of::<libc::mount_attr>(),
            )
        })
        .map(drop)
    }

    /// Mounts it on a file or directory.
    pub(crate) fn attach(&self, target: BorrowedFd<'_>) -> nix::Result<()> {
        let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
        // SAFETY: two descriptors, C string literals and an integer.
        Errno::result(unsafe {
            libc::syscall(
                libc::SYS_move_mount,
                self.0.as_raw_fd(),
                c"".as_ptr(),
                target.as_raw_fd(),
                c"".as_ptr(),
                flags,
            )
        })
        .map(drop)
    }
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn configure(context: &OwnedFd, command: libc::c_uint, key: Option<&str>, value: Option<&str>) -> nix::Result<()> {
    let key = key.map(c_string).transpose()?;
    let value = value.map(c_string).transpose()?;
    let pointer = |text: &Option<CString>| text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
    // SAFETY: a descriptor, integers, and C strings that outlive the call or null where the command takes none.
    Errno::result(unsafe {
        libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, pointer(&key), pointer(&value), 0)
    })
    .map(drop)
}

fn c_string(text: &str) -> nix::Result<CString> {
    CString::new(text).map_err(|_| Errno::EINVAL)
}

fn descriptor(result: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = Errno::result(result)?;
    RawFd::try_from(fd).map(sys::own).map_err(|_| Errno::EBADF)
}

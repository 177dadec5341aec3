//! The file systems that every process of the guest expects.

use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, mkdir};

use crate::error::InitError;

/// Where the control groups are.
pub(crate) const CGROUP: &str = "/sys/fs/cgroup";

struct Mount {
    fstype: &'static str,
    target: &'static str,
    flags: MsFlags,
    data: &'static str,
    /// Whether a kernel without it will do.
    optional: bool,
}

const SAFE: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
const NO_EXEC: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC);
const NO_DEV: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);

const fn required(fstype: &'static str, target: &'static str, flags: MsFlags, data: &'static str) -> Mount {
    Mount { fstype, target, flags, data, optional: false }
}

const fn optional(fstype: &'static str, target: &'static str, flags: MsFlags, data: &'static str) -> Mount {
    Mount { fstype, target, flags, data, optional: true }
}

/// In order: each target is in the initramfs or in one of the mounts before it.
const MOUNTS: [Mount; 10] = [
    required("proc", "/proc", SAFE, ""),
    required("sysfs", "/sys", SAFE, ""),
    required("devtmpfs", "/dev", NO_EXEC, "mode=0755"),
    required("devpts", "/dev/pts", NO_EXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"),
    required("tmpfs", "/dev/shm", NO_DEV, "mode=1777"),
    required("tmpfs", "/run", NO_DEV, "mode=0755"),
    required("tmpfs", "/tmp", NO_DEV, "mode=1777"),
    required("cgroup2", CGROUP, SAFE, ""),
    optional("mqueue", "/dev/mqueue", SAFE, ""),
    optional("bpf", "/sys/fs/bpf", SAFE, "mode=0700"),
];

/// Makes the initramfs a root that can be left, and mounts them all.
pub(crate) fn mount_all() -> Result<(), InitError> {
    cover_root().map_err(InitError::os("cover the first root"))?;
    MOUNTS.iter().try_for_each(Mount::mount)
}

/// The kernel's first root has no parent mount, so nobody could `pivot_root` away from it, as containers do. Bound
/// over itself it is a mount like others.
fn cover_root() -> Result<(), Errno> {
    let none = None::<&str>;
    nix::mount::mount(Some("/"), "/run", none, MsFlags::MS_BIND, none)?;
    chdir("/run")?;
    nix::mount::mount(Some("."), "/", none, MsFlags::MS_MOVE, none)?;
    chroot(".")
}

impl Mount {
    fn mount(&self) -> Result<(), InitError> {
        let Self { fstype, target, flags, data, optional } = *self;
        // If it cannot be made, it is there already, or the mount says why not.
        let _ = mkdir(target, Mode::from_bits_truncate(0o755));
        match nix::mount::mount(Some(fstype), target, Some(fstype), flags, Some(data)) {
            Err(Errno::ENODEV | Errno::ENOENT) if optional => Ok(()),
            // With CONFIG_DEVTMPFS_MOUNT the kernel has done it.
            Err(Errno::EBUSY) if fstype == "devtmpfs" => Ok(()),
            other => other.map_err(|source| InitError::Mount { fstype, target, source }),
        }
    }
}

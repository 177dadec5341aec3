//! A server mounted through `/dev/fuse`.

#![allow(dead_code, reason = "each test takes what it needs")]

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use supermachine_share::{Limits, Server, ShareConfig, ShareError};
use tempfile::TempDir;
use vm_memory::VolatileSlice;

/// Largest request: a write of 1 MiB and its headers.
const LARGEST: usize = (1 << 20) + 4096;

/// A directory of the host, and the same directory as a guest sees it.
pub(crate) struct Mounted {
    /// What is shared.
    pub(crate) host: PathBuf,
    /// Where the server's file system is mounted.
    pub(crate) guest: PathBuf,
    /// The server.
    pub(crate) server: Arc<Server>,
    threads: Vec<JoinHandle<()>>,
    _folder: TempDir,
}

impl Mounted {
    /// Mounts a server of what `shares` makes of an empty directory; nothing where the machine cannot do that.
    pub(crate) fn new(shares: impl FnOnce(&Path) -> Vec<ShareConfig>) -> Option<Self> {
        Self::make(|host| Server::new(shares(host), Limits::default()), false)
    }

    /// As [`Mounted::new`], of a directory in memory.
    pub(crate) fn on_memory(shares: impl FnOnce(&Path) -> Vec<ShareConfig>) -> Option<Self> {
        Self::make(|host| Server::new(shares(host), Limits::default()), true)
    }

    /// As [`Mounted::new`].
    pub(crate) fn with_limits(shares: impl FnOnce(&Path) -> Vec<ShareConfig>, limits: Limits) -> Option<Self> {
        Self::make(|host| Server::new(shares(host), limits), false)
    }

    /// As [`Mounted::new`], of a server whose root is the directory.
    pub(crate) fn of_tree() -> Option<Self> {
        let limits = Limits { valid: std::time::Duration::ZERO, ..Limits::default() };
        Self::make(|host| Server::of_tree(|| ShareConfig::open(host), limits), false)
    }

    fn make(server: impl FnOnce(&Path) -> Result<Server, ShareError>, memory: bool) -> Option<Self> {
        let device = match OpenOptions::new().read(true).write(true).open("/dev/fuse") {
            Ok(device) => device,
            Err(error) => return skip(&format!("/dev/fuse: {error}")),
        };
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS) {
            return skip(&format!("a mount namespace: {error}"));
        }
        nix::sys::stat::umask(nix::sys::stat::Mode::empty());
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).expect("private");
        let folder = TempDir::new().expect("folder");
        if memory {
            mount(None::<&str>, folder.path(), Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("tmpfs");
        }
        let (host, guest) = (folder.path().join("host"), folder.path().join("guest"));
        std::fs::create_dir(&host).expect("host");
        std::fs::create_dir(&guest).expect("guest");
        let options =
            format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions", device.as_raw_fd());
        mount(Some("share"), &guest, Some("fuse"), MsFlags::empty(), Some(options.as_str())).expect("mount");
        let server = Arc::new(server(&host).expect("server"));
        let threads = (0..2).map(|_| serve(device.try_clone().expect("clone"), Arc::clone(&server))).collect();
        Some(Self { host, guest, server, threads, _folder: folder })
    }
}

fn skip(reason: &str) -> Option<Mounted> {
    println!("skipped: {reason}");
    None
}

impl Drop for Mounted {
    fn drop(&mut self) {
        umount2(&self.guest, MntFlags::MNT_DETACH).expect("umount");
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "a server thread has panicked");
        }
    }
}

/// Carries requests from the device to the server until the file system is unmounted.
fn serve(mut device: File, server: Arc<Server>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut request = vec![0; LARGEST];
        let mut reply = vec![0; LARGEST];
        loop {
            let len = match device.read(&mut request) {
                Ok(len) => len,
                Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => return,
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::NotFound) => continue,
                Err(error) => panic!("read of /dev/fuse: {error}"),
            };
            let (request, room) = (&mut request[..len], &mut reply[..]);
            let len = server.handle(&[VolatileSlice::from(request)], &[VolatileSlice::from(room)]);
            if len == 0 {
                continue;
            }
            match device.write(&reply[..len]) {
                Ok(_) => {}
                // Of a request that was interrupted meanwhile, and a file system that is gone.
                Err(error) if matches!(error.raw_os_error(), Some(nix::libc::ENOENT | nix::libc::ENODEV)) => {}
                Err(error) => panic!("write of {len} bytes to /dev/fuse: {error}"),
            }
        }
    })
}

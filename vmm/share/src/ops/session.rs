//! Beginning and end of a session, and what concerns whole file systems.

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::StatVfs;

use crate::error::Errno;
use crate::message::Answer;
use crate::os::stat_fd;
use crate::server::{Call, Server};
use crate::share::Share;
use crate::spec::{self, FUSE_ROOT_ID, fuse_init_in, fuse_init_in_ext, fuse_init_out, fuse_kstatfs};
use crate::stat::{OpenMode, Place};

/// Largest write and read, in bytes and in pages of 4096.
const MAX_WRITE: u32 = 1 << 20;
const MAX_PAGES: u16 = 256;

/// What is asked of the guest where it can. Not among them, and why: locks and ACLs, which are the guest's own;
/// writeback, because the host sees writes at once; cached links, because where the host does not tell when a file was
/// made a link may be replaced by one with its number.
const FEATURES: u64 = spec::FUSE_ASYNC_READ
    | spec::FUSE_ATOMIC_O_TRUNC
    | spec::FUSE_BIG_WRITES
    | spec::FUSE_AUTO_INVAL_DATA
    | spec::FUSE_DO_READDIRPLUS
    | spec::FUSE_READDIRPLUS_AUTO
    | spec::FUSE_ASYNC_DIO
    | spec::FUSE_PARALLEL_DIROPS
    | spec::FUSE_MAX_PAGES
    | spec::FUSE_HANDLE_KILLPRIV_V2
    | spec::FUSE_INIT_EXT;

impl Server {
    pub(crate) fn init(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        let fuse_init_in { major, minor, max_readahead, flags } = call.body.read()?;
        let mut out = fuse_init_out {
            major: spec::FUSE_KERNEL_VERSION,
            minor: spec::FUSE_KERNEL_MINOR_VERSION,
            ..fuse_init_out::default()
        };
        if major > spec::FUSE_KERNEL_VERSION {
            // The guest asks again, in our version.
            return Ok(Answer::of(&out));
        }
        if major < spec::FUSE_KERNEL_VERSION || minor < spec::OLDEST_MINOR_VERSION {
            return Err(Errno::PROTO);
        }
        let high = match u64::from(flags) & spec::FUSE_INIT_EXT {
            0 => 0,
            _ => call.body.read::<fuse_init_in_ext>()?.flags2,
        };
        self.reset();
        let agreed = FEATURES & (u64::from(high) << 32 | u64::from(flags));
        (out.flags, out.flags2) = (agreed as u32, (agreed >> 32) as u32);
        out.max_readahead = max_readahead;
        out.max_background = 64;
        out.congestion_threshold = 48;
        out.max_write = MAX_WRITE;
        out.time_gran = 1;
        out.max_pages = MAX_PAGES;
        Ok(Answer::of(&out))
    }

    pub(crate) fn destroy(&self) -> Result<Answer, Errno> {
        self.reset();
        Ok(Answer::OK)
    }

    /// The file system that a file is on: others of the host may be mounted below the root of a share.
    fn file_system(&self, id: u64) -> Result<StatVfs, Errno> {
        let (share, identity) = {
            let state = self.lock();
            let node = state.nodes.get(id)?;
            (Arc::clone(&node.share), node.identity)
        };
        if identity.dev == share.identity.dev {
            return Ok(rustix::fs::fstatvfs(share.root.as_fd())?);
        }
        self.host.file_system(&self.pin(&self.found(id)?)?)
    }

    pub(crate) fn statfs(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        if call.header.nodeid == FUSE_ROOT_ID {
            let empty = fuse_kstatfs { bsize: 4096, frsize: 4096, namelen: 255, ..fuse_kstatfs::default() };
            return Ok(Answer::of(&empty));
        }
        let host = self.file_system(call.header.nodeid)?;
        let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        Ok(Answer::of(&fuse_kstatfs {
            blocks: host.f_blocks,
            bfree: host.f_bfree,
            bavail: host.f_bavail,
            files: host.f_files,
            ffree: host.f_ffree,
            bsize: narrow(host.f_bsize),
            namelen: narrow(host.f_namemax),
            frsize: narrow(host.f_frsize),
            ..fuse_kstatfs::default()
        }))
    }

    /// sync(2) in the guest: the file systems of all shares that it can write are written to their disks.
    pub(crate) fn syncfs(&self) -> Result<Answer, Errno> {
        let shares = self.lock().shares.clone();
        let mut done = Vec::new();
        for share in shares.iter().filter(|share| !share.read_only) {
            let openable = matches!(share.identity.kind, spec::S_IFDIR | spec::S_IFREG);
            if openable && !done.contains(&share.identity.dev) {
                self.sync_share(share)?;
                done.push(share.identity.dev);
            }
        }
        Ok(Answer::OK)
    }

    fn sync_share(&self, share: &Share) -> Result<(), Errno> {
        let place = Place::Fd(Arc::clone(&share.root));
        let pin = self.host.pin(&place, &stat_fd(share.root.as_fd())?.identity)?;
        let fd = self.host.open(&pin, OpenMode::READ)?;
        self.host.sync_file_system(fd.as_fd())
    }
}

//! The server: shares, nodes and handles, and who answers which request.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use vm_memory::VolatileSlice;

use crate::devices::Devices;
use crate::error::{Errno, ShareError};
use crate::handles::{Handle, Handles};
use crate::message::{Answer, Reader, Reply};
use crate::nodes::Nodes;
use crate::ops;
use crate::os::{self, Host, Pin};
use crate::share::{FIRST_ROOT, Share, ShareConfig};
use crate::spec::{self, fuse_in_header};
use crate::stat::{Identity, Owner, Place, Time};

/// How much of the host one guest can occupy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most files that the guest knows at once. Each takes some 300 bytes and its name.
    pub nodes: usize,
    /// Most files and directories that the guest has open at once: one descriptor each. More give ENFILE.
    pub handles: usize,
    /// Most directories that the server keeps open for itself: one descriptor each.
    pub directories: usize,
    /// Most shares.
    pub shares: usize,
    /// How long the guest believes names and attributes. Changes made by the host are seen when it is over.
    pub valid: Duration,
}

impl Default for Limits {
    /// For a process that may have 20,000 descriptors.
    fn default() -> Self {
        Self { nodes: 1 << 20, handles: 16_000, directories: 1_000, shares: 1_000, valid: Duration::from_millis(900) }
    }
}

impl Limits {
    /// For a process that may have `count` descriptors and needs some of them for other things.
    #[must_use]
    pub fn for_descriptors(count: u64) -> Self {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        Self { handles: (count / 4 * 3).min(1 << 20), directories: (count / 16).clamp(16, 4096), ..Self::default() }
    }
}

/// Serves any number of shares to one guest, from as many threads as there are.
#[derive(Debug)]
pub struct Server {
    pub(crate) host: Host,
    pub(crate) valid: Duration,
    pub(crate) started: Time,
    /// Whether the only share is the file system's root, instead of an entry of it.
    pub(crate) is_tree: bool,
    most_shares: usize,
    state: Mutex<State>,
}

/// What one guest occupies now; see [`Limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Files that the guest knows, and the roots of the shares.
    pub nodes: usize,
    /// Files and directories that the guest has open.
    pub handles: usize,
    /// Directories that the server keeps open for itself.
    pub directories: usize,
}

/// What changes while serving. It is locked for moments only, except where directories have to be opened again.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) shares: Vec<Arc<Share>>,
    pub(crate) nodes: Nodes,
    pub(crate) handles: Handles,
    pub(crate) devices: Devices,
}

/// A node that a request names.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) id: u64,
    pub(crate) share: Arc<Share>,
    pub(crate) identity: Identity,
    pub(crate) place: Place,
}

/// A directory that a request names.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) id: u64,
    pub(crate) share: Arc<Share>,
    pub(crate) fd: Arc<OwnedFd>,
}

/// One request.
pub(crate) struct Call<'a> {
    pub(crate) header: fuse_in_header,
    pub(crate) body: Reader<'a>,
    pub(crate) reply: &'a Reply<'a>,
}

impl Call<'_> {
    /// Whom a file made by this request belongs to.
    pub(crate) fn owner(&self) -> Owner {
        Owner { uid: self.header.uid, gid: self.header.gid }
    }
}

impl Server {
    /// A server of these shares, which the guest finds under their numbers in `shares`.
    ///
    /// It belongs to this process: neither threads of another process nor a child of this one can use it.
    ///
    /// # Errors
    /// More shares than the limit, a root that cannot be shared, or a system without what the server needs.
    pub fn new(shares: Vec<ShareConfig>, limits: Limits) -> Result<Self, ShareError> {
        let Limits { nodes, handles, directories, shares: most_shares, valid } = limits;
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let state = State {
            shares: Vec::new(),
            nodes: Nodes::new(nodes, directories),
            handles: Handles::new(handles),
            devices: Devices::default(),
        };
        let server = Self {
            host: Host::new()?,
            valid,
            started: Time { sec: started.as_secs().try_into().unwrap_or(0), nsec: started.subsec_nanos() },
            is_tree: false,
            most_shares,
            state: Mutex::new(state),
        };
        for share in shares {
            server.add(share)?;
        }
        Ok(server)
    }

    /// A server of one directory, which is the file system's root, and whose entries may be of any file system: files
    /// without a size, as those of proc have none, are read past all caches.
    ///
    /// `open` is called when all that the server needs of the process's own files is open.
    ///
    /// # Errors
    /// As for [`Server::new`], and those of `open`.
    pub fn of_tree(open: impl FnOnce() -> Result<ShareConfig, ShareError>, limits: Limits) -> Result<Self, ShareError> {
        let mut server = Self::new(Vec::new(), Limits { shares: 1, ..limits })?;
        server.is_tree = true;
        server.add(open()?)?;
        Ok(server)
    }

    /// Adds a share; gives its number, under which the guest finds it within [`Limits::valid`].
    ///
    /// # Errors
    /// One share too many, or a root that cannot be shared.
    pub fn add(&self, config: ShareConfig) -> Result<u32, ShareError> {
        let mut state = self.lock();
        let limit = self.most_shares;
        if state.shares.len() >= limit {
            return Err(ShareError::TooMany { limit });
        }
        let index = u32::try_from(state.shares.len()).map_err(|_| ShareError::TooMany { limit })?;
        let share = Arc::new(Share::new(index, config)?);
        state.devices.ino(share.identity.dev, 0);
        state.nodes.add_root(&share);
        state.shares.push(share);
        Ok(index)
    }

    /// Closes all that the guest has open and forgets all that it has looked up; the shares stay. For a guest that
    /// starts anew, and a device that is reset.
    pub fn reset(&self) {
        let mut state = self.lock();
        let State { shares, nodes, handles, devices: _ } = &mut *state;
        nodes.reset(shares);
        handles.reset();
    }

    /// What the guest occupies at this moment.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let state = self.lock();
        let (nodes, directories) = state.nodes.count_all();
        Usage { nodes, handles: state.handles.len(), directories }
    }

    /// Carries out one request, writes the reply, and gives its length in bytes; 0 if there is none, because the
    /// guest expects none or because `reply` has no room for it.
    ///
    /// Requests need not begin with FUSE_INIT: a guest that was restored from a snapshot has done that before.
    pub fn handle(&self, request: &[VolatileSlice<'_>], reply: &[VolatileSlice<'_>]) -> usize {
        let Some((mut header, body)) = Reader::open(request) else { return 0 };
        header.nodeid = self.node(header.nodeid);
        let reply = Reply::new(reply);
        let answer = body.and_then(|body| {
            let mut call = Call { header, body, reply: &reply };
            if reply.room() < ops::least_room(header.opcode) {
                return Err(Errno::INVAL);
            }
            self.answer(&mut call)
        });
        match header.opcode {
            spec::FUSE_FORGET | spec::FUSE_BATCH_FORGET => 0,
            _ => reply.finish(header.unique, answer),
        }
    }

    fn answer(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        match call.header.opcode {
            spec::FUSE_INIT => self.init(call),
            spec::FUSE_DESTROY => self.destroy(),
            spec::FUSE_LOOKUP => self.lookup(call),
            spec::FUSE_FORGET => self.forget(call),
            spec::FUSE_BATCH_FORGET => self.batch_forget(call),
            spec::FUSE_GETATTR => self.getattr(call),
            spec::FUSE_STATX => self.statx(call),
            spec::FUSE_SETATTR => self.setattr(call),
            spec::FUSE_READLINK => self.readlink(call),
            spec::FUSE_STATFS => self.statfs(call),
            spec::FUSE_SYNCFS => self.syncfs(),
            spec::FUSE_OPEN => self.open(call),
            spec::FUSE_CREATE => self.create(call),
            spec::FUSE_TMPFILE => self.tmpfile(call),
            spec::FUSE_RELEASE | spec::FUSE_RELEASEDIR => self.release(call),
            spec::FUSE_OPENDIR => self.opendir(call),
            spec::FUSE_READDIR => self.readdir(call, false),
            spec::FUSE_READDIRPLUS => self.readdir(call, true),
            spec::FUSE_MKNOD => self.mknod(call),
            spec::FUSE_MKDIR => self.mkdir(call),
            spec::FUSE_SYMLINK => self.symlink(call),
            spec::FUSE_LINK => self.link(call),
            spec::FUSE_UNLINK => self.unlink(call, false),
            spec::FUSE_RMDIR => self.unlink(call, true),
            spec::FUSE_RENAME => self.rename(call),
            spec::FUSE_RENAME2 => self.rename2(call),
            _ => self.answer_data(call),
        }
    }

    /// Requests on open files and on extended attributes. Locks, access checks, flushes, polls and ioctls are the
    /// guest's own: ENOSYS tells its kernel so, once.
    fn answer_data(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        match call.header.opcode {
            spec::FUSE_READ => self.read(call),
            spec::FUSE_WRITE => self.write(call),
            spec::FUSE_FSYNC | spec::FUSE_FSYNCDIR => self.fsync(call),
            spec::FUSE_FALLOCATE => self.fallocate(call),
            spec::FUSE_LSEEK => self.lseek(call),
            spec::FUSE_COPY_FILE_RANGE => self.copy_file_range(call),
            spec::FUSE_GETXATTR => self.getxattr(call),
            spec::FUSE_LISTXATTR => self.listxattr(call),
            spec::FUSE_SETXATTR => self.setxattr(call),
            spec::FUSE_REMOVEXATTR => self.removexattr(call),
            _ => Err(Errno::NOSYS),
        }
    }

    /// The node that the guest means by `id`.
    pub(crate) fn node(&self, id: u64) -> u64 {
        if self.is_tree && id == spec::FUSE_ROOT_ID { FIRST_ROOT } else { id }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; if something did, every table is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node `id`, which is no longer of use to the caller when its file has gone elsewhere.
    pub(crate) fn found(&self, id: u64) -> Result<Found, Errno> {
        let mut state = self.lock();
        let node = state.nodes.get(id)?;
        let (share, identity) = (Arc::clone(&node.share), node.identity);
        let named = if os::PREFERS_NAMES { state.nodes.named_place(&self.host, id).ok() } else { None };
        let place = match named.filter(|place| self.host.pin(place, &identity).is_ok()) {
            Some(place) => place,
            None => state.nodes.place(&self.host, id)?,
        };
        Ok(Found { id, share, identity, place })
    }

    /// The node `id`, to be changed.
    pub(crate) fn found_writable(&self, id: u64) -> Result<Found, Errno> {
        if id == spec::FUSE_ROOT_ID {
            return Err(Errno::ROFS);
        }
        let found = self.found(id)?;
        if found.share.read_only { Err(Errno::ROFS) } else { Ok(found) }
    }

    /// The directory `id`.
    pub(crate) fn directory(&self, id: u64) -> Result<Directory, Errno> {
        let mut state = self.lock();
        let share = Arc::clone(&state.nodes.get(id)?.share);
        let fd = state.nodes.directory(&self.host, id)?;
        Ok(Directory { id, share, fd })
    }

    /// The directory `id`, whose entries are to be changed.
    pub(crate) fn directory_writable(&self, id: u64) -> Result<Directory, Errno> {
        if id == spec::FUSE_ROOT_ID {
            return Err(Errno::ROFS);
        }
        let directory = self.directory(id)?;
        if directory.share.read_only { Err(Errno::ROFS) } else { Ok(directory) }
    }

    pub(crate) fn pin(&self, found: &Found) -> Result<Pin, Errno> {
        self.host.pin(&found.place, &found.identity)
    }

    /// The open handle that a request names.
    pub(crate) fn handle_of(&self, call: &Call<'_>, fh: u64) -> Result<Arc<Handle>, Errno> {
        self.lock().handles.get(call.header.nodeid, fh)
    }

    /// The open handle that a request names, to write through.
    pub(crate) fn handle_writable(&self, call: &Call<'_>, fh: u64) -> Result<Arc<Handle>, Errno> {
        let handle = self.handle_of(call, fh)?;
        if handle.share.read_only { Err(Errno::ROFS) } else { Ok(handle) }
    }
}

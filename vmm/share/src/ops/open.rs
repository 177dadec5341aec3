//! Opening, creating and closing.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::error::Errno;
use crate::handles::Handle;
use crate::message::Answer;
use crate::os::{Listing, stat_fd};
use crate::server::{Call, Directory, Server, State};
use crate::share::Share;
use crate::spec::{
    self, FUSE_ROOT_ID, Wire, fuse_create_in, fuse_entry_out, fuse_open_in, fuse_open_out, fuse_release_in,
};
use crate::stat::OpenMode;

/// How often a file that comes and goes is tried before the guest is told.
const ATTEMPTS: usize = 8;

impl Server {
    pub(crate) fn open(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        let fuse_open_in { flags, open_flags } = call.body.read()?;
        let mode = OpenMode::from_guest(flags);
        let found =
            if mode.changes() { self.found_writable(call.header.nodeid)? } else { self.found(call.header.nodeid)? };
        match found.identity.kind {
            spec::S_IFREG => {}
            spec::S_IFDIR => return Err(Errno::ISDIR),
            spec::S_IFLNK => return Err(Errno::LOOP),
            _ => return Err(Errno::ACCES),
        }
        self.lock().handles.have_room()?;
        let pin = self.pin(&found)?;
        if mode.truncate && open_flags & spec::FUSE_OPEN_KILL_SUIDGID != 0 {
            self.drop_privileges(call, &pin)?;
        }
        let fd = self.open_quietly(&found.share, mode, |mode| self.host.open(&pin, mode))?;
        let unsized_data = self.is_tree && !mode.write && stat_fd(fd.as_fd())?.size == 0;
        let open_flags = if unsized_data { spec::FOPEN_DIRECT_IO } else { 0 };
        let fh = self.keep(found.id, &found.share, fd, false)?;
        Ok(Answer::of(&fuse_open_out { fh, open_flags, backing_id: 0 }))
    }

    pub(crate) fn opendir(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        let _flags: fuse_open_in = call.body.read()?;
        if call.header.nodeid == FUSE_ROOT_ID {
            return Ok(Answer::of(&fuse_open_out::default()));
        }
        let found = self.found(call.header.nodeid)?;
        if found.identity.kind != spec::S_IFDIR {
            return Err(Errno::NOTDIR);
        }
        self.lock().handles.have_room()?;
        let pin = self.pin(&found)?;
        let fd = self.open_quietly(&found.share, OpenMode::READ, |mode| self.host.open(&pin, mode))?;
        let fh = self.keep(found.id, &found.share, fd, true)?;
        Ok(Answer::of(&fuse_open_out { fh, open_flags: 0, backing_id: 0 }))
    }

    /// Opens without touching the time of access if the share is read-only and the system lets us.
    pub(crate) fn open_quietly(
        &self,
        share: &Share,
        mode: OpenMode,
        open: impl Fn(OpenMode) -> Result<OwnedFd, Errno>,
    ) -> Result<OwnedFd, Errno> {
        let quiet = share.open_mode(mode);
        match open(quiet) {
            Err(Errno::PERM) if quiet.no_atime && !mode.no_atime => open(mode),
            opened => opened,
        }
    }

    /// Makes a handle.
    fn keep(&self, node: u64, share: &Arc<Share>, fd: OwnedFd, directory: bool) -> Result<u64, Errno> {
        self.lock().keep(node, share, fd, directory)
    }

    pub(crate) fn release(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        let fuse_release_in { fh, .. } = call.body.read()?;
        if call.header.nodeid == FUSE_ROOT_ID {
            return Ok(Answer::OK);
        }
        let mut state = self.lock();
        let State { nodes, handles, .. } = &mut *state;
        let handle = handles.remove(call.header.nodeid, fh)?;
        nodes.closed(handle.node, &handle.fd, || handles.any_of(handle.node));
        drop(state);
        // The file is closed here, without the lock: that may take long.
        drop(handle);
        Ok(Answer::OK)
    }

    pub(crate) fn create(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        let asked: fuse_create_in = call.body.read()?;
        let name = call.body.name()?;
        let directory = self.directory_writable(call.header.nodeid)?;
        self.lock().handles.have_room()?;
        let mode = OpenMode::from_guest(asked.flags & !spec::O_TRUNC);
        for _ in 0..ATTEMPTS {
            let permission = asked.mode & spec::PERMISSIONS;
            match self.host.create(directory.fd.as_fd(), &name, (permission, call.owner()), mode) {
                Err(Errno::EXIST) if asked.flags & spec::O_EXCL == 0 => {}
                created => return self.give_created(&directory, &name, created?),
            }
            match self.open_existing(call, &directory, &name, &asked) {
                Err(Errno::NOENT) => {}
                opened => return self.give_created(&directory, &name, opened?),
            }
        }
        Err(Errno::STALE)
    }

    /// Opens what somebody else has created since the guest looked.
    fn open_existing(
        &self,
        call: &Call<'_>,
        directory: &Directory,
        name: &CStr,
        asked: &fuse_create_in,
    ) -> Result<OwnedFd, Errno> {
        let pin = self.host.pin_name(directory.fd.as_fd(), name)?;
        if self.host.stat_pinned(&pin)?.identity.kind != spec::S_IFREG {
            return Err(Errno::EXIST);
        }
        let mode = OpenMode::from_guest(asked.flags);
        if mode.truncate && asked.open_flags & spec::FUSE_OPEN_KILL_SUIDGID != 0 {
            self.drop_privileges(call, &pin)?;
        }
        self.host.open(&pin, mode)
    }

    /// Gives the guest node and handle of a file that was opened in `directory`.
    fn give_created(&self, directory: &Directory, name: &CStr, fd: OwnedFd) -> Result<Answer, Errno> {
        let stat = stat_fd(fd.as_fd())?;
        let entry = self.enter_itself(directory, name, &stat)?;
        self.give_opened(entry, &directory.share, fd)
    }

    pub(crate) fn tmpfile(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        let asked: fuse_create_in = call.body.read()?;
        let directory = self.directory_writable(call.header.nodeid)?;
        self.lock().handles.have_room()?;
        let mode = OpenMode::from_guest(asked.flags & !spec::O_TRUNC);
        let permission = asked.mode & spec::PERMISSIONS;
        let fd = self.host.create_unnamed(directory.fd.as_fd(), (permission, call.owner()), mode)?;
        let stat = stat_fd(fd.as_fd())?;
        let id = self.lock().nodes.enter_unnamed(&directory.share, stat.identity)?;
        let entry = self.entry(id, &stat)?;
        self.give_opened(entry, &directory.share, fd)
    }

    fn give_opened(&self, entry: fuse_entry_out, share: &Arc<Share>, fd: OwnedFd) -> Result<Answer, Errno> {
        let mut state = self.lock();
        match state.keep(entry.nodeid, share, fd, false) {
            Ok(fh) => {
                let mut bytes = Vec::new();
                entry.put(&mut bytes);
                fuse_open_out { fh, open_flags: 0, backing_id: 0 }.put(&mut bytes);
                Ok(Answer::Bytes(bytes))
            }
            Err(error) => {
                state.nodes.forget(entry.nodeid, 1);
                Err(error)
            }
        }
    }

    /// A descriptor to read extended attributes and directories through.
    pub(crate) fn open_node(&self, id: u64) -> Result<OwnedFd, Errno> {
        let found = self.found(id)?;
        let pin = self.pin(&found)?;
        self.open_quietly(&found.share, OpenMode::READ, |mode| self.host.open(&pin, mode))
    }
}

impl State {
    fn keep(&mut self, node: u64, share: &Arc<Share>, fd: OwnedFd, directory: bool) -> Result<u64, Errno> {
        let fd = Arc::new(fd);
        let listing = directory.then(|| Listing::new(Arc::clone(&fd)));
        let fh = self.handles.insert(Handle { node, share: Arc::clone(share), fd: Arc::clone(&fd), listing })?;
        self.nodes.opened(node, &fd);
        Ok(fh)
    }
}

//! Reading directories.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::sync::Arc;

use crate::error::Errno;
use crate::handles::Handle;
use crate::message::Answer;
use crate::ops::attributes::ROOT_INO;
use crate::os::{stat_at, stat_fd};
use crate::server::{Call, Directory, Server};
use crate::share::SymlinkPolicy;
use crate::spec::{self, FUSE_ROOT_ID, Wire, aligned, fuse_dirent, fuse_entry_out, fuse_read_in};
use crate::stat::Entry;

/// Most bytes of entries in one reply.
const LARGEST: usize = 128 * 1024;

/// The records of one reply.
struct Records {
    bytes: Vec<u8>,
    limit: usize,
    plus: bool,
}

impl Records {
    /// Whether an entry with a name of `len` bytes fits.
    fn fits(&self, len: usize) -> bool {
        let entry = if self.plus { fuse_entry_out::SIZE } else { 0 };
        let record = aligned(fuse_dirent::SIZE.saturating_add(len)).saturating_add(entry);
        self.bytes.len().saturating_add(record) <= self.limit
    }

    fn push(&mut self, of: &Entry<'_>, ino: u64, entry: fuse_entry_out) {
        let name = of.name.to_bytes();
        if self.plus {
            entry.put(&mut self.bytes);
        }
        let namelen = u32::try_from(name.len()).unwrap_or(0);
        fuse_dirent { ino, off: of.next, namelen, kind: of.kind >> 12 }.put(&mut self.bytes);
        self.bytes.extend_from_slice(name);
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }
}

impl Server {
    pub(crate) fn readdir(&self, call: &mut Call<'_>, plus: bool) -> Result<Answer, Errno> {
        let fuse_read_in { fh, offset, size, .. } = call.body.read()?;
        let limit = usize::try_from(size).unwrap_or(usize::MAX).min(call.reply.room()).min(LARGEST);
        let mut records = Records { bytes: Vec::new(), limit, plus };
        if call.header.nodeid == FUSE_ROOT_ID {
            self.list_shares(offset, &mut records);
        } else {
            let handle = self.handle_of(call, fh)?;
            self.list(&handle, offset, &mut records)?;
        }
        Ok(Answer::Bytes(records.bytes))
    }

    /// The entries of the root: itself twice, and the shares.
    fn list_shares(&self, offset: u64, records: &mut Records) {
        let shares = self.lock().shares.clone();
        let fixed = [(CString::from(c"."), spec::S_IFDIR), (CString::from(c".."), spec::S_IFDIR)];
        let named =
            shares.iter().map(|share| (CString::new(share.index.to_string()).unwrap_or_default(), share.identity.kind));
        let all = fixed.into_iter().chain(named).zip(1u64..);
        for ((name, kind), next) in all.skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
            if !records.fits(name.as_bytes().len()) {
                return;
            }
            let share = usize::try_from(next).ok().and_then(|next| next.checked_sub(3)).and_then(|at| shares.get(at));
            let ino = share.map_or(ROOT_INO, |share| self.ino(share.identity));
            records.push(&Entry { name: &name, ino, kind, next }, ino, fuse_entry_out::default());
        }
    }

    fn list(&self, handle: &Handle, offset: u64, records: &mut Records) -> Result<(), Errno> {
        let listing = handle.listing.as_ref().ok_or(Errno::NOTDIR)?;
        let here = stat_fd(handle.fd())?;
        let directory = Directory { id: handle.node, share: Arc::clone(&handle.share), fd: Arc::clone(&handle.fd) };
        let follow = handle.share.symlinks == SymlinkPolicy::Follow;
        listing.read(offset, records.limit, &mut |mut entry| {
            if !records.fits(entry.name.to_bytes().len()) {
                return false;
            }
            let ino = match entry.name.to_bytes() {
                b"." => self.ino(here.identity),
                b".." => self.ino_above(&directory),
                _ => self.lock().devices.ino(here.identity.dev, entry.ino),
            };
            if follow && entry.kind == spec::S_IFLNK {
                // The guest may find something else there.
                entry.kind = 0;
            }
            let given = if records.plus { self.entry_of(&directory, &entry) } else { fuse_entry_out::default() };
            records.push(&entry, ino, given);
            true
        })
    }

    /// The parent's number as the guest knows it: what is above a share is not its business.
    fn ino_above(&self, directory: &Directory) -> u64 {
        let state = self.lock();
        let above = state.nodes.get(directory.id).ok().and_then(|node| node.seen_at());
        let parent = above.map_or(self.node(FUSE_ROOT_ID), |(parent, _)| parent);
        let identity = state.nodes.get(parent).map(|node| node.identity);
        drop(state);
        identity.map_or(ROOT_INO, |identity| self.ino(identity))
    }

    /// The node of an entry; an empty one makes the guest look it up when it needs it.
    fn entry_of(&self, directory: &Directory, entry: &Entry<'_>) -> fuse_entry_out {
        if matches!(entry.name.to_bytes(), b"." | b"..") {
            return fuse_entry_out::default();
        }
        stat_at(directory.fd.as_fd(), entry.name)
            .and_then(|stat| self.enter(directory, entry.name, &stat))
            .unwrap_or_default()
    }
}

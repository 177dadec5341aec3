//! Finding nodes by name, and forgetting them.

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::os::fd::AsFd;
use std::sync::Arc;

use crate::error::Errno;
use crate::message::Answer;
use crate::os::{stat_at, stat_fd};
use crate::server::{Call, Directory, Server};
use crate::share::{Share, SymlinkPolicy};
use crate::spec::{self, FUSE_ROOT_ID, fuse_batch_forget_in, fuse_entry_out, fuse_forget_in, fuse_forget_one};
use crate::stat::{Place, Stat};

/// Most links on the way to one file, as in Linux.
const MOST_LINKS: usize = 40;
/// Most components of a path that are still to be walked.
const MOST_COMPONENTS: usize = 4096;

impl Server {
    pub(crate) fn lookup(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        let name = call.body.name()?;
        let entry = if call.header.nodeid == FUSE_ROOT_ID {
            self.enter_share(&name)?
        } else {
            let directory = self.directory(call.header.nodeid)?;
            let stat = stat_at(directory.fd.as_fd(), &name)?;
            self.enter(&directory, &name, &stat)?
        };
        Ok(Answer::of(&entry))
    }

    /// The root's entry for share `name`.
    fn enter_share(&self, name: &CStr) -> Result<fuse_entry_out, Errno> {
        let text = name.to_str().map_err(|_| Errno::NOENT)?;
        let index: usize = text.parse().map_err(|_| Errno::NOENT)?;
        if index.to_string() != text {
            return Err(Errno::NOENT);
        }
        let share = self.lock().shares.get(index).cloned().ok_or(Errno::NOENT)?;
        self.entry(share.node(), &stat_fd(share.root.as_fd())?)
    }

    /// Gives the guest the node of what was found under `name`, or of what that leads to.
    pub(crate) fn enter(&self, directory: &Directory, name: &CStr, stat: &Stat) -> Result<fuse_entry_out, Errno> {
        if stat.identity.kind == spec::S_IFLNK && directory.share.symlinks == SymlinkPolicy::Follow {
            match self.follow(directory, name) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCES | Errno::STALE) => {}
                followed => return followed,
            }
        }
        self.enter_itself(directory, name, stat)
    }

    /// Gives the guest the node of what was found under `name`, even if it is a link.
    pub(crate) fn enter_itself(
        &self,
        directory: &Directory,
        name: &CStr,
        stat: &Stat,
    ) -> Result<fuse_entry_out, Errno> {
        let id = self.lock().nodes.enter(&directory.share, stat.identity, (directory.id, name), 1)?;
        self.entry(id, stat)
    }

    /// Walks the path of the link `name` inside the share, whose root is `/` and the end of all `..`.
    fn follow(&self, directory: &Directory, name: &CStr) -> Result<fuse_entry_out, Errno> {
        let mut walk = Walk::new(self, directory, name);
        let found = walk.finish().and_then(|(stat, at)| {
            let at = at.as_ref().map(|(parent, name)| (*parent, name.as_c_str()));
            let share = &directory.share;
            let id = self.lock().nodes.enter_target(share, stat.identity, (directory.id, name), at)?;
            self.entry(id, &stat)
        });
        // The nodes on the way stay only if they are needed for what was found.
        let mut state = self.lock();
        walk.met.iter().rev().for_each(|id| state.nodes.sweep(*id));
        found
    }

    pub(crate) fn forget(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        let fuse_forget_in { nlookup } = call.body.read()?;
        self.lock().nodes.forget(call.header.nodeid, nlookup);
        Ok(Answer::None)
    }

    pub(crate) fn batch_forget(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        let fuse_batch_forget_in { count, dummy: _ } = call.body.read()?;
        for _ in 0..count {
            let fuse_forget_one { nodeid, nlookup } = call.body.read()?;
            self.lock().nodes.forget(nodeid, nlookup);
        }
        Ok(Answer::None)
    }
}

/// The attributes of a file, and the directory and name where it is.
type Target = (Stat, Option<(u64, CString)>);

/// A path being walked: the directories from the share's root down, and the components to come.
struct Walk<'a> {
    server: &'a Server,
    share: Arc<Share>,
    stack: Vec<u64>,
    ahead: VecDeque<CString>,
    links: usize,
    /// Nodes that were entered without being given to the guest.
    met: Vec<u64>,
}

impl<'a> Walk<'a> {
    fn new(server: &'a Server, directory: &Directory, name: &CStr) -> Self {
        let mut stack = vec![directory.id];
        let state = server.lock();
        let root = directory.share.node();
        while let Some(id) = stack.last().copied().filter(|id| *id != root) {
            match state.nodes.get(id) {
                Ok(node) if node.seen_at().is_some() => stack.extend(node.seen_at().map(|(parent, _)| parent)),
                _ => break,
            }
        }
        drop(state);
        stack.reverse();
        let share = Arc::clone(&directory.share);
        Self { server, share, stack, ahead: VecDeque::from([name.to_owned()]), links: 0, met: Vec::new() }
    }

    /// What the path leads to, and where that is unless it is the share's root.
    fn finish(&mut self) -> Result<Target, Errno> {
        while let Some(name) = self.ahead.pop_front() {
            if name.as_bytes() == b".." {
                if self.stack.len() > 1 {
                    self.stack.pop();
                }
                continue;
            }
            if let Some(target) = self.step(name)? {
                return Ok(target);
            }
        }
        // The path ended in a directory that was walked through before.
        let top = self.top()?;
        let directory = self.server.directory(top)?;
        let state = self.server.lock();
        let at = state.nodes.get(top)?.seen_at().map(|(parent, name)| (parent, name.to_owned()));
        Ok((stat_fd(directory.fd.as_fd())?, at))
    }

    fn top(&self) -> Result<u64, Errno> {
        self.stack.last().copied().ok_or(Errno::STALE)
    }

    /// Takes one component; gives what it names if it is the last one and no link.
    fn step(&mut self, name: CString) -> Result<Option<Target>, Errno> {
        let directory = self.server.directory(self.top()?)?;
        let stat = stat_at(directory.fd.as_fd(), &name)?;
        if stat.identity.kind == spec::S_IFLNK {
            self.expand(&directory, &name, &stat)?;
            return Ok(None);
        }
        if self.ahead.is_empty() {
            return Ok(Some((stat, Some((directory.id, name)))));
        }
        let id = self.server.lock().nodes.enter(&self.share, stat.identity, (directory.id, &name), 0)?;
        self.met.push(id);
        self.stack.push(id);
        Ok(None)
    }

    /// Puts the components of a link's target ahead of the others.
    fn expand(&mut self, directory: &Directory, name: &CStr, stat: &Stat) -> Result<(), Errno> {
        self.links = self.links.saturating_add(1);
        let place = Place::At { dir: Arc::clone(&directory.fd), name: name.to_owned() };
        let target = self.server.host.read_link(&self.server.host.pin(&place, &stat.identity)?)?;
        if target.first() == Some(&b'/') {
            self.stack.truncate(1);
        }
        let components = target.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
        for component in components.rev() {
            self.ahead.push_front(CString::new(component).map_err(|_| Errno::NOENT)?);
        }
        if self.links > MOST_LINKS || self.ahead.len() > MOST_COMPONENTS { Err(Errno::LOOP) } else { Ok(()) }
    }
}

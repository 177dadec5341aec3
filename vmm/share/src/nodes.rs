//! The nodes that the guest knows: found again by name from their parents, so that they cost no descriptor each.
//!
//! A node is a file's identity and the place where it was seen last. Only directories through which others are reached
//! are kept open, the most recently used ones. When a file is opened again by its name it must be the same one.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, CString};
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::error::{Errno, stale};
use crate::os::{self, Host};
use crate::share::{FIRST_NODE, Share, SymlinkPolicy};
use crate::spec::{self, FUSE_ROOT_ID};
use crate::stat::{Identity, Place};

/// One file that the guest has looked up.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) share: Arc<Share>,
    pub(crate) identity: Identity,
    /// Tells places of one directory apart; see [`Nodes::key`].
    alias: u64,
    /// The directory that it was seen in last; [`FUSE_ROOT_ID`] for a share's root.
    parent: u64,
    /// Its name there; empty if it has none.
    name: CString,
    /// How often the guest was given it and has not forgotten it.
    lookups: u64,
    /// Nodes whose parent it is.
    children: u64,
    /// A descriptor of one of its open handles, and their number.
    open: Option<Arc<OwnedFd>>,
    opens: u32,
    /// Of a directory: what its entries are reached through, and when that was used last.
    dir: Option<Arc<OwnedFd>>,
    used: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    share: u32,
    identity: Identity,
    alias: u64,
}

/// All nodes.
#[derive(Debug)]
pub(crate) struct Nodes {
    nodes: HashMap<u64, Node>,
    keys: HashMap<Key, u64>,
    next: u64,
    hasher: RandomState,
    /// Directories that are kept open, by when they were used last.
    kept: BTreeMap<u64, u64>,
    clock: u64,
    most_nodes: usize,
    most_kept: usize,
}

/// Where numbers begin. A guest that was restored with another server's numbers must not find its own files under them
/// but be told that they are stale.
pub(crate) fn random_start(hasher: &RandomState, what: &str) -> u64 {
    const BITS: u64 = (1 << 60) - (1 << 24);
    hasher.hash_one(what) & BITS
}

impl Nodes {
    pub(crate) fn new(most_nodes: usize, most_kept: usize) -> Self {
        let hasher = RandomState::new();
        Self {
            nodes: HashMap::new(),
            keys: HashMap::new(),
            next: FIRST_NODE | random_start(&hasher, "nodes"),
            hasher,
            kept: BTreeMap::new(),
            clock: 0,
            most_nodes,
            most_kept: most_kept.max(1),
        }
    }

    /// Forgets everything but the roots of `shares`. Numbers of nodes are not given twice.
    pub(crate) fn reset(&mut self, shares: &[Arc<Share>]) {
        let Self { nodes, keys, next: _, hasher: _, kept, clock: _, most_nodes: _, most_kept: _ } = self;
        nodes.clear();
        keys.clear();
        kept.clear();
        shares.iter().for_each(|share| self.add_root(share));
    }

    /// Adds the root of a share.
    pub(crate) fn add_root(&mut self, share: &Arc<Share>) {
        let key = Key { share: share.index, identity: share.identity, alias: 0 };
        self.keys.insert(key, share.node());
        let root = Node { parent: FUSE_ROOT_ID, ..Node::new(share, share.identity, 0) };
        self.nodes.insert(share.node(), root);
    }

    pub(crate) fn get(&self, id: u64) -> Result<&Node, Errno> {
        self.nodes.get(&id).ok_or(Errno::STALE)
    }

    fn get_mut(&mut self, id: u64) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&id).ok_or(Errno::STALE)
    }

    /// A file is one node however many names it has. Where the server follows links a directory can be reached by
    /// several ways, which have to be different directories for the guest: its kernel allows one place for each.
    fn key(&self, share: &Share, identity: Identity, parent: u64, name: &CStr) -> Key {
        let many = share.symlinks == SymlinkPolicy::Follow && identity.kind == spec::S_IFDIR;
        let alias = if many { self.hasher.hash_one((parent, name)) } else { 0 };
        Key { share: share.index, identity, alias }
    }

    /// The node of the file that was seen under this name, given to the guest `lookups` more times.
    pub(crate) fn enter(
        &mut self,
        share: &Arc<Share>,
        identity: Identity,
        (parent, name): (u64, &CStr),
        lookups: u64,
    ) -> Result<u64, Errno> {
        let id = self.known_or_new(share, self.key(share, identity, parent, name))?;
        self.place_at(id, parent, name);
        self.count(id, lookups)
    }

    /// The node of the file that the link `link` leads to, which is at `at` unless it is the share's root; given to
    /// the guest once more.
    pub(crate) fn enter_target(
        &mut self,
        share: &Arc<Share>,
        identity: Identity,
        link: (u64, &CStr),
        at: Option<(u64, &CStr)>,
    ) -> Result<u64, Errno> {
        let id = self.known_or_new(share, self.key(share, identity, link.0, link.1))?;
        if let Some((parent, name)) = at {
            self.place_at(id, parent, name);
        }
        self.count(id, 1)
    }

    fn known_or_new(&mut self, share: &Arc<Share>, key: Key) -> Result<u64, Errno> {
        match self.keys.get(&key) {
            Some(id) => Ok(*id),
            None => self.insert(share, key),
        }
    }

    fn count(&mut self, id: u64, lookups: u64) -> Result<u64, Errno> {
        let node = self.get_mut(id)?;
        node.lookups = node.lookups.saturating_add(lookups);
        Ok(id)
    }

    /// A node for a file without a name.
    pub(crate) fn enter_unnamed(&mut self, share: &Arc<Share>, identity: Identity) -> Result<u64, Errno> {
        let id = self.insert(share, Key { share: share.index, identity, alias: 0 })?;
        self.get_mut(id)?.lookups = 1;
        Ok(id)
    }

    fn insert(&mut self, share: &Arc<Share>, key: Key) -> Result<u64, Errno> {
        if self.nodes.len() >= self.most_nodes {
            return Err(Errno::NFILE);
        }
        let id = self.next;
        self.next = self.next.checked_add(1).ok_or(Errno::NFILE)?;
        self.nodes.insert(id, Node::new(share, key.identity, key.alias));
        self.keys.insert(key, id);
        Ok(id)
    }

    /// Notes where the node is now.
    fn place_at(&mut self, id: u64, parent: u64, name: &CStr) {
        let Some(node) = self.nodes.get(&id) else { return };
        let same = node.parent == parent && *node.name == *name;
        if same || node.parent == FUSE_ROOT_ID || (node.is_directory() && self.is_within(parent, id)) {
            return;
        }
        let old = node.parent;
        if let Some(parent) = self.nodes.get_mut(&parent) {
            parent.children = parent.children.saturating_add(1);
        }
        if let Some(node) = self.nodes.get_mut(&id) {
            node.parent = parent;
            node.name = name.to_owned();
        }
        self.leave(old);
    }

    /// Whether `id` is `ancestor` or below it. Where a host's mounts make a directory its own descendant, the first
    /// place stays.
    fn is_within(&self, id: u64, ancestor: u64) -> bool {
        let mut at = id;
        while at != ancestor {
            match self.nodes.get(&at) {
                Some(node) => at = node.parent,
                None => return false,
            }
        }
        true
    }

    /// The guest has renamed something: what is known under the old name is known under the new one.
    pub(crate) fn renamed(&mut self, share: &Share, identity: Identity, from: (u64, &CStr), to: (u64, &CStr)) {
        let (old, new) = (self.key(share, identity, from.0, from.1), self.key(share, identity, to.0, to.1));
        let Some(id) = self.keys.get(&old).copied() else { return };
        if old != new && self.keys.remove(&old).is_some() {
            self.keys.insert(new, id);
        }
        if let Some(node) = self.nodes.get_mut(&id) {
            node.alias = new.alias;
        }
        self.place_at(id, to.0, to.1);
    }

    /// The guest has forgotten `count` lookups of the node.
    pub(crate) fn forget(&mut self, id: u64, count: u64) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.lookups = node.lookups.saturating_sub(count);
            self.sweep(id);
        }
    }

    /// Removes the node if nobody needs it, and then those that it alone needed.
    pub(crate) fn sweep(&mut self, id: u64) {
        let mut id = id;
        while let Some(node) = self.nodes.get(&id) {
            if node.lookups > 0 || node.children > 0 || node.parent == FUSE_ROOT_ID {
                return;
            }
            let key = Key { share: node.share.index, identity: node.identity, alias: node.alias };
            let (used, parent) = (node.used, node.parent);
            if self.keys.get(&key) == Some(&id) {
                self.keys.remove(&key);
            }
            self.kept.remove(&used);
            self.nodes.remove(&id);
            let Some(above) = self.nodes.get_mut(&parent) else { return };
            above.children = above.children.saturating_sub(1);
            id = parent;
        }
    }

    fn leave(&mut self, parent: u64) {
        if let Some(node) = self.nodes.get_mut(&parent) {
            node.children = node.children.saturating_sub(1);
            self.sweep(parent);
        }
    }

    /// A handle of the node was opened.
    pub(crate) fn opened(&mut self, id: u64, fd: &Arc<OwnedFd>) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.opens = node.opens.saturating_add(1);
            node.open = Some(Arc::clone(fd));
        }
    }

    /// A handle of the node was closed; `other` finds one that is still open.
    pub(crate) fn closed(&mut self, id: u64, fd: &Arc<OwnedFd>, other: impl FnOnce() -> Option<Arc<OwnedFd>>) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.opens = node.opens.saturating_sub(1);
        if node.opens == 0 {
            node.open = None;
        } else if node.open.as_ref().is_some_and(|open| Arc::ptr_eq(open, fd)) {
            node.open = other();
        }
    }

    /// Where the node's file can be reached.
    pub(crate) fn place(&mut self, host: &Host, id: u64) -> Result<Place, Errno> {
        match self.get(id)?.descriptor() {
            Some(fd) => Ok(Place::Fd(fd)),
            None => self.named_place(host, id),
        }
    }

    /// The name under which the node's file can be reached.
    pub(crate) fn named_place(&mut self, host: &Host, id: u64) -> Result<Place, Errno> {
        let node = self.get(id)?;
        let (parent, name) = (node.parent, node.name.clone());
        if name.is_empty() {
            return Err(Errno::STALE);
        }
        Ok(Place::At { dir: self.directory(host, parent).map_err(stale)?, name })
    }

    /// A descriptor of directory `id` through which its entries can be reached.
    ///
    /// # Errors
    /// ESTALE: it, or a directory above it, is no longer where it was seen.
    pub(crate) fn directory(&mut self, host: &Host, id: u64) -> Result<Arc<OwnedFd>, Errno> {
        if !self.get(id)?.is_directory() {
            return Err(Errno::NOTDIR);
        }
        let (mut fd, mut below) = self.climb(id)?;
        while let Some(next) = below.pop() {
            fd = self.descend(host, &fd, next)?;
        }
        self.touch(id);
        Ok(fd)
    }

    /// The nearest open directory at or above `id`, and those below it down to `id`, the last one first.
    fn climb(&self, id: u64) -> Result<(Arc<OwnedFd>, Vec<u64>), Errno> {
        let (mut id, mut below) = (id, Vec::new());
        loop {
            let node = self.get(id)?;
            if let Some(fd) = node.descriptor() {
                return Ok((fd, below));
            }
            if node.name.is_empty() {
                return Err(Errno::STALE);
            }
            below.push(id);
            id = node.parent;
        }
    }

    fn descend(&mut self, host: &Host, from: &OwnedFd, id: u64) -> Result<Arc<OwnedFd>, Errno> {
        let node = self.get(id)?;
        let fd = host.directory(from.as_fd(), &node.name).map_err(stale)?;
        if os::stat_fd(fd.as_fd())?.identity != node.identity {
            return Err(Errno::STALE);
        }
        let fd = Arc::new(fd);
        self.get_mut(id)?.dir = Some(Arc::clone(&fd));
        self.touch(id);
        self.close_oldest();
        Ok(fd)
    }

    /// The directory was used just now.
    fn touch(&mut self, id: u64) {
        self.clock = self.clock.saturating_add(1);
        let now = self.clock;
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.dir.is_some()) else { return };
        self.kept.remove(&std::mem::replace(&mut node.used, now));
        self.kept.insert(now, id);
    }

    fn close_oldest(&mut self) {
        while self.kept.len() > self.most_kept {
            let Some((_, id)) = self.kept.pop_first() else { return };
            if let Some(node) = self.nodes.get_mut(&id) {
                node.dir = None;
            }
        }
    }

    /// Numbers of nodes and of directories that are kept open.
    pub(crate) fn count_all(&self) -> (usize, usize) {
        (self.nodes.len(), self.kept.len())
    }
}

impl Node {
    fn new(share: &Arc<Share>, identity: Identity, alias: u64) -> Self {
        Self {
            share: Arc::clone(share),
            identity,
            alias,
            parent: 0,
            name: CString::default(),
            lookups: 0,
            children: 0,
            open: None,
            opens: 0,
            dir: None,
            used: 0,
        }
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.identity.kind == spec::S_IFDIR
    }

    /// The directory that it was seen in last, and its name there; none if it is the root of a share.
    pub(crate) fn seen_at(&self) -> Option<(u64, &CStr)> {
        (!self.name.is_empty()).then_some((self.parent, self.name.as_c_str()))
    }

    fn descriptor(&self) -> Option<Arc<OwnedFd>> {
        let root = (self.identity == self.share.identity).then_some(&self.share.root);
        root.or(self.dir.as_ref()).or(self.open.as_ref()).map(Arc::clone)
    }
}

//! The tree as it will be in the image: what is kept in memory of each entry.

use std::collections::BTreeMap;

use super::data::Content;
use super::xattrs::XattrId;

/// Names of a directory, in the order of their bytes, and what they name.
pub(crate) type Names = BTreeMap<Box<[u8]>, NodeId>;

/// The number of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct NodeId(pub(super) u32);

impl NodeId {
    pub(crate) const ROOT: Self = Self(0);

    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// What every kind of node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// The twelve bits of permissions.
    pub(crate) mode: u16,
    /// They are nobody's word: of a directory that is there for what is in it.
    pub(crate) unlisted: bool,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since 1970.
    pub(crate) mtime: u32,
    pub(crate) xattrs: Option<XattrId>,
}

impl Attributes {
    /// Those of a directory that nothing describes.
    pub(crate) const DIRECTORY: Self = Self { mode: 0o755, unlisted: false, uid: 0, gid: 0, mtime: 0, xattrs: None };
    /// Those of one that may be described by what lies below.
    pub(crate) const UNLISTED: Self = Self { unlisted: true, ..Self::DIRECTORY };
    /// Those of overlayfs's own whiteouts.
    pub(crate) const WHITEOUT: Self = Self { mode: 0, ..Self::DIRECTORY };
}

/// What a node is.
#[derive(Debug)]
pub(crate) enum Kind {
    Directory(Names),
    File { size: u64, content: Content },
    Symlink(Box<[u8]>),
    Character(Device),
    Block(Device),
    Fifo,
    Socket,
}

/// The number of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

impl Device {
    /// What overlayfs takes for a name that is gone.
    pub(crate) const WHITEOUT: Self = Self { major: 0, minor: 0 };
}

/// A node: what several names may name.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) attributes: Attributes,
    pub(crate) kind: Kind,
}

impl Node {
    pub(crate) fn is_whiteout(&self) -> bool {
        matches!(self.kind, Kind::Character(Device::WHITEOUT))
    }
}

/// All nodes. The first is the root, a directory always.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node { attributes: Attributes::DIRECTORY, kind: Kind::Directory(Names::new()) }] }
    }

    /// Adds a node that nothing names yet; none if there are too many.
    pub(crate) fn add(&mut self, attributes: Attributes, kind: Kind) -> Option<NodeId> {
        let id = u32::try_from(self.nodes.len()).ok().filter(|id| *id < u32::MAX - 1)?;
        self.nodes.push(Node { attributes, kind });
        Some(NodeId(id))
    }

    /// A node. Numbers are made here and nodes never removed: there always is one.
    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.index()]
    }

    /// The names in a directory; none if it is no directory.
    pub(crate) fn names(&self, id: NodeId) -> Option<&Names> {
        match &self.node(id).kind {
            Kind::Directory(names) => Some(names),
            _ => None,
        }
    }

    /// Lets a name of a directory name a node; gives what it named before.
    pub(crate) fn link(&mut self, directory: NodeId, name: &[u8], node: NodeId) -> Option<NodeId> {
        match &mut self.node_mut(directory).kind {
            Kind::Directory(names) => names.insert(name.into(), node),
            _ => None,
        }
    }

    /// All numbers.
    pub(super) fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        // No more than numbers: `add`.
        (0..self.nodes.len() as u32).map(NodeId)
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }
}

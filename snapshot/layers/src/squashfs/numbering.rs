//! Numbers of inodes, and how many names each has.

use super::metadata::Position;
use super::tree::{Kind, NodeId, Tree};

/// What each node that can be reached from the root gets.
pub(super) struct Numbering {
    nodes: Vec<Numbers>,
    /// All directories, each before those below it.
    directories: Vec<NodeId>,
    count: u32,
    names: u64,
}

#[derive(Clone, Copy)]
struct Numbers {
    /// From 1; 0 is none yet.
    number: u32,
    links: u32,
    /// Of a directory.
    parent: u32,
}

impl Numbering {
    /// Numbers the nodes. Those in one directory follow each other, as runs of directory entries like it.
    pub(super) fn new(tree: &Tree) -> Self {
        let none = Numbers { number: 0, links: 0, parent: 0 };
        let mut this = Self { nodes: vec![none; tree.len()], directories: Vec::new(), count: 0, names: 0 };
        this.name(NodeId::ROOT, 1, true);
        let mut waiting = vec![NodeId::ROOT];
        while let Some(directory) = waiting.pop() {
            this.directories.push(directory);
            let first = waiting.len();
            let number = this.number(directory);
            for child in tree.names(directory).into_iter().flat_map(|names| names.values()) {
                let below = matches!(tree.node(*child).kind, Kind::Directory(_));
                this.name(*child, number, below);
                if below {
                    this.nodes[directory.index()].links += 1;
                    waiting.push(*child);
                }
            }
            waiting[first..].reverse();
        }
        this
    }

    /// Counts a name of a node.
    fn name(&mut self, id: NodeId, parent: u32, directory: bool) {
        self.names += 1;
        let numbers = &mut self.nodes[id.index()];
        if numbers.number == 0 {
            // Fewer nodes than numbers: `Tree::add`.
            self.count += 1;
            numbers.number = self.count;
        }
        // A directory names itself.
        numbers.links = numbers.links.saturating_add(if directory { 2 } else { 1 });
        numbers.parent = parent;
    }

    pub(super) fn number(&self, id: NodeId) -> u32 {
        self.nodes[id.index()].number
    }

    pub(super) fn links(&self, id: NodeId) -> u32 {
        self.nodes[id.index()].links
    }

    pub(super) fn parent(&self, id: NodeId) -> u32 {
        self.nodes[id.index()].parent
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Names of all nodes, that of the root included.
    pub(super) fn names(&self) -> u64 {
        self.names
    }

    pub(super) fn take_directories(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.directories)
    }

    /// The places of inodes in the order of their numbers, as the table for file handles has them.
    pub(super) fn exports(&self, positions: &[Option<(Position, u16)>]) -> Vec<u8> {
        let mut places = vec![0; self.count as usize];
        for (numbers, position) in self.nodes.iter().zip(positions) {
            let slot = numbers.number.checked_sub(1).and_then(|index| places.get_mut(index as usize));
            if let (Some(slot), Some((position, _))) = (slot, position) {
                *slot = position.reference();
            }
        }
        places.iter().flat_map(|place: &u64| place.to_le_bytes()).collect()
    }
}

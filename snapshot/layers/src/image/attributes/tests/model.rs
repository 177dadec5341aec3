//! Layers of any shape against a model of unpacking them one over the other.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::reader::{Directory, Node};

/// What a layer has under a name.
#[derive(Debug, Clone)]
enum Entry {
    File,
    Whiteout,
    Directory {
        /// A number for its attributes, if it has an entry of its own.
        listed: Option<u32>,
        /// What layers below have in it is gone.
        emptied: bool,
        /// It stands beside its own whiteout.
        replaced: bool,
        /// These come behind what is in it.
        late: bool,
        names: BTreeMap<u8, Entry>,
    },
}

/// What unpacking makes.
#[derive(Debug, Clone)]
enum Tree {
    File,
    /// The number of its attributes, 0 for those that nothing tells.
    Directory(u32, BTreeMap<u8, Tree>),
}

fn directory(inner: impl Strategy<Value = Entry>) -> impl Strategy<Value = Entry> {
    let names = proptest::collection::btree_map(b'a'..b'd', inner, 0..4);
    let rarely = || proptest::bool::weighted(0.15);
    (proptest::option::weighted(0.4, 1u32..1000), rarely(), rarely(), any::<bool>(), names).prop_map(
        |(listed, emptied, replaced, late, names)| Entry::Directory { listed, emptied, replaced, late, names },
    )
}

/// A layer: its root replaces nothing.
fn layer() -> impl Strategy<Value = Entry> {
    let leaf = prop_oneof![3 => Just(Entry::File), 1 => Just(Entry::Whiteout)];
    directory(leaf.prop_recursive(3, 30, 3, directory)).prop_map(|mut root| {
        if let Entry::Directory { replaced, .. } = &mut root {
            *replaced = false;
        }
        root
    })
}

/// Puts an entry and what is in it into a tar.
fn pack(mut archive: Archive, above: &str, name: &str, entry: &Entry) -> Archive {
    let path = format!("{above}{name}");
    let (listed, emptied, replaced, late, names) = match entry {
        Entry::File => return archive.file(&path, "x"),
        Entry::Whiteout => return archive.file(&format!("{above}.wh.{name}"), ""),
        Entry::Directory { listed, emptied, replaced, late, names } => (listed, *emptied, *replaced, *late, names),
    };
    let itself = |mut archive: Archive| {
        if replaced {
            archive = archive.file(&format!("{above}.wh.{name}"), "");
        }
        if emptied {
            archive = archive.file(&format!("{path}/.wh..wh..opq"), "");
        }
        listed.map_or(archive.clone(), |number| dir(archive, &format!("{path}/"), 0o711, number))
    };
    archive = if late { archive } else { itself(archive) };
    for (below, entry) in names {
        archive = pack(archive, &format!("{path}/"), &char::from(*below).to_string(), entry);
    }
    if late { itself(archive) } else { archive }
}

/// Whether a tar has anything of it.
fn is_there(entry: &Entry) -> bool {
    is_directory(entry) || !matches!(entry, Entry::Directory { replaced: false, .. })
}

/// Whether a tar has it as a directory: one that only replaces is a whiteout.
fn is_directory(entry: &Entry) -> bool {
    match entry {
        Entry::File | Entry::Whiteout => false,
        Entry::Directory { listed, emptied, names, .. } => listed.is_some() || *emptied || names.values().any(is_there),
    }
}

/// Unpacks an entry over what is there.
fn unpack(entry: &Entry, there: Option<Tree>) -> Option<Tree> {
    let Entry::Directory { listed, emptied, replaced, names, .. } = entry else {
        return matches!(entry, Entry::File).then_some(Tree::File);
    };
    let there = there.filter(|_| !replaced);
    if !is_directory(entry) {
        return there;
    }
    let (number, mut within) = match there {
        Some(Tree::Directory(number, within)) => (number, within),
        _ => (0, BTreeMap::new()),
    };
    if *emptied {
        within.clear();
    }
    for (name, entry) in names {
        let before = within.remove(name);
        within.extend(unpack(entry, before).map(|tree| (*name, tree)));
    }
    Some(Tree::Directory(listed.unwrap_or(number), within))
}

/// The topmost directory that overlayfs shows at a path.
fn shown(layers: &[Below], path: &str) -> Option<Description> {
    let visible = |nodes: Vec<(usize, Node)>| {
        let mut merged: Vec<(usize, Directory)> = Vec::new();
        for (layer, node) in nodes {
            let Node::Directory(directory) = node else { break };
            merged.push((layer, directory));
            if directory.opaque {
                break;
            }
        }
        merged
    };
    let roots = layers.iter().enumerate().map(|(layer, below)| (layer, below.image.root().expect("a root")));
    let mut here = visible(roots.collect());
    for name in path.split('/').skip(1) {
        let found = |(layer, directory): &(usize, Directory)| {
            let node = layers[*layer].image.lookup(directory, name.as_bytes()).expect("reads");
            node.map(|node| (*layer, node))
        };
        here = visible(here.iter().filter_map(found).collect());
    }
    let (layer, directory) = here.first()?;
    Some(layers[*layer].image.describe(directory).expect("reads"))
}

/// Directories of a tree by their paths, and the numbers of their attributes.
fn directories(tree: &Tree, path: &str, all: &mut BTreeMap<String, u32>) {
    if let Tree::Directory(number, names) = tree {
        all.insert(path.to_owned(), *number);
        names.iter().for_each(|(name, tree)| directories(tree, &format!("{path}/{}", char::from(*name)), all));
    }
}

proptest! {
    #[test]
    fn any_layers_show_what_unpacking_them_gives(stack in proptest::collection::vec(layer(), 1..6)) {
        let dir = TempDir::new().expect("a directory");
        let archives: Vec<_> = stack.iter().map(|root| pack(new(), "", ".", root)).collect();
        let layers = layers(&dir, &archives);
        let found = find(&layers, &Caps::default()).expect("finds");
        let mut seen: BTreeMap<String, u32> =
            lines(&found).into_iter().map(|(path, _, uid, ..)| (path, uid)).collect();
        let mut tree = Some(Tree::Directory(0, BTreeMap::new()));
        for root in &stack {
            // The root is there whatever a tar has.
            tree = unpack(root, tree.clone()).or(tree);
        }
        let mut wanted = BTreeMap::new();
        directories(&tree.expect("a root"), "", &mut wanted);
        for path in wanted.keys() {
            let of_layers = || shown(&layers, path).expect("a directory").uid;
            seen.entry(path.clone()).or_insert_with(of_layers);
        }
        // Nothing that is gone comes back, and everything has its attributes.
        prop_assert_eq!(seen, wanted);
    }
}

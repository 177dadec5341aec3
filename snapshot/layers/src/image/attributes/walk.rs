//! Finds the directories, in one walk over those that several layers have.
//!
//! Listings are in the order of names, so they are read side by side, each once, whatever their length. What is kept in memory is a place in
//! each listing on the way from the root, and what was found.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::AttributesError;
use crate::Caps;
use crate::caps::Budget;
use crate::reader::{Description, Directory, Entry, Image, Listing, Node, ReadError};

/// What a directory is that nothing describes.
const NOTHING: Description = Description { mode: 0o755, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new() };

/// A layer.
#[derive(Debug)]
pub(in super::super) struct Below {
    pub(in super::super) path: PathBuf,
    pub(in super::super) image: Image,
    /// Whether it has directories below its root that it does not list.
    pub(in super::super) unlisted: bool,
}

/// A directory of the layer of attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Found {
    /// Which of those before it is its parent, and its name there; none for the root, which is the first.
    pub(in super::super) place: Option<(usize, Box<[u8]>)>,
    pub(in super::super) description: Description,
}

/// The directories whose attributes are those that a layer below the topmost one tells, and those above them. `layers` are all of an image,
/// the topmost first.
pub(in super::super) fn find(layers: &[Below], caps: &Caps) -> Result<Vec<Found>, AttributesError> {
    let inodes = layers.iter().map(|layer| u64::from(layer.image.count())).sum();
    let mut walk = Walk { layers, way: Vec::new(), found: Vec::new(), budget: Budget::new(caps), left: inodes };
    let roots = layers.iter().enumerate().map(|(layer, below)| {
        let root = below.image.root().map_err(|source| below.error(source))?;
        Ok((layer, root))
    });
    walk.enter(Box::default(), roots.collect::<Result<Vec<_>, AttributesError>>()?.into_iter().map(Ok))?;
    while let Some(here) = walk.way.last_mut() {
        match here.next(layers)? {
            Some((name, entries)) => {
                let nodes = entries.into_iter().map(|(layer, entry)| {
                    let below = at(layers, layer)?;
                    Ok((layer, below.image.node(entry.reference).map_err(|source| below.error(source))?))
                });
                walk.enter(name, nodes)?;
            }
            None => drop(walk.way.pop()),
        }
    }
    Ok(walk.found)
}

impl Below {
    fn error(&self, source: ReadError) -> AttributesError {
        AttributesError::Layer { path: self.path.clone(), source }
    }
}

fn at(layers: &[Below], layer: usize) -> Result<&Below, AttributesError> {
    let none = ReadError::Damaged("a layer that is none");
    layers.get(layer).ok_or(AttributesError::Layer { path: PathBuf::new(), source: none })
}

struct Walk<'a> {
    layers: &'a [Below],
    /// From the root to where it is.
    way: Vec<Here<'a>>,
    found: Vec<Found>,
    budget: Budget,
    /// Directories that may still be entered: in layers that are whole no more than they have inodes.
    left: u64,
}

/// A directory as the layers together have it.
struct Here<'a> {
    name: Box<[u8]>,
    /// Of its path, with a slash before each name.
    bytes: usize,
    /// Who tells its attributes.
    told: Option<(usize, Directory)>,
    /// Whose content shows, the topmost first.
    shown: Vec<Open<'a>>,
    /// Its place among those found.
    found: Option<usize>,
}

/// A listing and the entry that comes next.
struct Open<'a> {
    layer: usize,
    listing: Listing<'a>,
    next: Option<Entry>,
}

impl<'a> Walk<'a> {
    /// Goes into what layers have under a name, the topmost first, if that is a directory; those hidden are not asked for.
    fn enter(
        &mut self,
        name: Box<[u8]>,
        nodes: impl Iterator<Item = Result<(usize, Node), AttributesError>>,
    ) -> Result<(), AttributesError> {
        let (mut shown, mut told, mut hidden, mut first) = (Vec::new(), None, false, None);
        for node in nodes {
            // Something else hides what is below it; below a directory it is hidden itself.
            let (layer, Node::Directory(directory)) = node? else { break };
            first.get_or_insert((layer, directory));
            if !hidden {
                shown.push((layer, directory));
            }
            if !directory.unlisted {
                told.get_or_insert((layer, directory));
            }
            // A mark hides what is in the directories below, not what they say of themselves.
            hidden |= directory.opaque;
            if hidden && told.is_some() {
                break;
            }
        }
        let Some((topmost, directory)) = first else { return Ok(()) };
        let bytes = self.way.last().map_or(0, |above| above.bytes + name.len() + 1);
        if self.left == 0 || bytes > self.budget.caps().path_bytes.saturating_add(1) {
            return Err(at(self.layers, topmost)?.error(ReadError::Damaged("directories in a circle")));
        }
        self.left -= 1;
        self.way.push(Here { name, bytes, told, shown: Vec::new(), found: None });
        if directory.unlisted && self.describe(told)? != NOTHING {
            self.want()?;
        }
        // In directories of one layer there is nothing that another describes.
        let unlisted = |(layer, _): &(usize, Directory)| self.layers.get(*layer).is_some_and(|below| below.unlisted);
        if shown.split_last().is_some_and(|(_, above)| above.iter().any(unlisted)) {
            return self.open(&shown);
        }
        self.way.pop();
        Ok(())
    }

    /// Begins to read the listings of the last directory on the way; those of the one above it rest, as those further up do already.
    fn open(&mut self, shown: &[(usize, Directory)]) -> Result<(), AttributesError> {
        let Some((here, above)) = self.way.split_last_mut() else { return Ok(()) };
        above.last_mut().into_iter().flat_map(|here| &mut here.shown).for_each(|open| open.listing.rest());
        for (layer, directory) in shown {
            let below = at(self.layers, *layer)?;
            let mut listing = below.image.listing(directory);
            let next = listing.next().map_err(|source| below.error(source))?;
            here.shown.push(Open { layer: *layer, listing, next });
        }
        Ok(())
    }

    fn describe(&self, told: Option<(usize, Directory)>) -> Result<Description, AttributesError> {
        let Some((layer, directory)) = told else { return Ok(NOTHING) };
        let below = at(self.layers, layer)?;
        below.image.describe(&directory).map_err(|source| below.error(source))
    }

    /// Takes all directories on the way among those found.
    fn want(&mut self) -> Result<(), AttributesError> {
        let known = self.way.partition_point(|here| here.found.is_some());
        for depth in known..self.way.len() {
            let parent = depth.checked_sub(1).and_then(|above| self.way.get(above)?.found);
            let Some(Here { name, told, .. }) = self.way.get(depth) else { break };
            let description = self.describe(*told)?;
            let place = parent.map(|parent| (parent, name.clone()));
            let bytes = description.xattrs.iter().map(|(name, value)| name.len() as u64 + value.len() as u64).sum();
            self.budget.entry()?;
            self.budget.xattrs(bytes)?;
            let number = self.found.len();
            self.found.push(Found { place, description });
            if let Some(here) = self.way.get_mut(depth) {
                here.found = Some(number);
            }
        }
        Ok(())
    }
}

/// A name, and which layers have it, the topmost first.
type Named = (Box<[u8]>, Vec<(usize, Entry)>);

impl Here<'_> {
    /// The next name that is a directory in the topmost layer that has it, and may be one that another layer describes.
    fn next(&mut self, layers: &[Below]) -> Result<Option<Named>, AttributesError> {
        loop {
            let names = self.shown.iter().filter_map(|open| open.next.as_ref()).map(|entry| &entry.name);
            let Some(name) = names.min().cloned() else { return Ok(None) };
            let mut entries = Vec::new();
            for open in &mut self.shown {
                if open.next.as_ref().is_some_and(|entry| entry.name == name) {
                    let below = at(layers, open.layer)?;
                    let next = open.listing.next().map_err(|source| below.error(source))?;
                    entries.extend(std::mem::replace(&mut open.next, next).map(|entry| (open.layer, entry)));
                }
            }
            let unlisted = |(layer, entry): &(usize, Entry)| {
                entry.is_directory && layers.get(*layer).is_some_and(|below| below.unlisted)
            };
            let Some((_, above)) = entries.split_last() else { continue };
            if entries.first().is_some_and(|(_, entry)| entry.is_directory) && above.iter().any(unlisted) {
                return Ok(Some((name.into(), entries)));
            }
        }
    }
}

//! Puts entries into the tree as unpacking them one after the other would, except that no symbolic link is followed, and that
//! whiteouts stay.

use std::io::Read;

use super::EntryError;
use super::entry::{Entry, What};
use super::path::{self, Place};
use super::sparse::Map;
use super::stream::Stream;
use crate::overlay::{OPAQUE, PRIVATE};
use crate::squashfs::{
    Attributes, Content, Device, FillError, ImageError, ImageWriter, Kind, NodeId, SYMLINK_BYTES, XattrId,
};

/// One entry's way into the tree.
pub(super) struct Apply<'a, R> {
    pub(super) image: &'a mut ImageWriter,
    pub(super) stream: &'a mut Stream<R>,
}

impl<R: Read> Apply<'_, R> {
    /// Takes the entry and its content.
    pub(super) fn entry(&mut self, entry: &Entry) -> Result<(), EntryError> {
        match path::place(&entry.path, self.path_cap())? {
            Place::Name(parents, name) => return self.named(entry, &parents, name),
            Place::Root if matches!(entry.what, What::Directory) => self.describe(NodeId::ROOT, entry)?,
            Place::Root => return Err(EntryError::Root),
            Place::Whiteout(parents, name) => self.whiteout(&parents, name)?,
            Place::Opaque(parents) => self.opaque(&parents)?,
            Place::Nothing => {}
        }
        self.skip(entry)
    }

    fn path_cap(&self) -> usize {
        self.image.budget.caps().path_bytes
    }

    fn skip(&mut self, entry: &Entry) -> Result<(), EntryError> {
        self.stream.skip(entry.stored, &mut self.image.budget)
    }

    fn named(&mut self, entry: &Entry, parents: &[&[u8]], name: &[u8]) -> Result<(), EntryError> {
        let kind = match &entry.what {
            What::Directory => {
                self.directory_entry(entry, parents, name)?;
                return self.skip(entry);
            }
            What::HardLink(target) => return self.hard_link(target, parents, name),
            What::File(map) => Kind::File { size: map.size, content: self.content(entry, map)? },
            What::Symlink(target) => Kind::Symlink(symlink(target)?),
            What::Character(device) => Kind::Character(*device),
            What::Block(device) => Kind::Block(*device),
            What::Fifo => Kind::Fifo,
        };
        let directory = self.directory(parents)?;
        let attributes = self.attributes(entry, None)?;
        let node = self.image.add(attributes, kind)?;
        self.link(directory, name, node)
    }

    /// The file's content, from the archive into the image.
    fn content(&mut self, entry: &Entry, map: &Map) -> Result<Content, EntryError> {
        let mut writer = self.image.begin(map.size)?;
        let mut end = 0;
        for segment in &map.segments {
            writer.zeros(segment.offset.saturating_sub(end))?;
            let filled = writer.fill(self.stream.content(), segment.length);
            filled.map_err(|error| match error {
                FillError::Image(error) => EntryError::Image(error),
                FillError::Source(error) => EntryError::read(error),
                FillError::Short => EntryError::Truncated,
            })?;
            end = segment.offset.saturating_add(segment.length);
        }
        let content = writer.finish()?;
        self.stream.pad(entry.stored)?;
        Ok(content)
    }

    /// A directory: one that is there gets new attributes and keeps what is in it.
    fn directory_entry(&mut self, entry: &Entry, parents: &[&[u8]], name: &[u8]) -> Result<(), EntryError> {
        let directory = self.directory(parents)?;
        let node = match self.child(directory, name) {
            Some(there) if self.image.tree.names(there).is_some() => there,
            there => self.new_directory(directory, name, there)?,
        };
        self.describe(node, entry)
    }

    /// Gives a directory an entry's attributes; extended ones are added.
    fn describe(&mut self, node: NodeId, entry: &Entry) -> Result<(), EntryError> {
        let known = self.image.tree.node(node).attributes.xattrs;
        let attributes = self.attributes(entry, known)?;
        self.image.tree.node_mut(node).attributes = attributes;
        Ok(())
    }

    fn hard_link(&mut self, target: &[u8], parents: &[&[u8]], name: &[u8]) -> Result<(), EntryError> {
        let parts = path::parts(target, self.path_cap())?;
        let found = parts.iter().try_fold(NodeId::ROOT, |directory, part| self.child(directory, part));
        let linkable = |node: &NodeId| {
            let node = self.image.tree.node(*node);
            !node.is_whiteout() && !matches!(node.kind, Kind::Directory(_))
        };
        let missing = || EntryError::LinkTarget { target: String::from_utf8_lossy(target).into_owned() };
        let node = found.filter(linkable).ok_or_else(missing)?;
        let directory = self.directory(parents)?;
        self.link(directory, name, node)
    }

    /// A name that is gone from the layers below. What this layer itself has of that name stays: only the layers below are hidden.
    fn whiteout(&mut self, parents: &[&[u8]], name: &[u8]) -> Result<(), EntryError> {
        let Some(directory) = self.directory_of_whiteout(parents)? else { return Ok(()) };
        self.image.whiteouts += 1;
        match self.child(directory, name) {
            Some(there) if self.image.tree.names(there).is_some() => {
                // Not the directory that is below: that one is gone with what it says.
                self.image.tree.node_mut(there).attributes.unlisted = false;
                self.mark_opaque(there)
            }
            Some(_) => Ok(()),
            None => {
                let node = self.image.add(Attributes::WHITEOUT, Kind::Character(Device::WHITEOUT))?;
                self.link(directory, name, node)
            }
        }
    }

    fn opaque(&mut self, parents: &[&[u8]]) -> Result<(), EntryError> {
        let Some(directory) = self.directory_of_whiteout(parents)? else { return Ok(()) };
        self.image.whiteouts += 1;
        self.image.root_opaque |= parents.is_empty();
        self.mark_opaque(directory)
    }

    fn mark_opaque(&mut self, directory: NodeId) -> Result<(), EntryError> {
        let mut set = self.image.xattr_set(self.image.tree.node(directory).attributes.xattrs);
        set.insert(OPAQUE.0.into(), OPAQUE.1.into());
        let xattrs = self.image.keep_xattrs(set)?;
        self.image.tree.node_mut(directory).attributes.xattrs = xattrs;
        Ok(())
    }

    /// The directory that a whiteout is in. Below a file there is none: some programs list what was in a directory after the file that
    /// replaces it, and that hides all of it anyway. A link is not followed here either.
    fn directory_of_whiteout(&mut self, parts: &[&[u8]]) -> Result<Option<NodeId>, EntryError> {
        let mut here = NodeId::ROOT;
        for part in parts {
            let Some(there) = self.child(here, part) else { break };
            let node = self.image.tree.node(there);
            if !node.is_whiteout() && !matches!(node.kind, Kind::Directory(_) | Kind::Symlink(_)) {
                return Ok(None);
            }
            here = there;
        }
        self.directory(parts).map(Some)
    }

    /// The directory of a path; those that are missing are made.
    fn directory(&mut self, parts: &[&[u8]]) -> Result<NodeId, EntryError> {
        let mut here = NodeId::ROOT;
        for (depth, part) in parts.iter().enumerate() {
            here = match self.child(here, part) {
                Some(there) if self.image.tree.names(there).is_some() => there,
                Some(there) if !self.image.tree.node(there).is_whiteout() => {
                    let parent = path::show(parts.get(..=depth).unwrap_or(parts));
                    return Err(EntryError::Parent { parent });
                }
                there => self.new_directory(here, part, there)?,
            };
        }
        Ok(here)
    }

    /// Makes a directory in the place of what is there, which nothing describes so far. In the place of a whiteout it hides what the layers
    /// below have, and is another than theirs.
    fn new_directory(&mut self, above: NodeId, name: &[u8], there: Option<NodeId>) -> Result<NodeId, EntryError> {
        let hides = there.is_some_and(|there| self.image.tree.node(there).is_whiteout());
        let attributes = if hides { Attributes::DIRECTORY } else { Attributes::UNLISTED };
        let node = self.image.add(attributes, Kind::Directory(Default::default()))?;
        self.link(above, name, node)?;
        if hides {
            self.mark_opaque(node)?;
        }
        Ok(node)
    }

    fn child(&self, directory: NodeId, name: &[u8]) -> Option<NodeId> {
        self.image.tree.names(directory)?.get(name).copied()
    }

    /// Lets a name stand for a node, whatever it stood for before.
    fn link(&mut self, directory: NodeId, name: &[u8], node: NodeId) -> Result<(), EntryError> {
        self.image.budget.entry().map_err(ImageError::from)?;
        self.image.tree.link(directory, name, node);
        Ok(())
    }

    /// An entry's attributes; its extended ones are added to those that are `known`.
    fn attributes(&mut self, entry: &Entry, known: Option<XattrId>) -> Result<Attributes, EntryError> {
        self.image.lost.acls += u64::from(entry.acl);
        let xattrs = if entry.xattrs.is_empty() { known } else { self.xattrs(entry, known)? };
        let mtime = self.image.mtime(entry.mtime);
        Ok(Attributes { mode: entry.mode, unlisted: false, uid: entry.uid, gid: entry.gid, mtime, xattrs })
    }

    fn xattrs(&mut self, entry: &Entry, known: Option<XattrId>) -> Result<Option<XattrId>, EntryError> {
        let mut set = self.image.xattr_set(known);
        // A set that grows is copied each time.
        let copied = set.iter().map(|(name, value)| name.len() as u64 + value.len() as u64).sum();
        self.image.budget.xattrs(copied).map_err(ImageError::from)?;
        let told = entry.xattrs.iter().filter(|(name, _)| !name.starts_with(PRIVATE));
        set.extend(told.map(|(name, value)| (name.clone(), value.clone())));
        self.image.lost.overlay_xattrs += u64::from(entry.xattrs.keys().any(|name| name.starts_with(PRIVATE)));
        Ok(self.image.keep_xattrs(set)?)
    }
}

fn symlink(target: &[u8]) -> Result<Box<[u8]>, EntryError> {
    if target.len() > SYMLINK_BYTES {
        return Err(EntryError::Long { what: "symbolic link", cap: SYMLINK_BYTES });
    }
    if target.is_empty() || target.contains(&0) {
        return Err(EntryError::BadPath);
    }
    Ok(target.into())
}

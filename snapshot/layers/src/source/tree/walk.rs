//! The walk through a directory tree.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, readlinkat, statat};

use super::stat::Stat;
use super::{TreeError, Trouble, beside, file, xattr};
use crate::overlay::ELSEWHERE;
use crate::squashfs::{Attributes, ImageError, ImageWriter, Kind, NAME_BYTES, NodeId, SYMLINK_BYTES};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Without `NONBLOCK`, opening a fifo that took a file's place would wait for a writer.
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// A directory whose content is being read.
struct Frame {
    name: CString,
    node: NodeId,
    /// What it was when it was opened.
    stat: Stat,
    /// Directories in it that are still to be read, the next one last.
    below: Vec<CString>,
}

/// The walk, standing in one directory.
pub(super) struct Walk<'a> {
    root: &'a Path,
    image: &'a mut ImageWriter,
    /// The directory it stands in: that of the last frame.
    here: OwnedFd,
    frames: Vec<Frame>,
    /// Nodes of files that have several names, by device and inode.
    links: HashMap<(u64, u64), NodeId>,
    xattrs: xattr::Reader,
}

impl<'a> Walk<'a> {
    /// Opens the root.
    pub(super) fn new(root: &'a Path, image: &'a mut ImageWriter) -> Result<Self, TreeError> {
        let open = || openat(CWD, root, DIRECTORY, Mode::empty());
        let here = open().map_err(|errno| Trouble::Errno("open", errno).at(root.to_owned()))?;
        let (frames, links, xattrs) = (Vec::new(), HashMap::new(), xattr::Reader::new());
        Ok(Self { root, image, here, frames, links, xattrs })
    }

    /// Reads everything.
    pub(super) fn run(mut self) -> Result<(), TreeError> {
        let entered = self.root_directory();
        entered.map_err(|trouble| trouble.at(self.root.to_owned()))?;
        self.files()?;
        while let Some(frame) = self.frames.last_mut() {
            match frame.below.pop() {
                Some(name) => {
                    self.down(&name).map_err(|trouble| trouble.at(self.path(Some(&name))))?;
                    self.files()?;
                }
                None => self.up().map_err(|trouble| trouble.at(self.path(None)))?,
            }
        }
        Ok(())
    }

    /// The path of the current directory, or of a name in it.
    fn path(&self, name: Option<&CStr>) -> PathBuf {
        let names = self.frames.iter().skip(1).map(|frame| &*frame.name).chain(name);
        names.fold(self.root.to_owned(), |path, name| path.join(OsStr::from_bytes(name.to_bytes())))
    }

    fn root_directory(&mut self) -> Result<(), Trouble> {
        self.image.budget.entry().map_err(ImageError::from)?;
        let stat = Stat::from(fstat(&self.here).map_err(|errno| Trouble::Errno("look at", errno))?);
        let set = self.xattrs.of(&self.here)?;
        let attributes = self.attributes(&stat, set)?;
        self.image.tree.node_mut(NodeId::ROOT).attributes = attributes;
        self.frames.push(Frame { name: CString::default(), node: NodeId::ROOT, stat, below: Vec::new() });
        Ok(())
    }

    /// Steps into a directory.
    fn down(&mut self, name: &CStr) -> Result<(), Trouble> {
        let open = openat(&self.here, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
        let below = open.map_err(Trouble::gone("open"))?;
        let stat = Stat::from(fstat(&below).map_err(|errno| Trouble::Errno("look at", errno))?);
        let set = self.xattrs.of(&below)?;
        let attributes = self.attributes(&stat, set)?;
        let node = self.image.add(attributes, Kind::Directory(Default::default()))?;
        self.name(name, node)?;
        self.frames.push(Frame { name: name.to_owned(), node, stat, below: Vec::new() });
        self.here = below;
        Ok(())
    }

    /// Leaves the current directory for the one above.
    fn up(&mut self) -> Result<(), Trouble> {
        let now = Stat::from(fstat(&self.here).map_err(|errno| Trouble::Errno("look at", errno))?);
        if self.frames.last().is_none_or(|frame| !now.unchanged(&frame.stat)) {
            return Err(Trouble::Changed);
        }
        let Some([above, _]) = self.frames.last_chunk() else {
            self.frames.clear();
            return Ok(());
        };
        let parent = openat(&self.here, c"..", DIRECTORY, Mode::empty()).map_err(Trouble::gone("open"))?;
        let stat = Stat::from(fstat(&parent).map_err(|errno| Trouble::Errno("look at", errno))?);
        if stat.id != above.stat.id {
            return Err(Trouble::Changed);
        }
        self.frames.pop();
        self.here = parent;
        Ok(())
    }

    /// Reads everything in the current directory but the directories in it, which are left for later.
    fn files(&mut self) -> Result<(), TreeError> {
        let mut listed = self.list().map_err(|trouble| trouble.at(self.path(None)))?;
        // The order of a file system is none.
        listed.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        let mut below = Vec::new();
        for (name, hint) in listed {
            let directory = self.entry(&name, hint).map_err(|trouble| trouble.at(self.path(Some(&name))))?;
            if directory {
                below.push(name);
            }
        }
        below.reverse();
        if let Some(frame) = self.frames.last_mut() {
            frame.below = below;
        }
        Ok(())
    }

    /// The names in the current directory, and what the file system says they are.
    fn list(&mut self) -> Result<Vec<(CString, FileType)>, Trouble> {
        let failed = |errno| Trouble::Errno("list", errno);
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.here).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name() == c"." || entry.file_name() == c".." {
                continue;
            }
            self.image.budget.entry().map_err(ImageError::from)?;
            names.push((entry.file_name().to_owned(), entry.file_type()));
        }
        Ok(names)
    }

    /// Reads what a name of the current directory names, unless that is a directory, which is told.
    fn entry(&mut self, name: &CStr, hint: FileType) -> Result<bool, Trouble> {
        if name.to_bytes().len() > NAME_BYTES {
            return Err(ImageError::TooLarge { what: "a name" }.into());
        }
        match hint {
            FileType::Directory => return Ok(true),
            FileType::RegularFile => return self.file(name).map(|()| false),
            _ => {}
        }
        let stat = statat(&self.here, name, AtFlags::SYMLINK_NOFOLLOW).map_err(Trouble::gone("look at"))?;
        let stat = Stat::from(stat);
        match stat.kind {
            FileType::Directory => return Ok(true),
            FileType::RegularFile => self.file(name)?,
            _ => self.special(name, &stat)?,
        }
        Ok(false)
    }

    fn file(&mut self, name: &CStr) -> Result<(), Trouble> {
        let open = openat(&self.here, name, FILE, Mode::empty());
        let mut file = File::from(open.map_err(Trouble::gone("open"))?);
        let stat = Stat::from(fstat(&file).map_err(|errno| Trouble::Errno("look at", errno))?);
        if stat.kind != FileType::RegularFile {
            return Err(Trouble::Changed);
        }
        if let Some(known) = self.known(&stat) {
            return self.name(name, known);
        }
        let set = self.xattrs.of(&file)?;
        let attributes = self.attributes(&stat, set)?;
        let content = file::store(&mut file, &stat, self.image)?;
        self.add(name, &stat, attributes, Kind::File { size: stat.size, content })
    }

    fn special(&mut self, name: &CStr, stat: &Stat) -> Result<(), Trouble> {
        if let Some(known) = self.known(stat) {
            return self.name(name, known);
        }
        let kind = match stat.kind {
            FileType::Symlink => Kind::Symlink(self.target(name)?),
            FileType::CharacterDevice => Kind::Character(stat.device),
            FileType::BlockDevice => Kind::Block(stat.device),
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            _ => return Err(Trouble::Kind),
        };
        let path = beside::path(&self.here, name, || self.path(Some(name)));
        let set = self.xattrs.at(&path)?;
        let attributes = self.attributes(stat, set)?;
        self.add(name, stat, attributes, kind)
    }

    fn target(&self, name: &CStr) -> Result<Box<[u8]>, Trouble> {
        let target = readlinkat(&self.here, name, Vec::new()).map_err(Trouble::gone("read"))?.into_bytes();
        if target.len() > SYMLINK_BYTES {
            return Err(ImageError::TooLarge { what: "a symbolic link" }.into());
        }
        Ok(target.into())
    }

    /// The node of a file that was seen under another name.
    fn known(&self, stat: &Stat) -> Option<NodeId> {
        self.links.get(&stat.id).filter(|_| stat.links > 1).copied()
    }

    fn add(&mut self, name: &CStr, stat: &Stat, attributes: Attributes, kind: Kind) -> Result<(), Trouble> {
        let node = self.image.add(attributes, kind)?;
        if stat.links > 1 {
            self.links.insert(stat.id, node);
        }
        self.name(name, node)
    }

    fn name(&mut self, name: &CStr, node: NodeId) -> Result<(), Trouble> {
        let directory = self.frames.last().map(|frame| frame.node).ok_or(Trouble::Changed)?;
        match self.image.tree.link(directory, name.to_bytes(), node) {
            // A directory that lists a name twice was changed meanwhile.
            Some(_) => Err(Trouble::Changed),
            None => Ok(()),
        }
    }

    fn attributes(&mut self, stat: &Stat, set: crate::squashfs::XattrSet) -> Result<Attributes, Trouble> {
        self.image.redirected |= ELSEWHERE.iter().any(|name| set.contains_key(*name));
        let xattrs = self.image.keep_xattrs(set)?;
        let mtime = self.image.mtime(stat.mtime.0);
        Ok(Attributes { mode: stat.mode, unlisted: false, uid: stat.uid, gid: stat.gid, mtime, xattrs })
    }
}

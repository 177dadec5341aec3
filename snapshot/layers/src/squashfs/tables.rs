//! The end of an image: all tables, then the superblock at its start.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};

use super::data::Content;
use super::directory::{self, Entry, Listing};
use super::inode::{self, Head, Inode, Place};
use super::layout::Written;
use super::metadata::{self, MetadataWriter, Position};
use super::numbering::Numbering;
use super::tree::{Kind, Node, NodeId, Tree};
use super::xattrs::{XattrTable, Xattrs};
use super::{Compressor, ImageError, Options, codec, spec};

/// How much is hashed at once.
const DIGEST_BYTES: usize = 128 << 10;

/// Sizes of a complete image.
pub(super) struct Done {
    pub(super) bytes: u64,
    pub(super) entries: u64,
}

/// Writes the compressor's options behind the place of the superblock; gives where data begins.
pub(super) fn write_options(out: &File, options: &Options) -> Result<u64, ImageError> {
    let mut end = End { out, position: spec::SUPERBLOCK_BYTES };
    let bytes = codec::options(options.compressor);
    if !bytes.is_empty() {
        end.append(&metadata::plain_block(&bytes)?)?;
    }
    Ok(end.position)
}

/// Writes everything behind the data, and the superblock.
pub(super) fn write(
    out: &File,
    options: &Options,
    tree: &Tree,
    xattrs: &Xattrs,
    written: &Written,
) -> Result<Done, ImageError> {
    let compressor = options.compressor;
    let mut end = End { out, position: written.end };
    let mut inodes = Inodes::new(tree, xattrs, written, compressor)?;
    let root = inodes.write_all()?;
    let Inodes { numbering, positions, ids, xattrs, inodes, directories, .. } = inodes;

    let inode_table = end.append(&inodes.finish()?)?;
    let directory_table = end.append(&directories.finish()?)?;
    let fragment_table = end.indexed(compressor, &fragment_entries(written))?;
    let export_table = end.indexed(compressor, &numbering.exports(&positions))?;
    let id_table = end.indexed(compressor, &ids.table)?;
    let (xattr_table, has_xattrs) = end.xattrs(compressor, xattrs)?;

    let too_many = |_| ImageError::TooLarge { what: "the number of blocks of fragments" };
    let superblock = Superblock {
        inodes: numbering.count(),
        block_size: options.block_size,
        fragments: u32::try_from(written.fragments.len()).map_err(too_many)?,
        compressor,
        has_xattrs,
        ids: ids.count()?,
        root: root.reference(),
        bytes: end.position,
        tables: [id_table, xattr_table, inode_table, directory_table, fragment_table, export_table],
    };
    out.write_all_at(&superblock.bytes(), 0).map_err(ImageError::Write)?;
    Ok(Done { bytes: end.pad()?, entries: numbering.names() })
}

/// The SHA-256 of the image.
pub(super) fn digest(out: &File, bytes: u64) -> Result<[u8; 32], ImageError> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; DIGEST_BYTES];
    let mut done = 0;
    while done < bytes {
        let length = (bytes - done).min(DIGEST_BYTES as u64) as usize;
        out.read_exact_at(&mut buffer[..length], done).map_err(ImageError::Read)?;
        hash.update(&buffer[..length]);
        done += length as u64;
    }
    Ok(hash.finalize().into())
}

/// The growing end of the image.
struct End<'a> {
    out: &'a File,
    position: u64,
}

impl End<'_> {
    /// Gives where it begins.
    fn append(&mut self, bytes: &[u8]) -> Result<u64, ImageError> {
        let start = self.position;
        self.out.write_all_at(bytes, start).map_err(ImageError::Write)?;
        self.position += bytes.len() as u64;
        Ok(start)
    }

    /// A table with the places of its blocks behind it; gives where those begin.
    fn indexed(&mut self, compressor: Compressor, entries: &[u8]) -> Result<u64, ImageError> {
        if entries.is_empty() {
            return Ok(spec::NO_TABLE);
        }
        let mut table = MetadataWriter::new(compressor)?;
        table.write(entries)?;
        let (blocks, starts) = table.finish_indexed()?;
        let base = self.append(&blocks)?;
        let places: Vec<u8> = starts.iter().flat_map(|start| (base + u64::from(*start)).to_le_bytes()).collect();
        self.append(&places)
    }

    /// The tables of extended attributes, and whether there are any.
    fn xattrs(&mut self, compressor: Compressor, table: XattrTable<'_>) -> Result<(u64, bool), ImageError> {
        let (values, ids, count) = table.finish()?;
        if count == 0 {
            return Ok((spec::NO_TABLE, false));
        }
        let values_start = self.append(&values)?;
        let mut table = MetadataWriter::new(compressor)?;
        table.write(&ids)?;
        let (blocks, starts) = table.finish_indexed()?;
        let base = self.append(&blocks)?;
        let mut head = values_start.to_le_bytes().to_vec();
        head.extend_from_slice(&count.to_le_bytes());
        head.extend_from_slice(&0u32.to_le_bytes());
        head.extend(starts.iter().flat_map(|start| (base + u64::from(*start)).to_le_bytes()));
        Ok((self.append(&head)?, true))
    }

    /// Lets the image end here, but for zeros to a whole page; gives its length.
    fn pad(self) -> Result<u64, ImageError> {
        let length = self.position.next_multiple_of(spec::IMAGE_ALIGN);
        // Blocks that were given up may lie behind.
        self.out.set_len(self.position).map_err(ImageError::Write)?;
        self.out.set_len(length).map_err(ImageError::Write)?;
        Ok(length)
    }
}

/// The tables of inodes and directories, which refer to each other, while they are written.
struct Inodes<'a> {
    tree: &'a Tree,
    written: &'a Written,
    numbering: Numbering,
    /// Where each node's inode is, once it is written.
    positions: Vec<Option<(Position, u16)>>,
    listings: HashMap<NodeId, Listing>,
    ids: Ids,
    xattrs: XattrTable<'a>,
    inodes: MetadataWriter,
    directories: MetadataWriter,
}

impl<'a> Inodes<'a> {
    fn new(
        tree: &'a Tree,
        xattrs: &'a Xattrs,
        written: &'a Written,
        compressor: Compressor,
    ) -> Result<Self, ImageError> {
        Ok(Self {
            tree,
            written,
            numbering: Numbering::new(tree),
            positions: vec![None; tree.len()],
            listings: HashMap::new(),
            ids: Ids::default(),
            xattrs: XattrTable::new(xattrs, MetadataWriter::new(compressor)?),
            inodes: MetadataWriter::new(compressor)?,
            directories: MetadataWriter::new(compressor)?,
        })
    }

    /// Writes all inodes and listings, those below a directory before its own; gives the place of the root's.
    fn write_all(&mut self) -> Result<Position, ImageError> {
        let tree = self.tree;
        for directory in self.numbering.take_directories().into_iter().rev() {
            let Some(names) = tree.names(directory) else { continue };
            let mut entries = Vec::with_capacity(names.len());
            for (name, child) in names {
                let (inode, kind) = self.place(*child)?;
                entries.push(Entry { name, inode, number: self.numbering.number(*child), kind });
            }
            let listing = directory::write(&entries, &mut self.directories)?;
            self.listings.insert(directory, listing);
        }
        Ok(self.place(NodeId::ROOT)?.0)
    }

    /// Where a node's inode is; it is written if it was not.
    fn place(&mut self, id: NodeId) -> Result<(Position, u16), ImageError> {
        if let Some(place) = self.positions.get(id.index()).copied().flatten() {
            return Ok(place);
        }
        let inode = self.inode(id)?;
        let place = (self.inodes.position()?, inode.kind);
        self.inodes.write(&inode.bytes)?;
        if let Some(slot) = self.positions.get_mut(id.index()) {
            *slot = Some(place);
        }
        Ok(place)
    }

    fn inode(&mut self, id: NodeId) -> Result<Inode, ImageError> {
        let node = self.tree.node(id);
        let head = self.head(id, node)?;
        match &node.kind {
            Kind::Directory(_) => {
                // Listings are written before the inodes that tell them.
                let listing = self.listings.remove(&id).ok_or(ImageError::Ended)?;
                inode::directory(&head, &listing, self.numbering.parent(id))
            }
            Kind::File { size, content } => Ok(inode::file(&head, *size, &self.content(*content)?)),
            Kind::Symlink(target) => inode::symlink(&head, target),
            Kind::Character(device) => inode::device(&head, spec::kind::CHARACTER, *device),
            Kind::Block(device) => inode::device(&head, spec::kind::BLOCK, *device),
            Kind::Fifo => Ok(inode::endpoint(&head, spec::kind::FIFO)),
            Kind::Socket => Ok(inode::endpoint(&head, spec::kind::SOCKET)),
        }
    }

    fn head(&mut self, id: NodeId, node: &Node) -> Result<Head, ImageError> {
        let attributes = &node.attributes;
        Ok(Head {
            mode: attributes.mode,
            uid: self.ids.place(attributes.uid)?,
            gid: self.ids.place(attributes.gid)?,
            mtime: attributes.mtime,
            number: self.numbering.number(id),
            links: self.numbering.links(id),
            xattrs: self.xattrs.number(attributes.xattrs)?,
        })
    }

    fn content(&self, content: Content) -> Result<Place<'a>, ImageError> {
        match content {
            Content::Empty => Ok(Place::Empty),
            Content::Fragment(fragment) => Ok(Place::Fragment(fragment)),
            Content::Blocks(file) => {
                self.written.files.get(file).map(|layout| Place::Blocks(layout)).ok_or(ImageError::Ended)
            }
        }
    }
}

/// Users and groups, each once.
#[derive(Default)]
struct Ids {
    places: HashMap<u32, u16>,
    table: Vec<u8>,
}

impl Ids {
    fn place(&mut self, id: u32) -> Result<u16, ImageError> {
        if let Some(place) = self.places.get(&id) {
            return Ok(*place);
        }
        let place = self.count()?;
        // Their number has to fit as well.
        place.checked_add(1).ok_or(ImageError::TooManyIds)?;
        self.places.insert(id, place);
        self.table.extend_from_slice(&id.to_le_bytes());
        Ok(place)
    }

    fn count(&self) -> Result<u16, ImageError> {
        u16::try_from(self.places.len()).map_err(|_| ImageError::TooManyIds)
    }
}

fn fragment_entries(written: &Written) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(written.fragments.len() * 16);
    for fragments in &written.fragments {
        bytes.extend_from_slice(&fragments.start.to_le_bytes());
        bytes.extend_from_slice(&fragments.stored.to_le_bytes());
        bytes.extend_from_slice(&0u32.to_le_bytes());
    }
    bytes
}

struct Superblock {
    inodes: u32,
    block_size: u32,
    fragments: u32,
    compressor: Compressor,
    has_xattrs: bool,
    ids: u16,
    root: u64,
    bytes: u64,
    /// In the superblock's order: ids, xattrs, inodes, directories, fragments, export.
    tables: [u64; 6],
}

impl Superblock {
    fn bytes(&self) -> Vec<u8> {
        let log = self.block_size.trailing_zeros() as u16;
        // The image's own time says nothing and is fixed.
        let time = 0;
        let words = [spec::MAGIC, self.inodes, time, self.block_size, self.fragments];
        let halves = [codec::number(self.compressor), log, self.flags(), self.ids, spec::MAJOR, spec::MINOR];
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
        bytes.extend([self.root, self.bytes].iter().chain(&self.tables).flat_map(|long| long.to_le_bytes()));
        bytes
    }

    fn flags(&self) -> u16 {
        use spec::flags::*;
        let raw = RAW_INODES | RAW_DATA | RAW_FRAGMENTS | RAW_XATTRS | RAW_IDS;
        let compressor = if self.compressor == Compressor::None { raw } else { COMPRESSOR_OPTIONS };
        DUPLICATES | EXPORTABLE | compressor | if self.has_xattrs { 0 } else { NO_XATTRS }
    }
}

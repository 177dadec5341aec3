//! Inodes as bytes: of each kind the short form where it can say everything, else the long one.

use super::data::Fragment;
use super::directory::Listing;
use super::layout::Layout;
use super::tree::Device;
use super::{ImageError, spec};

/// What every inode begins with.
pub(super) struct Head {
    pub(super) mode: u16,
    /// Places in the table of ids.
    pub(super) uid: u16,
    pub(super) gid: u16,
    pub(super) mtime: u32,
    pub(super) number: u32,
    pub(super) links: u32,
    /// The number of its extended attributes in the image.
    pub(super) xattrs: u32,
}

/// An inode, and the type that directory entries tell.
pub(super) struct Inode {
    pub(super) bytes: Vec<u8>,
    pub(super) kind: u16,
}

impl Head {
    fn start(&self, kind: u16, long: bool) -> Fields {
        let mut fields = Fields(Vec::with_capacity(64));
        fields.u16(if long { kind + spec::kind::LONG } else { kind });
        fields.u16(self.mode).u16(self.uid).u16(self.gid).u32(self.mtime).u32(self.number);
        fields
    }

    fn has_xattrs(&self) -> bool {
        self.xattrs != spec::NO_XATTRS
    }
}

/// Little-endian fields, one after the other.
struct Fields(Vec<u8>);

impl Fields {
    fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn done(self, kind: u16) -> Inode {
        Inode { bytes: self.0, kind }
    }
}

/// A directory; `parent` is the number of the one above.
pub(super) fn directory(head: &Head, listing: &Listing, parent: u32) -> Result<Inode, ImageError> {
    let kind = spec::kind::DIRECTORY;
    let short_size = u16::try_from(listing.size).ok();
    if let (Some(size), false, true) = (short_size, head.has_xattrs(), listing.index.is_empty()) {
        let mut fields = head.start(kind, false);
        fields.u32(listing.start.block).u32(head.links).u16(size).u16(listing.start.offset).u32(parent);
        return Ok(fields.done(kind));
    }
    let too_large = |_| ImageError::TooLarge { what: "a directory" };
    let count = u16::try_from(listing.index.len()).map_err(too_large)?;
    let mut fields = head.start(kind, true);
    fields.u32(head.links).u32(listing.size).u32(listing.start.block).u32(parent);
    fields.u16(count).u16(listing.start.offset).u32(head.xattrs);
    for entry in &listing.index {
        let name_size = u32::try_from(entry.name.len().saturating_sub(1)).map_err(too_large)?;
        fields.u32(entry.offset).u32(entry.block).u32(name_size).bytes(&entry.name);
    }
    Ok(fields.done(kind))
}

/// Where a file's content is.
pub(super) enum Place<'a> {
    Empty,
    Blocks(&'a Layout),
    Fragment(Fragment),
}

pub(super) fn file(head: &Head, size: u64, place: &Place<'_>) -> Inode {
    let kind = spec::kind::FILE;
    let none: &[u32] = &[];
    let (start, sparse, blocks) = match place {
        Place::Blocks(layout) => (layout.start, layout.sparse, &*layout.blocks),
        Place::Empty | Place::Fragment(_) => (0, 0, none),
    };
    let (fragment, offset) = match place {
        Place::Fragment(Fragment { block, offset }) => (*block, *offset),
        Place::Empty | Place::Blocks(_) => (spec::NO_FRAGMENT, 0),
    };
    let simple = head.links == 1 && !head.has_xattrs() && sparse == 0;
    let mut fields = match (u32::try_from(start), u32::try_from(size), simple) {
        (Ok(start), Ok(size), true) => {
            let mut fields = head.start(kind, false);
            fields.u32(start).u32(fragment).u32(offset).u32(size);
            fields
        }
        _ => {
            let mut fields = head.start(kind, true);
            fields.u64(start).u64(size).u64(sparse).u32(head.links).u32(fragment).u32(offset).u32(head.xattrs);
            fields
        }
    };
    for stored in blocks {
        fields.u32(*stored);
    }
    fields.done(kind)
}

pub(super) fn symlink(head: &Head, target: &[u8]) -> Result<Inode, ImageError> {
    let kind = spec::kind::SYMLINK;
    let length = u32::try_from(target.len()).map_err(|_| ImageError::TooLarge { what: "a symbolic link" })?;
    let mut fields = head.start(kind, head.has_xattrs());
    fields.u32(head.links).u32(length).bytes(target);
    if head.has_xattrs() {
        fields.u32(head.xattrs);
    }
    Ok(fields.done(kind))
}

/// A device of `kind`, which is one of the two kinds of devices.
pub(super) fn device(head: &Head, kind: u16, device: Device) -> Result<Inode, ImageError> {
    let mut fields = head.start(kind, head.has_xattrs());
    fields.u32(head.links).u32(encode(device)?);
    if head.has_xattrs() {
        fields.u32(head.xattrs);
    }
    Ok(fields.done(kind))
}

/// A device's number as one word.
pub(super) fn encode(device: Device) -> Result<u32, ImageError> {
    let Device { major, minor } = device;
    if major > spec::MAJOR_MAX || minor > spec::MINOR_MAX {
        return Err(ImageError::Device { major, minor });
    }
    Ok(minor & 0xff | major << 8 | (minor & !0xff) << 12)
}

/// A fifo or socket.
pub(super) fn endpoint(head: &Head, kind: u16) -> Inode {
    let mut fields = head.start(kind, head.has_xattrs());
    fields.u32(head.links);
    if head.has_xattrs() {
        fields.u32(head.xattrs);
    }
    fields.done(kind)
}

//! Directories of an image: what they say of themselves, and their listings.

use super::table::{self, Cursor};
use super::xattrs::NO_XATTRS;
use super::{Image, Node, ReadError};
use crate::overlay;
use crate::squashfs::XattrSet;

/// Bytes of a listing that is searched for a name.
const LISTING_MAX: u32 = 64 << 20;
/// In a listing: the entry is a directory.
const DIRECTORY: u16 = 1;
/// Owners in a block of their table.
const IDS: u32 = 2048;

/// A directory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Directory {
    /// Where its listing is, and how long that is with three bytes that are not there.
    block: u64,
    offset: u16,
    size: u32,
    head: Head,
    /// It hides those below.
    pub(crate) opaque: bool,
    /// The layer says nothing of it: [`overlay::UNLISTED`].
    pub(crate) unlisted: bool,
}

/// What an inode says beside what it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    mode: u16,
    /// Places in the table of owners.
    uid: u16,
    gid: u16,
    mtime: u32,
    /// Number of its set of extended attributes.
    xattrs: u32,
}

impl Head {
    /// Reads it, behind the inode's kind, but for the attributes' number, which is in another place in each kind.
    pub(super) fn read(at: &mut Cursor<'_>) -> Result<Self, ReadError> {
        let (mode, uid, gid, mtime) = (at.short()?, at.short()?, at.short()?, at.word()?);
        at.skip(4)?;
        Ok(Self { mode, uid, gid, mtime, xattrs: NO_XATTRS })
    }
}

/// Where a directory's listing is, as its inode has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) block: u32,
    pub(super) offset: u16,
    pub(super) size: u32,
}

/// What a directory says of itself, without what is overlayfs's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: u32,
    pub(crate) xattrs: XattrSet,
}

/// An entry of a listing.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    /// Where its inode is.
    pub(crate) reference: u64,
    pub(crate) is_directory: bool,
}

/// A listing, in the order of names. It is read as it is needed, whatever its length.
#[derive(Debug)]
pub(crate) struct Listing<'a> {
    at: Cursor<'a>,
    /// Bytes that were not read.
    left: u32,
    /// Entries under the header that was read last, and the block of their inodes.
    run: u32,
    start: u32,
}

impl Listing<'_> {
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, ReadError> {
        if self.run == 0 {
            if self.left == 0 {
                return Ok(None);
            }
            let count = self.at.word()?;
            self.start = self.at.word()?;
            self.at.skip(4)?;
            self.left = self.left.saturating_sub(12);
            self.run = count.saturating_add(1);
        }
        let place = self.at.short()?;
        self.at.skip(2)?;
        let kind = self.at.short()?;
        let length = self.at.short()?.saturating_add(1);
        let name = self.at.bytes(length.into())?;
        let taken = 8 + u32::from(length);
        self.left = self.left.checked_sub(taken).ok_or(ReadError::Damaged("a directory runs over its end"))?;
        self.run -= 1;
        let reference = u64::from(self.start) << 16 | u64::from(place);
        Ok(Some(Entry { name, reference, is_directory: kind == DIRECTORY }))
    }

    /// Gives back what is kept of the table; it is read again when it is needed.
    pub(crate) fn rest(&mut self) {
        self.at.rest();
    }
}

impl Image {
    pub(super) fn directory(&self, place: Place, head: Head, xattrs: u32) -> Result<Directory, ReadError> {
        let set = self.xattrs(xattrs)?;
        let has = |(name, value): (&[u8], &[u8])| set.get(name).is_some_and(|there| **there == *value);
        Ok(Directory {
            block: self.directories.saturating_add(place.block.into()),
            offset: place.offset,
            size: place.size,
            head: Head { xattrs, ..head },
            opaque: has(overlay::OPAQUE),
            unlisted: has(overlay::UNLISTED),
        })
    }

    pub(crate) fn listing(&self, directory: &Directory) -> Listing<'_> {
        let Directory { block, offset, size, .. } = directory;
        // The length counts `.` and `..`, which are not there.
        Listing { at: self.cursor(*block, *offset), left: size.saturating_sub(3), run: 0, start: 0 }
    }

    /// Finds a name in a directory's listing.
    pub(crate) fn lookup(&self, directory: &Directory, wanted: &[u8]) -> Result<Option<Node>, ReadError> {
        if directory.size > LISTING_MAX {
            return Err(ReadError::Damaged("a directory is too long"));
        }
        let mut listing = self.listing(directory);
        while let Some(entry) = listing.next()? {
            if entry.name == wanted {
                return self.node(entry.reference).map(Some);
            }
        }
        Ok(None)
    }

    /// All that a directory says of itself.
    pub(crate) fn describe(&self, directory: &Directory) -> Result<Description, ReadError> {
        let Head { mode, uid, gid, mtime, xattrs } = directory.head;
        let mut set = self.xattrs(xattrs)?;
        set.retain(|name, _| !name.starts_with(overlay::PRIVATE));
        Ok(Description { mode, uid: self.id(uid)?, gid: self.id(gid)?, mtime, xattrs: set })
    }

    /// An owner by its place in the table.
    fn id(&self, place: u16) -> Result<u32, ReadError> {
        let place = u32::from(place);
        let block = self.ids.saturating_add(u64::from(place / IDS) * 8);
        self.cursor(table::long_at(&self.file, block)?, (place % IDS * 4) as u16).word()
    }
}

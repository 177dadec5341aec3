//! Listings of directories: entries in runs under a header each, and an index for those of many entries.

use super::metadata::{MetadataWriter, Position};
use super::{ImageError, spec};

/// An entry of a directory, and where its inode is.
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) inode: Position,
    pub(super) number: u32,
    pub(super) kind: u16,
}

/// Where a listing is.
pub(super) struct Listing {
    pub(super) start: Position,
    /// As inodes tell it: with the bytes that are not there.
    pub(super) size: u32,
    pub(super) index: Vec<IndexEntry>,
}

/// The first header that begins a further block of the table.
pub(super) struct IndexEntry {
    /// Of the header in the listing.
    pub(super) offset: u32,
    /// Of the header's block in the table.
    pub(super) block: u32,
    /// The first name under it.
    pub(super) name: Vec<u8>,
}

const HEADER_BYTES: usize = 12;
const ENTRY_BYTES: usize = 8;

/// Writes the listing of a directory whose entries are in the order of their names.
pub(super) fn write(entries: &[Entry<'_>], table: &mut MetadataWriter) -> Result<Listing, ImageError> {
    let mut listing = Listing { start: table.position()?, size: 0, index: Vec::new() };
    let mut rest = entries;
    let mut indexed = 0;
    while let Some(first) = rest.first() {
        if listing.size as usize + HEADER_BYTES + ENTRY_BYTES + first.name.len() - indexed > spec::METADATA_BYTES {
            let block = table.position()?.block;
            listing.index.push(IndexEntry { offset: listing.size, block, name: first.name.to_vec() });
            indexed = listing.size as usize;
        }
        let (run, later) = rest.split_at(run_length(rest, spec::METADATA_BYTES - (listing.size as usize - indexed)));
        let bytes = write_run(first, run, table)?;
        let too_large = ImageError::TooLarge { what: "a directory" };
        listing.size = listing.size.checked_add(bytes).ok_or(too_large)?;
        rest = later;
    }
    let too_large = ImageError::TooLarge { what: "a directory" };
    listing.size = listing.size.checked_add(spec::LISTING_EXTRA).ok_or(too_large)?;
    Ok(listing)
}

/// How many entries can share a header: their inodes are in one block and their numbers near, and `room` bytes are not exceeded. One
/// at least.
fn run_length(entries: &[Entry<'_>], room: usize) -> usize {
    let Some(first) = entries.first() else { return 0 };
    let mut bytes = HEADER_BYTES;
    let fits = |entry: &&Entry<'_>| {
        bytes += ENTRY_BYTES + entry.name.len();
        let near = i16::try_from(i64::from(entry.number) - i64::from(first.number)).is_ok();
        bytes <= room && near && entry.inode.block == first.inode.block
    };
    entries.iter().take(spec::RUN_ENTRIES).take_while(fits).count().max(1)
}

/// Writes a header and its entries; gives their bytes.
fn write_run(first: &Entry<'_>, run: &[Entry<'_>], table: &mut MetadataWriter) -> Result<u32, ImageError> {
    let too_large = |_| ImageError::TooLarge { what: "a run of directory entries" };
    let mut bytes = Vec::new();
    let count = u32::try_from(run.len().saturating_sub(1)).map_err(too_large)?;
    for word in [count, first.inode.block, first.number] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    for entry in run {
        let apart = i16::try_from(i64::from(entry.number) - i64::from(first.number)).map_err(too_large)?;
        let name_size = u16::try_from(entry.name.len().saturating_sub(1)).map_err(too_large)?;
        bytes.extend_from_slice(&entry.inode.offset.to_le_bytes());
        bytes.extend_from_slice(&apart.to_le_bytes());
        bytes.extend_from_slice(&entry.kind.to_le_bytes());
        bytes.extend_from_slice(&name_size.to_le_bytes());
        bytes.extend_from_slice(entry.name);
    }
    table.write(&bytes)?;
    u32::try_from(bytes.len()).map_err(too_large)
}

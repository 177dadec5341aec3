//! Entries: headers put together with the extended ones before them.

use std::collections::BTreeMap;
use std::io::Read;

use super::header::{self, Header, kind};
use super::pax::{self, Extended, Records};
use super::sparse::{self, Map};
use super::stream::{BLOCK, Stream};
use super::{EntryError, TarError};
use crate::caps::{Budget, Caps};
use crate::squashfs::{Device, XattrSet};

/// Bytes of all global extended headers: they are read again for each entry.
const GLOBAL_BYTES: usize = 64 << 10;

/// An entry whose content comes next in the archive.
pub(super) struct Entry {
    /// As it is told.
    pub(super) path: Vec<u8>,
    pub(super) what: What,
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds since 1970.
    pub(super) mtime: i64,
    pub(super) xattrs: XattrSet,
    /// It has an access control list.
    pub(super) acl: bool,
    /// Bytes that follow in the archive.
    pub(super) stored: u64,
}

/// What an entry is.
pub(super) enum What {
    Directory,
    File(Map),
    HardLink(Vec<u8>),
    Symlink(Vec<u8>),
    Character(Device),
    Block(Device),
    Fifo,
}

/// Reads entries.
pub(super) struct Entries<R> {
    stream: Stream<R>,
    path_bytes: usize,
    header_bytes: usize,
    /// Records that hold for all entries from now on, and the bytes of their headers.
    global: BTreeMap<Vec<u8>, Vec<u8>>,
    global_bytes: usize,
    /// The name of the entry that came last, and whether `next` is in the middle of it.
    last_name: Vec<u8>,
    in_entry: bool,
    marked_end: bool,
}

/// What stood before a header and belongs to it.
#[derive(Default)]
struct Before {
    records: Records,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: Read> Entries<R> {
    pub(super) fn new(stream: Stream<R>, caps: &Caps) -> Self {
        let Caps { bytes: _, entries: _, path_bytes, xattr_bytes: _, header_bytes } = *caps;
        let (global, last_name) = (BTreeMap::new(), Vec::new());
        Self {
            stream,
            path_bytes,
            header_bytes,
            global,
            global_bytes: 0,
            last_name,
            in_entry: false,
            marked_end: false,
        }
    }

    /// Where an entry's content is.
    pub(super) fn stream(&mut self) -> &mut Stream<R> {
        &mut self.stream
    }

    /// An error of `next` with the name of what it is about.
    pub(super) fn error(&self, source: EntryError) -> TarError {
        let name = String::from_utf8_lossy(&self.last_name).into_owned();
        match self.in_entry {
            true => TarError::Entry { name, source },
            false => TarError::Header { after: name, source },
        }
    }

    /// The archive's end was marked.
    pub(super) fn marked_end(&self) -> bool {
        self.marked_end
    }

    /// The next entry; none at the end. The content of the one before must have been read or passed over.
    pub(super) fn next(&mut self, budget: &mut Budget) -> Result<Option<Entry>, EntryError> {
        let mut before = Before::default();
        self.in_entry = false;
        while let Some(header) = self.header()? {
            let size = || length(header.size(), "size");
            match header.kind() {
                kind::EXTENDED => before.records = pax::parse(&self.keep(size()?)?)?,
                kind::GLOBAL => self.global(size()?)?,
                kind::LONG_NAME => before.long_name = Some(self.keep_text(size()?)?),
                kind::LONG_LINK => before.long_link = Some(self.keep_text(size()?)?),
                kind::VOLUME => self.stream.skip(size()?, budget)?,
                _ => return self.entry(&header, before).map(Some),
            }
        }
        // An extended header without an entry is one that was cut off.
        match before {
            Before { records, long_name: None, long_link: None } if records.is_empty() => Ok(None),
            _ => Err(EntryError::Truncated),
        }
    }

    /// The next header; none at the end.
    fn header(&mut self) -> Result<Option<Header>, EntryError> {
        let Some(block) = self.stream.block()? else { return Ok(None) };
        if block != [0; BLOCK] {
            return Header::new(block).map(Some);
        }
        if self.stream.block()?.is_some_and(|second| second != [0; BLOCK]) {
            return Err(EntryError::LoneZeros);
        }
        self.marked_end = true;
        Ok(None)
    }

    fn keep(&mut self, size: u64) -> Result<Vec<u8>, EntryError> {
        let cap = self.header_bytes;
        let size = usize::try_from(size).ok().filter(|size| *size <= cap);
        self.stream.keep(size.ok_or(EntryError::Long { what: "extended header", cap })?)
    }

    /// A name of its own.
    fn keep_text(&mut self, size: u64) -> Result<Vec<u8>, EntryError> {
        let cap = self.path_bytes;
        // With the zero byte at its end.
        let size = usize::try_from(size).ok().filter(|size| *size <= cap.saturating_add(1));
        let text = self.stream.keep(size.ok_or(EntryError::Long { what: "path", cap })?)?;
        Ok(header::text(&text).to_vec())
    }

    fn global(&mut self, size: u64) -> Result<(), EntryError> {
        let bytes = self.keep(size)?;
        self.global_bytes = self.global_bytes.saturating_add(bytes.len());
        if self.global_bytes > GLOBAL_BYTES {
            return Err(EntryError::Long { what: "sum of global extended headers", cap: GLOBAL_BYTES });
        }
        self.global.extend(pax::parse(&bytes)?);
        Ok(())
    }

    fn entry(&mut self, header: &Header, before: Before) -> Result<Entry, EntryError> {
        let mut extended = Extended::new(&self.global, &before.records)?;
        let told = extended.sparse.name.take().or(extended.path.take()).or(before.long_name);
        let path = told.unwrap_or_else(|| header.name());
        self.last_name.clone_from(&path);
        self.in_entry = true;
        let link = extended.link_path.take().or(before.long_link).unwrap_or_else(|| header.link_name());
        let (what, stored) = self.what(header, &extended, &path, link)?;
        let entry = Entry {
            what,
            stored,
            mode: header.mode()?,
            uid: id(extended.uid, header.uid(), "uid")?,
            gid: id(extended.gid, header.gid(), "gid")?,
            mtime: extended.mtime.or(header.mtime()).ok_or(EntryError::Number { field: "mtime" })?,
            xattrs: extended.xattrs,
            acl: extended.acl,
            path,
        };
        self.in_entry = false;
        Ok(entry)
    }

    /// What the entry is, and how much of it follows. Entries without a content have none, whatever their size says.
    fn what(
        &mut self,
        header: &Header,
        extended: &Extended,
        path: &[u8],
        link: Vec<u8>,
    ) -> Result<(What, u64), EntryError> {
        Ok(match header.kind() {
            kind::OLD_FILE | kind::FILE | kind::CONTIGUOUS => self.file(header, extended, path)?,
            kind::SPARSE => {
                let stored = size(header, extended)?;
                (What::File(sparse::gnu(header, stored, &mut self.stream, self.header_bytes)?), stored)
            }
            kind::HARD_LINK => (What::HardLink(link), 0),
            kind::SYMLINK => (What::Symlink(link), 0),
            kind::CHARACTER => (What::Character(device(header, extended)?), 0),
            kind::BLOCK => (What::Block(device(header, extended)?), 0),
            kind::DIRECTORY => (What::Directory, 0),
            kind::FIFO => (What::Fifo, 0),
            other => return Err(EntryError::Kind(other.into())),
        })
    }

    fn file(&mut self, header: &Header, extended: &Extended, path: &[u8]) -> Result<(What, u64), EntryError> {
        let stored = size(header, extended)?;
        // So did archivers write directories before there was a type for them.
        if path.ends_with(b"/") {
            return Ok((What::Directory, stored));
        }
        match sparse::pax(&extended.sparse, stored, &mut self.stream, self.header_bytes)? {
            Some((map, stored)) => Ok((What::File(map), stored)),
            None => Ok((What::File(Map::whole(stored)), stored)),
        }
    }
}

fn size(header: &Header, extended: &Extended) -> Result<u64, EntryError> {
    extended.size.map_or_else(|| length(header.size(), "size"), Ok)
}

fn length(value: Option<i64>, field: &'static str) -> Result<u64, EntryError> {
    value.and_then(|value| u64::try_from(value).ok()).ok_or(EntryError::Number { field })
}

/// A user or group. The highest number means none to the kernel.
fn id(extended: Option<u64>, header: Option<i64>, field: &'static str) -> Result<u32, EntryError> {
    let told = extended.or(header.and_then(|id| u64::try_from(id).ok()));
    let id = told.and_then(|id| u32::try_from(id).ok()).filter(|id| *id != u32::MAX);
    id.ok_or(EntryError::Number { field })
}

fn device(header: &Header, extended: &Extended) -> Result<Device, EntryError> {
    let part = |extended: Option<u64>, header: Option<i64>| {
        let told = extended.or(header.and_then(|part| u64::try_from(part).ok()));
        told.and_then(|part| u32::try_from(part).ok()).ok_or(EntryError::Number { field: "device number" })
    };
    let major = part(extended.device_major, header.device_major())?;
    Ok(Device { major, minor: part(extended.device_minor, header.device_minor())? })
}

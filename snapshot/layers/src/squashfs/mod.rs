//! A writer of squashfs 4.0 images.
//!
//! Contents of files are written as they come ([`data`], [`pipeline`], [`layout`]); the [`tree`] is kept in memory and becomes the tables at
//! the end ([`tables`]).

mod codec;
mod data;
mod directory;
mod inode;
mod layout;
mod metadata;
mod numbering;
mod pipeline;
mod spec;
mod tables;
mod tree;
mod xattrs;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::thread;

use crate::caps::{Budget, CapError, Caps};
use crate::overlay;

pub(crate) use data::{Content, Data, FileWriter, FillError};
pub(crate) use spec::{NAME_BYTES, SYMLINK_BYTES, XATTR_PREFIXES};
pub(crate) use tree::{Attributes, Device, Kind, NodeId, Tree};
pub(crate) use xattrs::{XattrId, XattrSet, can_hold, is_sane};

/// How images are written. The same options (threads apart) and the same source give the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The compressor of data and tables.
    pub compressor: Compressor,
    /// Bytes of a data block: a power of two from 4 KiB to 1 MiB.
    pub block_size: u32,
    /// Threads that compress; 0 takes one for each processor.
    pub threads: usize,
}

/// How blocks are compressed. A block that would not become smaller is stored as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compressor {
    /// Not at all.
    None,
    /// LZ4, its fast form.
    Lz4,
    /// Zstandard.
    Zstd {
        /// From 1 to 22; mksquashfs takes 15.
        level: i32,
    },
}

impl Default for Options {
    /// LZ4, which guests unpack fast even in emulation; blocks of 128 KiB; a thread for each processor.
    fn default() -> Self {
        Self { compressor: Compressor::Lz4, block_size: 128 << 10, threads: 0 }
    }
}

impl Options {
    fn validate(&self) -> Result<(), ImageError> {
        if !self.block_size.is_power_of_two() || !spec::BLOCK_SIZES.contains(&self.block_size) {
            return Err(ImageError::BlockSize(self.block_size));
        }
        match self.compressor {
            Compressor::Zstd { level } if !(1..=22).contains(&level) => Err(ImageError::Level(level)),
            _ => Ok(()),
        }
    }

    fn threads_wanted(&self) -> usize {
        let all = || thread::available_parallelism().map_or(1, usize::from);
        if self.threads == 0 { all() } else { self.threads.min(MAX_THREADS) }
    }
}

/// More compressing threads than this are not started.
const MAX_THREADS: usize = 256;

/// What became of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Of the image, a multiple of 4096.
    pub bytes: u64,
    /// Of the image.
    pub sha256: [u8; 32],
    /// Names in the image, the root included.
    pub entries: u64,
    /// Of all files, unpacked, each inode counted once.
    pub content_bytes: u64,
    /// Files whose content was in the image already.
    pub duplicates: u64,
    /// Whiteouts that a tar's AUFS ones became.
    pub whiteouts: u64,
    /// The root itself is opaque: no layer below this one may show. The kernel's overlayfs does not look at a root's mark, so the
    /// layers below must not be mounted.
    pub root_opaque: bool,
    /// Directories below the root have no entry of their own in a tar: they are as the layers below say, see [`crate::image`].
    pub unlisted: bool,
    /// An overlay left marks in a tree that lead elsewhere in the layers below (`trusted.overlay.redirect`, `.metacopy`).
    pub redirected: bool,
    /// A tar ended without the blocks that mark its end; it is complete as far as that can be seen.
    pub unmarked_end: bool,
    /// What the image could not hold.
    pub lost: Lost,
}

/// What an image could not hold, counted in entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// POSIX access control lists, which squashfs does not have. The mode stays as it was.
    pub acls: u64,
    /// Extended attributes outside the namespaces `user`, `trusted` and `security`.
    pub xattrs: u64,
    /// Attributes `trusted.overlay.*` of a tar: an image does not command the overlay that it becomes part of.
    pub overlay_xattrs: u64,
    /// Times before 1970 or after 2106, which became the nearest that there is. Fractions of seconds are not counted.
    pub times: u64,
}

/// Errors with images.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The block size is none.
    #[error("a block size of {0} is no power of two from 4096 to 1048576")]
    BlockSize(u32),
    /// The level is none.
    #[error("zstd has no level {0}: they are 1 to 22")]
    Level(i32),
    /// Threads cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// The image cannot be written; `StorageFull` is a full disk.
    #[error("cannot write the image")]
    Write(#[source] io::Error),
    /// What was written of the image cannot be read.
    #[error("cannot read the image back")]
    Read(#[source] io::Error),
    /// A compressor failed.
    #[error("cannot compress")]
    Compress(#[source] io::Error),
    /// A thread ended before its work did.
    #[error("a thread that writes the image ended early")]
    Ended,
    /// A cap on the source.
    #[error(transparent)]
    Cap(#[from] CapError),
    /// A limit of squashfs.
    #[error("{what} is too large for squashfs")]
    TooLarge {
        /// What is.
        what: &'static str,
    },
    /// A limit of squashfs.
    #[error("more different users and groups than the 65535 that squashfs can hold")]
    TooManyIds,
    /// A limit of squashfs.
    #[error("squashfs cannot hold the device number {major}:{minor}")]
    Device {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
}

/// An image that is being written.
pub(crate) struct ImageWriter {
    out: Arc<File>,
    options: Options,
    xattrs: xattrs::Xattrs,
    pub(crate) data: Data,
    pub(crate) tree: Tree,
    pub(crate) budget: Budget,
    pub(crate) lost: Lost,
    pub(crate) whiteouts: u64,
    pub(crate) root_opaque: bool,
    pub(crate) unlisted: bool,
    pub(crate) redirected: bool,
    pub(crate) unmarked_end: bool,
}

impl ImageWriter {
    pub(crate) fn new(out: File, options: &Options, caps: &Caps) -> Result<Self, ImageError> {
        options.validate()?;
        let out = Arc::new(out);
        let start = tables::write_options(&out, options)?;
        Ok(Self {
            data: Data::new(Arc::clone(&out), start, options)?,
            out,
            options: options.clone(),
            xattrs: xattrs::Xattrs::default(),
            tree: Tree::new(),
            budget: Budget::new(caps),
            lost: Lost::default(),
            whiteouts: 0,
            root_opaque: false,
            unlisted: false,
            redirected: false,
            unmarked_end: false,
        })
    }

    /// Adds a node that nothing names yet.
    pub(crate) fn add(&mut self, attributes: Attributes, kind: Kind) -> Result<NodeId, ImageError> {
        if let Kind::Character(device) | Kind::Block(device) = &kind {
            inode::encode(*device)?;
        }
        let too_many = ImageError::TooLarge { what: "the number of inodes" };
        self.tree.add(attributes, kind).ok_or(too_many)
    }

    /// Begins a file's content.
    pub(crate) fn begin(&mut self, size: u64) -> Result<FileWriter<'_>, ImageError> {
        self.budget.bytes(size)?;
        Ok(self.data.begin(size))
    }

    /// Keeps a set of extended attributes, but for those that an image cannot hold, which are counted.
    pub(crate) fn keep_xattrs(&mut self, mut set: XattrSet) -> Result<Option<XattrId>, ImageError> {
        let (mut acl, mut other) = (false, false);
        set.retain(|name, _| {
            let held = xattrs::can_hold(name);
            acl |= !held && name.starts_with(b"system.posix_acl_");
            other |= !held && !name.starts_with(b"system.posix_acl_");
            held
        });
        self.lost.acls += u64::from(acl);
        self.lost.xattrs += u64::from(other);
        let Some((id, bytes)) = self.xattrs.intern(set)? else { return Ok(None) };
        self.budget.xattrs(bytes)?;
        Ok(Some(id))
    }

    /// Marks the directories that nothing has described, for those who look at what lies below.
    pub(crate) fn mark_unlisted(&mut self) -> Result<(), ImageError> {
        for node in self.tree.ids() {
            let Attributes { unlisted: true, xattrs, .. } = self.tree.node(node).attributes else { continue };
            let mut set = self.xattr_set(xattrs);
            set.insert(overlay::UNLISTED.0.into(), overlay::UNLISTED.1.into());
            self.tree.node_mut(node).attributes.xattrs = self.keep_xattrs(set)?;
            self.unlisted |= node != NodeId::ROOT;
        }
        Ok(())
    }

    /// The set behind a number.
    pub(crate) fn xattr_set(&self, id: Option<XattrId>) -> XattrSet {
        self.xattrs.set(id)
    }

    /// Seconds since 1970 as an image has them.
    pub(crate) fn mtime(&mut self, seconds: i64) -> u32 {
        match u32::try_from(seconds) {
            Ok(seconds) => seconds,
            Err(_) => {
                self.lost.times += 1;
                if seconds < 0 { 0 } else { u32::MAX }
            }
        }
    }

    /// Writes what is left of the image.
    pub(crate) fn finish(self) -> Result<Summary, ImageError> {
        let Self {
            out,
            options,
            xattrs,
            data,
            tree,
            lost,
            whiteouts,
            root_opaque,
            unlisted,
            redirected,
            unmarked_end,
            ..
        } = self;
        let stored = data.finish()?;
        let done = tables::write(&out, &options, &tree, &xattrs, &stored.written)?;
        Ok(Summary {
            bytes: done.bytes,
            sha256: tables::digest(&out, done.bytes)?,
            entries: done.entries,
            content_bytes: stored.bytes,
            duplicates: stored.duplicates,
            whiteouts,
            root_opaque,
            unlisted,
            redirected,
            unmarked_end,
            lost,
        })
    }
}

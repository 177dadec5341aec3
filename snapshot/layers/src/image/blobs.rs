//! The files of an image, in a directory or in an archive, and reading them with their digests checked.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use sha2::{Digest as _, Sha256};

use super::archive::Archive;
use super::documents::{DOCUMENT_MAX, Descriptor};
use super::{ImageError, error};
use crate::digest::Digest;

/// Bytes that are read at once to the end of something.
const CHUNK: usize = 1 << 16;

/// Where the files are.
#[derive(Debug)]
pub(super) enum Blobs {
    Directory { dir: OwnedFd, path: PathBuf },
    Archive(Archive),
}

impl Blobs {
    pub(super) fn directory(path: &Path) -> Result<Self, ImageError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, path, flags, Mode::empty()).map_err(|errno| ImageError::Io {
            what: "open",
            path: path.to_owned(),
            source: errno.into(),
        })?;
        Ok(Self::Directory { dir, path: path.to_owned() })
    }

    pub(super) fn archive(path: &Path) -> Result<Self, ImageError> {
        Archive::open(path).map(Self::Archive)
    }

    /// A file and its length.
    pub(super) fn open(&self, name: &str) -> Result<(Box<dyn Read + '_>, u64), ImageError> {
        let missing = || ImageError::Missing { name: name.to_owned() };
        match self {
            Self::Archive(archive) => {
                let (section, size) = archive.file(name).ok_or_else(missing)?;
                Ok((Box::new(section), size))
            }
            Self::Directory { dir, path } => {
                let io = |source| ImageError::Io { what: "open", path: path.join(name), source };
                let file = match open_below(dir, name) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
                    other => other.map_err(io)?,
                };
                let found = file.metadata().map_err(io)?;
                if !found.is_file() {
                    return Err(error::refused(name, "no regular file"));
                }
                Ok((Box::new(file), found.len()))
            }
        }
    }

    /// A short file as a whole.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let (file, size) = self.open(name)?;
        if size > DOCUMENT_MAX {
            return Err(ImageError::TooLong { what: name.to_owned(), cap: DOCUMENT_MAX });
        }
        let mut bytes = Vec::new();
        let read = file.take(DOCUMENT_MAX).read_to_end(&mut bytes);
        read.map_err(|source| ImageError::Io { what: "read", path: name.into(), source })?;
        Ok(bytes)
    }

    /// A short blob as a whole, checked.
    pub(super) fn document(&self, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>, ImageError> {
        let digest = descriptor.parsed(what)?;
        if descriptor.size > DOCUMENT_MAX {
            return Err(ImageError::TooLong { what: format!("{what} {digest}"), cap: DOCUMENT_MAX });
        }
        let bytes = self.read(&blob_name(&digest))?;
        let what = || format!("{what} {digest}");
        check_size(&what, bytes.len() as u64, descriptor.size)?;
        check_digest(&what, Digest::of(&bytes), digest)?;
        Ok(bytes)
    }
}

impl Descriptor {
    pub(super) fn parsed(&self, what: &str) -> Result<Digest, ImageError> {
        self.digest.parse().map_err(|source| ImageError::Digest { what: what.to_owned(), source })
    }
}

/// A name that only a digest can have made.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Opens a file by a path without `..`, following no link; never waits for a peer.
fn open_below(dir: &OwnedFd, name: &str) -> io::Result<File> {
    let (dirs, file) = name.rsplit_once('/').unwrap_or(("", name));
    let mut below: Option<OwnedFd> = None;
    for part in dirs.split('/').filter(|part| !part.is_empty()) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        below = Some(openat(below.as_ref().unwrap_or(dir), part, flags, Mode::empty())?);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(openat(below.as_ref().unwrap_or(dir), file, flags, Mode::empty())?.into())
}

pub(super) fn check_size(what: &dyn Fn() -> String, found: u64, wanted: u64) -> Result<(), ImageError> {
    if found == wanted { Ok(()) } else { Err(ImageError::WrongSize { what: what(), found, wanted }) }
}

pub(super) fn check_digest(what: &dyn Fn() -> String, found: Digest, wanted: Digest) -> Result<(), ImageError> {
    if found == wanted { Ok(()) } else { Err(ImageError::WrongDigest { what: what(), found, wanted }) }
}

/// A reader that digests what passes, and lets no more pass than a cap.
pub(super) struct Digesting<R> {
    inner: R,
    hash: Sha256,
    passed: u64,
    cap: u64,
    /// Whether there was more than the cap.
    pub(super) over: bool,
}

impl<R: Read> Digesting<R> {
    pub(super) fn new(inner: R, cap: u64) -> Self {
        Self { inner, hash: Sha256::new(), passed: 0, cap, over: false }
    }

    /// Reads what is left; gives the digest of all.
    pub(super) fn finish(&mut self) -> io::Result<Digest> {
        let mut chunk = vec![0; CHUNK];
        while self.read(&mut chunk)? > 0 {}
        Ok(Digest::new(self.hash.clone().finalize().into()))
    }
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = loop {
            match self.inner.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.hash.update(buffer.get(..count).unwrap_or_default());
        self.passed = self.passed.saturating_add(count as u64);
        if self.passed > self.cap {
            self.over = true;
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than its cap"));
        }
        Ok(count)
    }
}

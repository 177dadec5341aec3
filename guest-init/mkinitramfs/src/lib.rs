//! Writes the guest's initramfs: a reproducible newc archive.
//!
//! The same input gives the same bytes: entries are in the order given, owned by root, with inode numbers counted
//! from one and no time.

mod spec;
#[cfg(test)]
mod tests;

use spec::{ALIGN, MAGIC, S_IFCHR, S_IFDIR, S_IFREG, TRAILER};

/// Errors of [`Archive`].
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The name cannot be in an archive: it is empty, absolute, or has `..` or a zero byte in it.
    #[error("{name:?} is not a name for an archive entry")]
    Name {
        /// The name.
        name: String,
    },
    /// A length or count does not fit the format's 32-bit fields.
    #[error("{name:?} is too large for an archive")]
    TooLarge {
        /// The entry.
        name: String,
    },
}

/// A newc archive under construction.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

/// What differs between entries.
#[derive(Debug, Clone, Copy, Default)]
struct Entry<'a> {
    mode: u32,
    links: u32,
    device: (u32, u32),
    content: &'a [u8],
}

impl Archive {
    /// An archive without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the root directory itself these permission bits.
    pub fn root(&mut self, permissions: u32) -> Result<(), ArchiveError> {
        self.counted(".", Entry { mode: S_IFDIR | (permissions & 0o7777), links: 2, ..Entry::default() })
    }

    /// Adds a directory with these permission bits. Parents come before what is in them.
    pub fn directory(&mut self, name: &str, permissions: u32) -> Result<(), ArchiveError> {
        self.named(name, Entry { mode: S_IFDIR | (permissions & 0o7777), links: 2, ..Entry::default() })
    }

    /// Adds a character device.
    pub fn character_device(&mut self, name: &str, permissions: u32, device: (u32, u32)) -> Result<(), ArchiveError> {
        self.named(name, Entry { mode: S_IFCHR | (permissions & 0o7777), links: 1, device, ..Entry::default() })
    }

    /// Adds a regular file.
    pub fn file(&mut self, name: &str, permissions: u32, content: &[u8]) -> Result<(), ArchiveError> {
        self.named(name, Entry { mode: S_IFREG | (permissions & 0o7777), links: 1, content, ..Entry::default() })
    }

    /// The archive's bytes, with the trailer.
    pub fn finish(mut self) -> Result<Vec<u8>, ArchiveError> {
        self.entry(TRAILER, 0, Entry { links: 1, ..Entry::default() })?;
        Ok(self.bytes)
    }

    fn named(&mut self, name: &str, entry: Entry<'_>) -> Result<(), ArchiveError> {
        let bad_part = |part: &str| part.is_empty() || part == "." || part == "..";
        if name.split('/').any(bad_part) || name.contains('\0') || name == TRAILER {
            return Err(ArchiveError::Name { name: name.to_owned() });
        }
        self.counted(name, entry)
    }

    fn counted(&mut self, name: &str, entry: Entry<'_>) -> Result<(), ArchiveError> {
        let too_large = || ArchiveError::TooLarge { name: name.to_owned() };
        let inode = self.entries.checked_add(1).ok_or_else(too_large)?;
        self.entries = inode;
        self.entry(name, inode, entry)
    }

    fn entry(&mut self, name: &str, inode: u32, entry: Entry<'_>) -> Result<(), ArchiveError> {
        let Entry { mode, links, device: (major, minor), content } = entry;
        let field = |len: usize| u32::try_from(len).map_err(|_| ArchiveError::TooLarge { name: name.to_owned() });
        let (size, name_size) = (field(content.len())?, field(name.len().saturating_add(1))?);
        // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
        let fields = [inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0];
        self.bytes.extend_from_slice(MAGIC.as_bytes());
        for value in fields {
            self.bytes.extend_from_slice(format!("{value:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN), 0);
    }
}

/// The guest's initramfs: PID 1, the agent, the console that PID 1 speaks to, and empty directories to mount on.
pub fn initramfs(init: &[u8], agent: &[u8]) -> Result<Vec<u8>, ArchiveError> {
    let mut archive = Archive::new();
    archive.root(0o755)?;
    for directory in ["dev", "proc", "run", "sbin", "sys"] {
        archive.directory(directory, 0o755)?;
    }
    archive.directory("tmp", 0o1777)?;
    archive.character_device("dev/console", 0o600, (5, 1))?;
    archive.file("init", 0o755, init)?;
    archive.file("sbin/supermachine-agent", 0o755, agent)?;
    archive.finish()
}

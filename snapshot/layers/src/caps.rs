//! Caps on what a source may ask for, and the count of what it has asked for.

/// What a source may at most hold. Memory grows with `entries`, `xattr_bytes` and, by 4 bytes for each block, with `bytes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caps {
    /// Bytes of all files, unpacked, holes included. Of a tar also the bytes after its end.
    pub bytes: u64,
    /// Names, those of missing parent directories included.
    pub entries: u64,
    /// Bytes of the path of an entry, or of what a link names.
    pub path_bytes: usize,
    /// Bytes of the names and values of all extended attributes, sets that are equal counted once.
    pub xattr_bytes: u64,
    /// Bytes of one extended header of a tar, or of one map of a sparse file. All global ones together may have 64 KiB.
    pub header_bytes: usize,
}

impl Default for Caps {
    /// 256 GiB, 4 Mi entries, paths of 16 KiB, 64 MiB of extended attributes, extended headers of 1 MiB.
    fn default() -> Self {
        Self { bytes: 256 << 30, entries: 4 << 20, path_bytes: 16 << 10, xattr_bytes: 64 << 20, header_bytes: 1 << 20 }
    }
}

/// A source holds more than it may.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("more {what} than the cap of {cap}")]
pub struct CapError {
    /// What there is too much of.
    pub what: &'static str,
    /// The cap.
    pub cap: u64,
}

/// What is left of the caps.
#[derive(Debug)]
pub(crate) struct Budget {
    caps: Caps,
    bytes: u64,
    entries: u64,
    xattr_bytes: u64,
}

impl Budget {
    pub(crate) fn new(caps: &Caps) -> Self {
        Self { caps: caps.clone(), bytes: 0, entries: 0, xattr_bytes: 0 }
    }

    pub(crate) fn caps(&self) -> &Caps {
        &self.caps
    }

    pub(crate) fn bytes(&mut self, more: u64) -> Result<(), CapError> {
        spend(&mut self.bytes, more, self.caps.bytes, "bytes")
    }

    pub(crate) fn entry(&mut self) -> Result<(), CapError> {
        spend(&mut self.entries, 1, self.caps.entries, "entries")
    }

    pub(crate) fn xattrs(&mut self, more: u64) -> Result<(), CapError> {
        spend(&mut self.xattr_bytes, more, self.caps.xattr_bytes, "bytes of extended attributes")
    }
}

fn spend(spent: &mut u64, more: u64, cap: u64, what: &'static str) -> Result<(), CapError> {
    let sum = spent.saturating_add(more);
    if sum > cap {
        return Err(CapError { what, cap });
    }
    *spent = sum;
    Ok(())
}

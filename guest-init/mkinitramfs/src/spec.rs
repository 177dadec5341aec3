//! The newc archive format, as `Documentation/driver-api/early-userspace/buffer-format.rst` of Linux gives it.

/// `c_magic`: newc, without checksums.
pub(crate) const MAGIC: &str = "070701";
/// Bytes of a header: the magic and 13 fields of 8 hexadecimal digits.
#[cfg(test)]
pub(crate) const HEADER_LEN: usize = 110;
/// Names and contents are padded to this many bytes.
pub(crate) const ALIGN: usize = 4;
/// The name of the last entry.
pub(crate) const TRAILER: &str = "TRAILER!!!";

/// Type bits of `c_mode` for a directory.
pub(crate) const S_IFDIR: u32 = 0o040_000;
/// Type bits of `c_mode` for a character device.
pub(crate) const S_IFCHR: u32 = 0o020_000;
/// Type bits of `c_mode` for a regular file.
pub(crate) const S_IFREG: u32 = 0o100_000;

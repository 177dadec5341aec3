//! Numbers of the squashfs 4.0 format, as the kernel's reader has them (`fs/squashfs/squashfs_fs.h` in Linux).

pub(super) const MAGIC: u32 = 0x7371_7368;
pub(super) const SUPERBLOCK_BYTES: u64 = 96;
pub(super) const MAJOR: u16 = 4;
pub(super) const MINOR: u16 = 0;

/// `SQUASHFS_METADATA_SIZE`: a block of a table before it is compressed.
pub(super) const METADATA_BYTES: usize = 8192;
/// In the header of a block of a table: what follows is not compressed.
pub(super) const METADATA_RAW: u16 = 1 << 15;
/// `SQUASHFS_BLOCK_SIZE` bit of a data block: what is there is not compressed.
pub(super) const BLOCK_RAW: u32 = 1 << 24;
pub(super) const BLOCK_SIZES: std::ops::RangeInclusive<u32> = 4096..=1 << 20;

/// `SQUASHFS_INVALID_BLK`: there is no such table.
pub(super) const NO_TABLE: u64 = u64::MAX;
/// `SQUASHFS_INVALID_FRAG`: the file ends with a block of its own.
pub(super) const NO_FRAGMENT: u32 = u32::MAX;
/// `SQUASHFS_INVALID_XATTR`.
pub(super) const NO_XATTRS: u32 = u32::MAX;

/// Bits of the superblock's flags.
pub(super) mod flags {
    pub(in super::super) const RAW_INODES: u16 = 1 << 0;
    pub(in super::super) const RAW_DATA: u16 = 1 << 1;
    pub(in super::super) const RAW_FRAGMENTS: u16 = 1 << 3;
    pub(in super::super) const DUPLICATES: u16 = 1 << 6;
    pub(in super::super) const EXPORTABLE: u16 = 1 << 7;
    pub(in super::super) const RAW_XATTRS: u16 = 1 << 8;
    pub(in super::super) const NO_XATTRS: u16 = 1 << 9;
    pub(in super::super) const COMPRESSOR_OPTIONS: u16 = 1 << 10;
    pub(in super::super) const RAW_IDS: u16 = 1 << 11;
}

/// Numbers of the compressors.
pub(super) mod compressor {
    pub(in super::super) const ZLIB: u16 = 1;
    pub(in super::super) const LZ4: u16 = 5;
    pub(in super::super) const ZSTD: u16 = 6;
}

/// `LZ4_LEGACY`: the only version of LZ4 blocks.
pub(super) const LZ4_VERSION: u32 = 1;

/// Types of inodes; those with more fields have `LONG` added. Directory entries name the short ones.
pub(super) mod kind {
    pub(in super::super) const DIRECTORY: u16 = 1;
    pub(in super::super) const FILE: u16 = 2;
    pub(in super::super) const SYMLINK: u16 = 3;
    pub(in super::super) const BLOCK: u16 = 4;
    pub(in super::super) const CHARACTER: u16 = 5;
    pub(in super::super) const FIFO: u16 = 6;
    pub(in super::super) const SOCKET: u16 = 7;
    pub(in super::super) const LONG: u16 = 7;
}

/// Entries under one header of a directory, at most.
pub(super) const RUN_ENTRIES: usize = 256;
/// A listing's size counts `.` and `..` as three bytes that are not there.
pub(super) const LISTING_EXTRA: u32 = 3;
pub(crate) const NAME_BYTES: usize = 255;
/// The kernel refuses a link whose target does not fit a page with its end.
pub(crate) const SYMLINK_BYTES: usize = 4095;

/// Namespaces of extended attributes and their numbers.
pub(crate) const XATTR_PREFIXES: [(&[u8], u16); 3] = [(b"user.", 0), (b"trusted.", 1), (b"security.", 2)];
/// What Linux allows: `XATTR_NAME_MAX`, `XATTR_SIZE_MAX`.
pub(super) const XATTR_NAME_BYTES: usize = 255;
pub(super) const XATTR_VALUE_BYTES: usize = 65536;

/// Of a device's number 12 bits are the major, 20 the minor: the kernel's `new_encode_dev`.
pub(super) const MAJOR_MAX: u32 = (1 << 12) - 1;
pub(super) const MINOR_MAX: u32 = (1 << 20) - 1;

/// Images are whole pages, so whole sectors of any disk.
pub(super) const IMAGE_ALIGN: u64 = 4096;

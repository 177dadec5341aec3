//! What a file system tells of a file, in types that are the same on every system.

use rustix::fs::{FileType, Stat as RawStat};

use crate::squashfs::Device;

/// What a file system tells of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) kind: FileType,
    /// Device and inode.
    pub(super) id: (u64, u64),
    pub(super) links: u64,
    /// The twelve bits of permissions.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    /// Bytes that are stored.
    pub(super) stored: u64,
    /// Seconds and nanoseconds.
    pub(super) mtime: (i64, i64),
    ctime: (i64, i64),
    pub(super) device: Device,
}

impl Stat {
    /// Whether nothing was written or changed since `before`. Reading is no change.
    pub(super) fn unchanged(&self, before: &Self) -> bool {
        let what = |stat: &Self| (stat.kind, stat.id, stat.size, stat.mtime, stat.ctime);
        what(self) == what(before)
    }
}

#[allow(clippy::unnecessary_cast, reason = "the fields' types differ between systems")]
impl From<RawStat> for Stat {
    fn from(raw: RawStat) -> Self {
        Self {
            kind: FileType::from_raw_mode(raw.st_mode),
            id: (raw.st_dev as u64, raw.st_ino as u64),
            links: raw.st_nlink as u64,
            mode: (raw.st_mode & 0o7777) as u16,
            uid: raw.st_uid,
            gid: raw.st_gid,
            size: raw.st_size as u64,
            stored: (raw.st_blocks as u64).saturating_mul(512),
            mtime: (raw.st_mtime as i64, raw.st_mtime_nsec as i64),
            ctime: (raw.st_ctime as i64, raw.st_ctime_nsec as i64),
            device: Device {
                major: rustix::fs::major(raw.st_rdev) as u32,
                minor: rustix::fs::minor(raw.st_rdev) as u32,
            },
        }
    }
}

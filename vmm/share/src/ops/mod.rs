//! The requests, one method of [`crate::Server`] each.

mod attributes;
mod entries;
mod files;
mod lookup;
mod make;
mod open;
mod readdir;
mod session;
mod xattr;

use crate::spec::{self, Wire};

/// The room that a reply needs for a request to be carried out at all. What depends on the request is checked there.
pub(crate) fn least_room(opcode: u32) -> usize {
    match opcode {
        spec::FUSE_LOOKUP | spec::FUSE_MKNOD | spec::FUSE_MKDIR | spec::FUSE_SYMLINK | spec::FUSE_LINK => {
            spec::fuse_entry_out::SIZE
        }
        spec::FUSE_CREATE | spec::FUSE_TMPFILE => spec::fuse_entry_out::SIZE + spec::fuse_open_out::SIZE,
        spec::FUSE_GETATTR | spec::FUSE_SETATTR => spec::fuse_attr_out::SIZE,
        spec::FUSE_STATX => spec::fuse_statx_out::SIZE,
        spec::FUSE_OPEN | spec::FUSE_OPENDIR => spec::fuse_open_out::SIZE,
        spec::FUSE_WRITE | spec::FUSE_COPY_FILE_RANGE => spec::fuse_write_out::SIZE,
        spec::FUSE_STATFS => spec::fuse_kstatfs::SIZE,
        spec::FUSE_LSEEK => spec::fuse_lseek_out::SIZE,
        spec::FUSE_INIT => spec::fuse_init_out::SIZE,
        _ => 0,
    }
}

//! Structures of the protocol. All are little-endian, packed without padding of their own.

#![expect(non_camel_case_types, reason = "names are those of the kernel's header")]

/// A value with a fixed form in messages.
pub trait Wire: Sized {
    /// Bytes in a message.
    const SIZE: usize;

    /// Takes the value off the front of `bytes`; none if they are too few.
    fn take(bytes: &mut &[u8]) -> Option<Self>;

    /// Appends the value to `out`.
    fn put(&self, out: &mut Vec<u8>);
}

macro_rules! integers {
    ($($kind:ty)*) => { $(
        impl Wire for $kind {
            const SIZE: usize = size_of::<$kind>();

            fn take(bytes: &mut &[u8]) -> Option<Self> {
                let (value, rest) = bytes.split_first_chunk()?;
                *bytes = rest;
                Some(Self::from_le_bytes(*value))
            }

            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )* };
}

integers!(u16 u32 u64 i32 i64);

impl<T: Wire + Copy + Default, const N: usize> Wire for [T; N] {
    const SIZE: usize = T::SIZE * N;

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let mut all = [T::default(); N];
        for one in &mut all {
            *one = T::take(bytes)?;
        }
        Some(all)
    }

    fn put(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|one| one.put(out));
    }
}

macro_rules! structures {
    ($($name:ident { $($field:ident: $kind:ty),* $(,)? })*) => { $(
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct $name {
            $(pub $field: $kind,)*
        }

        impl Wire for $name {
            const SIZE: usize = 0 $(+ <$kind as Wire>::SIZE)*;

            fn take(bytes: &mut &[u8]) -> Option<Self> {
                Some(Self { $($field: Wire::take(bytes)?,)* })
            }

            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }
        }
    )* };
}

structures! {
    fuse_in_header {
        len: u32, opcode: u32, unique: u64, nodeid: u64, uid: u32, gid: u32, pid: u32, total_extlen: u16, padding: u16,
    }
    fuse_out_header { len: u32, error: i32, unique: u64 }
    fuse_attr {
        ino: u64, size: u64, blocks: u64, atime: u64, mtime: u64, ctime: u64,
        atimensec: u32, mtimensec: u32, ctimensec: u32,
        mode: u32, nlink: u32, uid: u32, gid: u32, rdev: u32, blksize: u32, flags: u32,
    }
    fuse_entry_out {
        nodeid: u64, generation: u64, entry_valid: u64, attr_valid: u64, entry_valid_nsec: u32, attr_valid_nsec: u32,
        attr: fuse_attr,
    }
    fuse_attr_out { attr_valid: u64, attr_valid_nsec: u32, dummy: u32, attr: fuse_attr }
    fuse_sx_time { tv_sec: i64, tv_nsec: u32, reserved: i32 }
    fuse_statx {
        mask: u32, blksize: u32, attributes: u64, nlink: u32, uid: u32, gid: u32, mode: u16, spare0: u16,
        ino: u64, size: u64, blocks: u64, attributes_mask: u64,
        atime: fuse_sx_time, btime: fuse_sx_time, ctime: fuse_sx_time, mtime: fuse_sx_time,
        rdev_major: u32, rdev_minor: u32, dev_major: u32, dev_minor: u32, spare2: [u64; 14],
    }
    fuse_statx_in { getattr_flags: u32, reserved: u32, fh: u64, sx_flags: u32, sx_mask: u32 }
    fuse_statx_out { attr_valid: u64, attr_valid_nsec: u32, flags: u32, spare: [u64; 2], stat: fuse_statx }
    fuse_kstatfs {
        blocks: u64, bfree: u64, bavail: u64, files: u64, ffree: u64, bsize: u32, namelen: u32, frsize: u32,
        padding: u32, spare: [u32; 6],
    }
    fuse_init_in { major: u32, minor: u32, max_readahead: u32, flags: u32 }
    fuse_init_in_ext { flags2: u32, unused: [u32; 11] }
    fuse_init_out {
        major: u32, minor: u32, max_readahead: u32, flags: u32, max_background: u16, congestion_threshold: u16,
        max_write: u32, time_gran: u32, max_pages: u16, map_alignment: u16, flags2: u32, max_stack_depth: u32,
        unused: [u32; 6],
    }
    fuse_forget_in { nlookup: u64 }
    fuse_forget_one { nodeid: u64, nlookup: u64 }
    fuse_batch_forget_in { count: u32, dummy: u32 }
    fuse_getattr_in { getattr_flags: u32, dummy: u32, fh: u64 }
    fuse_setattr_in {
        valid: u32, padding: u32, fh: u64, size: u64, lock_owner: u64, atime: u64, mtime: u64, ctime: u64,
        atimensec: u32, mtimensec: u32, ctimensec: u32, mode: u32, unused4: u32, uid: u32, gid: u32, unused5: u32,
    }
    fuse_mknod_in { mode: u32, rdev: u32, umask: u32, padding: u32 }
    fuse_mkdir_in { mode: u32, umask: u32 }
    fuse_rename_in { newdir: u64 }
    fuse_rename2_in { newdir: u64, flags: u32, padding: u32 }
    fuse_link_in { oldnodeid: u64 }
    fuse_open_in { flags: u32, open_flags: u32 }
    fuse_create_in { flags: u32, mode: u32, umask: u32, open_flags: u32 }
    fuse_open_out { fh: u64, open_flags: u32, backing_id: i32 }
    fuse_release_in { fh: u64, flags: u32, release_flags: u32, lock_owner: u64 }
    fuse_read_in {
        fh: u64, offset: u64, size: u32, read_flags: u32, lock_owner: u64, flags: u32, padding: u32,
    }
    fuse_write_in {
        fh: u64, offset: u64, size: u32, write_flags: u32, lock_owner: u64, flags: u32, padding: u32,
    }
    fuse_write_out { size: u32, padding: u32 }
    fuse_fsync_in { fh: u64, fsync_flags: u32, padding: u32 }
    fuse_setxattr_in { size: u32, flags: u32 }
    fuse_getxattr_in { size: u32, padding: u32 }
    fuse_getxattr_out { size: u32, padding: u32 }
    fuse_fallocate_in { fh: u64, offset: u64, length: u64, mode: u32, padding: u32 }
    fuse_lseek_in { fh: u64, offset: u64, whence: u32, padding: u32 }
    fuse_lseek_out { offset: u64 }
    fuse_copy_file_range_in {
        fh_in: u64, off_in: u64, nodeid_out: u64, fh_out: u64, off_out: u64, len: u64, flags: u64,
    }
    fuse_dirent { ino: u64, off: u64, namelen: u32, kind: u32 }
}

/// Length of a directory record of `len` bytes with what aligns the next one to eight.
#[must_use]
pub const fn aligned(len: usize) -> usize {
    len.next_multiple_of(8)
}

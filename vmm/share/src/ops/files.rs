//! Data of open files.

use std::sync::Arc;

use rustix::fs::SeekFrom;

use crate::error::Errno;
use crate::handles::Handle;
use crate::io;
use crate::message::Answer;
use crate::server::{Call, Server};
use crate::spec::{
    self, FUSE_ROOT_ID, fuse_copy_file_range_in, fuse_fallocate_in, fuse_fsync_in, fuse_lseek_in, fuse_lseek_out,
    fuse_read_in, fuse_write_in, fuse_write_out,
};
use crate::stat::Place;

/// Most bytes that one copy_file_range copies, so that it comes back in reasonable time.
const MOST_COPIED: u64 = 64 << 20;

impl Server {
    pub(crate) fn read(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        let fuse_read_in { fh, offset, size, .. } = call.body.read()?;
        let handle = self.handle_of(call, fh)?;
        let read = io::read_at(handle.fd(), &call.reply.data(size), offset)?;
        Ok(Answer::InPlace(read))
    }

    pub(crate) fn write(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        let fuse_write_in { fh, offset, size, write_flags, flags, .. } = call.body.read()?;
        let handle = self.handle_writable(call, fh)?;
        let data = call.body.data(size)?;
        if write_flags & spec::FUSE_WRITE_KILL_SUIDGID != 0 {
            self.drop_privileges_of(call, &handle)?;
        }
        // What comes from the guest's page cache has its place; what is appended goes where the file ends by now.
        let appends = flags & spec::O_APPEND != 0 && write_flags & spec::FUSE_WRITE_CACHE == 0;
        let written =
            if appends { io::append(handle.fd(), &data, offset)? } else { io::write_at(handle.fd(), &data, offset)? };
        Ok(wrote(written))
    }

    fn drop_privileges_of(&self, call: &Call<'_>, handle: &Handle) -> Result<(), Errno> {
        let place = Place::Fd(Arc::clone(&handle.fd));
        self.drop_privileges(call, &self.host.pin(&place, &handle.share.identity)?)
    }

    /// Requests that do not tell whether the caller may leave setuid and setgid: only root may.
    fn drop_privileges_for(&self, call: &Call<'_>, handle: &Handle) -> Result<(), Errno> {
        if call.header.uid == 0 { Ok(()) } else { self.drop_privileges_of(call, handle) }
    }

    pub(crate) fn fsync(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        let fuse_fsync_in { fh, fsync_flags, padding: _ } = call.body.read()?;
        if call.header.nodeid == FUSE_ROOT_ID {
            return Ok(Answer::OK);
        }
        let handle = self.handle_of(call, fh)?;
        if fsync_flags & spec::FUSE_FSYNC_FDATASYNC != 0 {
            self.host.sync_data(handle.fd())?;
        } else {
            rustix::fs::fsync(handle.fd())?;
        }
        Ok(Answer::OK)
    }

    pub(crate) fn fallocate(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        let fuse_fallocate_in { fh, offset, length, mode, padding: _ } = call.body.read()?;
        let handle = self.handle_writable(call, fh)?;
        self.drop_privileges_for(call, &handle)?;
        self.host.allocate(handle.fd(), mode, offset, length)?;
        Ok(Answer::OK)
    }

    pub(crate) fn lseek(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        let fuse_lseek_in { fh, offset, whence, padding: _ } = call.body.read()?;
        let handle = self.handle_of(call, fh)?;
        i64::try_from(offset).map_err(|_| Errno::INVAL)?;
        let to = match whence {
            spec::SEEK_DATA => SeekFrom::Data(offset),
            spec::SEEK_HOLE => SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL),
        };
        if handle.listing.is_some() {
            return Err(Errno::INVAL);
        }
        let offset = rustix::fs::seek(handle.fd(), to)?;
        Ok(Answer::of(&fuse_lseek_out { offset }))
    }

    pub(crate) fn copy_file_range(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        let asked: fuse_copy_file_range_in = call.body.read()?;
        if asked.flags != 0 {
            return Err(Errno::INVAL);
        }
        let from = self.handle_of(call, asked.fh_in)?;
        let to = self.lock().handles.get(asked.nodeid_out, asked.fh_out)?;
        if to.share.read_only {
            return Err(Errno::ROFS);
        }
        self.drop_privileges_for(call, &to)?;
        let len = usize::try_from(asked.len.min(MOST_COPIED)).unwrap_or(0);
        let copied = self.host.copy_range((from.fd(), asked.off_in), (to.fd(), asked.off_out), len)?;
        Ok(wrote(copied))
    }
}

fn wrote(size: usize) -> Answer {
    Answer::of(&fuse_write_out { size: u32::try_from(size).unwrap_or(u32::MAX), padding: 0 })
}

//! Removing and renaming.

use std::ffi::CString;
use std::os::fd::AsFd;

use rustix::fs::AtFlags;

use crate::error::Errno;
use crate::message::Answer;
use crate::os::stat_at;
use crate::server::{Call, Directory, Server};
use crate::spec::{self, fuse_rename_in, fuse_rename2_in};

impl Server {
    pub(crate) fn unlink(&self, call: &mut Call<'_>, directory: bool) -> Result<Answer, Errno> {
        let name = call.body.name()?;
        let parent = self.directory_writable(call.header.nodeid)?;
        let flags = if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        rustix::fs::unlinkat(parent.fd.as_fd(), &name, flags)?;
        Ok(Answer::OK)
    }

    pub(crate) fn rename(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        let fuse_rename_in { newdir } = call.body.read()?;
        self.rename_to(call, newdir, 0)
    }

    pub(crate) fn rename2(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        let fuse_rename2_in { newdir, flags, padding: _ } = call.body.read()?;
        self.rename_to(call, newdir, flags)
    }

    fn rename_to(&self, call: &mut Call<'_>, newdir: u64, flags: u32) -> Result<Answer, Errno> {
        let (name, new_name) = call.body.names()?;
        let from = self.directory_writable(call.header.nodeid)?;
        let to = self.directory_writable(self.node(newdir))?;
        if from.share.index != to.share.index {
            return Err(Errno::XDEV);
        }
        self.host.rename((from.fd.as_fd(), &name), (to.fd.as_fd(), &new_name), flags)?;
        self.note_renamed((&from, &name), (&to, &new_name));
        if flags & spec::RENAME_EXCHANGE != 0 {
            self.note_renamed((&to, &new_name), (&from, &name));
        }
        Ok(Answer::OK)
    }

    /// Looks at what is under the new name now. If somebody else was faster the next lookup puts it right.
    fn note_renamed(&self, (from, name): (&Directory, &CString), (to, new_name): (&Directory, &CString)) {
        if let Ok(stat) = stat_at(to.fd.as_fd(), new_name) {
            self.lock().nodes.renamed(&to.share, stat.identity, (from.id, name), (to.id, new_name));
        }
    }
}

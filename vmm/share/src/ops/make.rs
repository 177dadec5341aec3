//! New files, directories, links and special files.

use std::ffi::CStr;
use std::os::fd::AsFd;

use crate::error::Errno;
use crate::message::Answer;
use crate::os::stat_at;
use crate::server::{Call, Directory, Server};
use crate::share::SymlinkPolicy;
use crate::spec::{self, fuse_link_in, fuse_mkdir_in, fuse_mknod_in};
use crate::stat::OpenMode;

impl Server {
    /// Regular files, fifos and sockets. A device that root makes on a host's disk is the host's device: refused.
    pub(crate) fn mknod(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        let fuse_mknod_in { mode, .. } = call.body.read()?;
        let name = call.body.name()?;
        let directory = self.directory_writable(call.header.nodeid)?;
        let dir = directory.fd.as_fd();
        match mode & spec::S_IFMT {
            0 | spec::S_IFREG => {
                let made = (mode & spec::PERMISSIONS, call.owner());
                drop(self.host.create(dir, &name, made, OpenMode::WRITE)?);
            }
            spec::S_IFIFO | spec::S_IFSOCK => self.host.make_special(dir, &name, mode, call.owner())?,
            _ => return Err(Errno::PERM),
        }
        self.give_made(&directory, &name)
    }

    pub(crate) fn mkdir(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        let fuse_mkdir_in { mode, umask: _ } = call.body.read()?;
        let name = call.body.name()?;
        let directory = self.directory_writable(call.header.nodeid)?;
        self.host.make_directory(directory.fd.as_fd(), &name, (mode & spec::PERMISSIONS, call.owner()))?;
        self.give_made(&directory, &name)
    }

    pub(crate) fn symlink(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        let (name, target) = call.body.name_and_target()?;
        let directory = self.directory_writable(call.header.nodeid)?;
        if directory.share.symlinks == SymlinkPolicy::Deny {
            return Err(Errno::PERM);
        }
        self.host.make_link(&target, directory.fd.as_fd(), &name, call.owner())?;
        // The one that made it gets the link itself, whatever the policy.
        let stat = stat_at(directory.fd.as_fd(), &name)?;
        Ok(Answer::of(&self.enter_itself(&directory, &name, &stat)?))
    }

    /// Another name in the same share for a file that is no directory.
    pub(crate) fn link(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        let fuse_link_in { oldnodeid } = call.body.read()?;
        let name = call.body.name()?;
        let directory = self.directory_writable(call.header.nodeid)?;
        let found = self.found(oldnodeid)?;
        if found.share.index != directory.share.index {
            return Err(Errno::XDEV);
        }
        if found.identity.kind == spec::S_IFDIR {
            return Err(Errno::PERM);
        }
        self.host.link_to(&self.pin(&found)?, directory.fd.as_fd(), &name)?;
        let stat = stat_at(directory.fd.as_fd(), &name)?;
        Ok(Answer::of(&self.enter_itself(&directory, &name, &stat)?))
    }

    fn give_made(&self, directory: &Directory, name: &CStr) -> Result<Answer, Errno> {
        let stat = stat_at(directory.fd.as_fd(), name)?;
        Ok(Answer::of(&self.enter_itself(directory, name, &stat)?))
    }
}

//! Extended attributes, of regular files and directories only.
//!
//! The guest has `user.*`, and `security.capability` as it has setuid. What else the host keeps in attributes (labels,
//! signatures, ACLs, the overlay's own) means something to the host and is neither shown nor changed.

use std::ffi::CStr;
use std::os::fd::AsFd;

use crate::error::Errno;
use crate::message::Answer;
use crate::os;
use crate::server::{Call, Server};
use crate::spec::{self, FUSE_ROOT_ID, fuse_getxattr_in, fuse_getxattr_out, fuse_setxattr_in};

fn is_shared(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name == b"security.capability"
}

/// Attributes that are there for the host, and not for the guest.
fn is_hidden(name: &[u8]) -> bool {
    !is_shared(name) && (name.starts_with(b"security.") || name.starts_with(b"trusted."))
}

impl Server {
    pub(crate) fn getxattr(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        let fuse_getxattr_in { size, padding: _ } = call.body.read()?;
        let name = call.body.attribute_name()?;
        if call.header.nodeid == FUSE_ROOT_ID || !self.has_attributes(call.header.nodeid)? {
            return Err(Errno::OPNOTSUPP);
        }
        match name.to_bytes() {
            name if is_shared(name) => {}
            name if is_hidden(name) => return Err(Errno::NODATA),
            _ => return Err(Errno::OPNOTSUPP),
        }
        let fd = self.open_node(call.header.nodeid)?;
        give(call, size, os::get_attribute(fd.as_fd(), &name)?)
    }

    pub(crate) fn listxattr(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        let fuse_getxattr_in { size, padding: _ } = call.body.read()?;
        if call.header.nodeid == FUSE_ROOT_ID || !self.has_attributes(call.header.nodeid)? {
            return give(call, size, Vec::new());
        }
        let fd = self.open_node(call.header.nodeid)?;
        let all = os::list_attributes(fd.as_fd())?;
        let shared =
            all.split_inclusive(|byte| *byte == 0).filter(|name| is_shared(name.strip_suffix(&[0]).unwrap_or(name)));
        give(call, size, shared.flatten().copied().collect())
    }

    pub(crate) fn setxattr(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        let fuse_setxattr_in { size, flags } = call.body.read()?;
        let (name, value) = call.body.attribute(size)?;
        self.change_attribute(call, &name)?;
        let fd = self.open_node(call.header.nodeid)?;
        os::set_attribute(fd.as_fd(), &name, &value, flags)?;
        Ok(Answer::OK)
    }

    pub(crate) fn removexattr(&self, call: &mut Call<'_>) -> Result<Answer, Errno> {
        let name = call.body.attribute_name()?;
        self.change_attribute(call, &name)?;
        let fd = self.open_node(call.header.nodeid)?;
        os::remove_attribute(fd.as_fd(), &name)?;
        Ok(Answer::OK)
    }

    /// Whether attribute `name` of the call's node may be changed.
    fn change_attribute(&self, call: &Call<'_>, name: &CStr) -> Result<(), Errno> {
        self.found_writable(call.header.nodeid)?;
        match name.to_bytes() {
            name if is_hidden(name) || !self.has_attributes(call.header.nodeid)? => Err(Errno::PERM),
            name if is_shared(name) => Ok(()),
            _ => Err(Errno::OPNOTSUPP),
        }
    }

    fn has_attributes(&self, id: u64) -> Result<bool, Errno> {
        let kind = self.lock().nodes.get(id)?.identity.kind;
        Ok(matches!(kind, spec::S_IFREG | spec::S_IFDIR))
    }
}

/// Gives the value, or its length if the guest asks for that.
fn give(call: &Call<'_>, size: u32, value: Vec<u8>) -> Result<Answer, Errno> {
    let len = u32::try_from(value.len()).map_err(|_| Errno::TOOBIG)?;
    match size {
        0 => Ok(Answer::of(&fuse_getxattr_out { size: len, padding: 0 })),
        _ if size < len || call.reply.room() < value.len() => Err(Errno::RANGE),
        _ => Ok(Answer::Bytes(value)),
    }
}

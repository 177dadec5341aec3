//! Who makes a file: the thread takes the guest's user and group for the one system call that makes it, so that the
//! file is never seen with another owner.

use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::error::Errno;
use crate::stat::Owner;

/// Another user for as long as it lives, if one was needed; what the thread was before.
#[must_use]
pub(super) struct Assumed(Option<Before>);

struct Before {
    uid: Uid,
    gid: Gid,
    capabilities: CapabilitySets,
}

/// Lets this thread make files as `owner`, with all the rights it has: the guest's kernel has checked that its process
/// may. A thread without the right to do so makes files as who it is.
///
/// # Errors
/// EINVAL, as EOVERFLOW: the owner has no number in the user namespace of this process.
pub(super) fn assume(owner: Owner) -> Result<Assumed, Errno> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if (owner.uid, owner.gid) == (uid.as_raw(), gid.as_raw()) {
        return Ok(Assumed(None));
    }
    // Asked each time: the process may have given up rights since the server was made.
    let capabilities = rustix::thread::capabilities(None)?;
    if !capabilities.effective.contains(CapabilitySet::SETUID | CapabilitySet::SETGID) {
        return Ok(Assumed(None));
    }
    if owner.uid == u32::MAX || owner.gid == u32::MAX {
        return Err(Errno::OVERFLOW);
    }
    let assumed = Assumed(Some(Before { uid, gid, capabilities }));
    rustix::thread::set_thread_res_gid(None, Gid::from_raw(owner.gid), None).map_err(unmapped)?;
    rustix::thread::set_thread_res_uid(None, Uid::from_raw(owner.uid), None).map_err(unmapped)?;
    // Another effective user has no effective capabilities until it takes them.
    rustix::thread::set_capabilities(None, capabilities)?;
    Ok(assumed)
}

impl Before {
    fn resume(&self) -> rustix::io::Result<()> {
        rustix::thread::set_thread_res_uid(None, self.uid, None)?;
        rustix::thread::set_thread_res_gid(None, self.gid, None)?;
        rustix::thread::set_capabilities(None, self.capabilities)
    }
}

impl Drop for Assumed {
    fn drop(&mut self) {
        // What the thread was a moment ago it may be again: real and saved users never changed. A thread that served
        // on as somebody else would be worse than none.
        if self.0.as_ref().is_some_and(|before| before.resume().is_err()) {
            std::process::abort();
        }
    }
}

fn unmapped(error: rustix::io::Errno) -> Errno {
    if error == rustix::io::Errno::INVAL { Errno::OVERFLOW } else { error.into() }
}

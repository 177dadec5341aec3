//! What a process does to itself, last before its program.
// UNSAFETY: prctl and personality have no wrappers here.
#![expect(unsafe_code, reason = "raw system calls on integers")]

use nix::errno::Errno;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use supermachine_agent_protocol::container::Attributes;
use supermachine_agent_protocol::{ErrorCode, ErrorReply, User};

use super::capabilities::CapabilitySets;
use super::seccomp::Filter;
use crate::reply::{Step, bad_request, os_error, reply, words};

/// Without one in the request.
const UMASK: u32 = 0o022;

/// Identity, rights and filter of a process.
#[derive(Debug)]
pub(crate) struct Own {
    user: User,
    groups: Vec<Gid>,
    capabilities: Option<CapabilitySets>,
    no_new_privileges: bool,
    umask: u32,
    personality: Option<u32>,
    seccomp: Option<Filter>,
}

impl Own {
    /// Checks them.
    pub(crate) fn new(user: &User, attributes: &Attributes) -> Step<Self> {
        // To the system calls the highest number means "leave it as it is": the process would stay root.
        if [user.uid, user.gid].contains(&u32::MAX) {
            return Err(user_error(user, Errno::EINVAL));
        }
        let umask = attributes.umask.unwrap_or(UMASK);
        if umask > 0o777 {
            return Err(bad_request(format!("umask {umask:#o} is above 0777")));
        }
        Ok(Self {
            user: user.clone(),
            groups: user.additional_gids.iter().copied().map(Gid::from_raw).collect(),
            capabilities: attributes.capabilities.map(CapabilitySets::new),
            no_new_privileges: attributes.no_new_privileges,
            umask,
            personality: attributes.personality,
            seccomp: attributes.seccomp.as_ref().map(Filter::new).transpose()?,
        })
    }

    /// Its user.
    pub(crate) fn uid(&self) -> Uid {
        Uid::from_raw(self.user.uid)
    }

    /// Takes everything on. `as_user` is done as the user, while nothing else is taken away.
    ///
    /// Without `no_new_privileges` only root may load a filter, so it comes before the user; with it, last.
    pub(crate) fn take_on(&self, as_user: impl FnOnce() -> Step) -> Step {
        let call = |what: &'static str| move |errno| os_error(what, errno);
        if let Some(personality) = self.personality {
            // SAFETY: the call takes an integer.
            let result = unsafe { libc::personality(personality.into()) };
            Errno::result(result).map_err(call("cannot set the personality"))?;
        }
        umask(Mode::from_bits_truncate(self.umask));
        if self.no_new_privileges {
            prctl(libc::PR_SET_NO_NEW_PRIVS, 1).map_err(call("cannot set no_new_privileges"))?;
        } else if let Some(filter) = &self.seccomp {
            filter.load()?;
        }
        if let Some(sets) = &self.capabilities {
            sets.drop_bounding().map_err(call("cannot drop capabilities"))?;
            prctl(libc::PR_SET_KEEPCAPS, 1).map_err(call("cannot keep capabilities"))?;
        }
        self.become_user().map_err(|errno| user_error(&self.user, errno))?;
        as_user()?;
        if let Some(sets) = &self.capabilities {
            prctl(libc::PR_SET_KEEPCAPS, 0).map_err(call("cannot keep capabilities"))?;
            sets.take_on().map_err(call("cannot take on capabilities"))?;
        }
        match &self.seccomp {
            Some(filter) if self.no_new_privileges => filter.load(),
            _ => Ok(()),
        }
    }

    fn become_user(&self) -> nix::Result<()> {
        let (uid, gid) = (self.uid(), Gid::from_raw(self.user.gid));
        setgroups(&self.groups)?;
        setresgid(gid, gid, gid)?;
        setresuid(uid, uid, uid)
    }
}

fn user_error(user: &User, errno: Errno) -> ErrorReply {
    let message = format!("cannot become user {}:{}: {}", user.uid, user.gid, words(errno));
    reply(ErrorCode::BadUser, Some(errno), message)
}

fn prctl(option: libc::c_int, value: libc::c_ulong) -> nix::Result<()> {
    const NONE: libc::c_ulong = 0;
    // SAFETY: callers pass options whose arguments are integers.
    Errno::result(unsafe { libc::prctl(option, value, NONE, NONE, NONE) }).map(drop)
}

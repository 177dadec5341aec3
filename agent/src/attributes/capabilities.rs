//! Taking on capability sets.
// UNSAFETY: capset and prctl have no wrappers here.
#![expect(unsafe_code, reason = "raw system calls on integers and locals")]

use nix::errno::Errno;
use supermachine_agent_protocol::container::Capabilities;

/// `_LINUX_CAPABILITY_VERSION_3` of `include/uapi/linux/capability.h`.
const VERSION_3: u32 = 0x2008_0522;
/// Bits of a set.
const BITS: u32 = 64;

/// The five sets of a process.
#[derive(Debug, Clone, Copy)]
pub(super) struct CapabilitySets(Capabilities);

#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

impl CapabilitySets {
    /// Those of a request.
    pub(super) fn new(sets: Capabilities) -> Self {
        Self(sets)
    }

    /// Makes the bounding set what is asked for. Needs `CAP_SETPCAP`, so it comes first.
    pub(super) fn drop_bounding(&self) -> nix::Result<()> {
        for capability in (0..BITS).filter(|bit| self.0.bounding >> bit & 1 == 0) {
            match prctl(libc::PR_CAPBSET_DROP, capability.into(), 0) {
                // The kernel knows no more.
                Err(Errno::EINVAL) => return Ok(()),
                other => other?,
            }
        }
        Ok(())
    }

    /// Makes the other sets what is asked for. What `execve` does to them comes later.
    pub(super) fn take_on(&self) -> nix::Result<()> {
        let Capabilities { bounding: _, effective, inheritable, permitted, ambient } = self.0;
        let header = Header { version: VERSION_3, pid: 0 };
        let half = |shift: u32| {
            let part = |set: u64| u32::try_from(set >> shift & u64::from(u32::MAX)).unwrap_or(0);
            Data { effective: part(effective), permitted: part(permitted), inheritable: part(inheritable) }
        };
        let data = [half(0), half(32)];
        // SAFETY: the call reads a header and, for version 3, two data structures; both are locals.
        Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })?;
        prctl(libc::PR_CAP_AMBIENT, ambient_call(libc::PR_CAP_AMBIENT_CLEAR_ALL), 0)?;
        // What is not inheritable and permitted cannot be ambient (capabilities(7)); bundles name it all the same.
        let ambient = ambient & inheritable & permitted;
        for capability in (0..BITS).filter(|bit| ambient >> bit & 1 == 1) {
            prctl(libc::PR_CAP_AMBIENT, ambient_call(libc::PR_CAP_AMBIENT_RAISE), capability.into())?;
        }
        Ok(())
    }
}

fn ambient_call(number: libc::c_int) -> libc::c_ulong {
    libc::c_ulong::try_from(number).unwrap_or(libc::c_ulong::MAX)
}

fn prctl(option: libc::c_int, first: libc::c_ulong, second: libc::c_ulong) -> nix::Result<()> {
    const NONE: libc::c_ulong = 0;
    // SAFETY: callers pass options whose arguments are integers.
    Errno::result(unsafe { libc::prctl(option, first, second, NONE, NONE) }).map(drop)
}

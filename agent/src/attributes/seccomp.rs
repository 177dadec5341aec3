//! Loading a seccomp filter.
// UNSAFETY: the seccomp system call takes pointers.
#![expect(unsafe_code, reason = "seccomp has no wrapper")]

use nix::errno::Errno;
use supermachine_agent_protocol::container::Seccomp;

use crate::reply::{Step, bad_request, os_error};

/// `BPF_MAXINSNS` of `include/uapi/linux/bpf_common.h`.
const MOST: usize = 4096;
/// `SECCOMP_FILTER_FLAG_TSYNC`, `_LOG`, `_SPEC_ALLOW`: those that give nothing back.
const FLAGS: u32 = 0b111;

/// A checked filter in the kernel's form.
pub(super) struct Filter {
    program: Vec<libc::sock_filter>,
    len: u16,
    flags: u32,
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filter").field("len", &self.len).field("flags", &self.flags).finish()
    }
}

impl Filter {
    /// Takes a request's filter.
    pub(super) fn new(seccomp: &Seccomp) -> Step<Self> {
        let Seccomp { program, flags } = seccomp;
        let len = u16::try_from(program.len()).ok().filter(|_| (1..=MOST).contains(&program.len()));
        let len = len
            .ok_or_else(|| bad_request(format!("seccomp: {} instructions, 1 to {MOST} are possible", program.len())))?;
        if flags & !FLAGS != 0 {
            return Err(bad_request(format!("seccomp: flags {flags:#x} are not possible here")));
        }
        let program = program.iter().map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k }).collect();
        Ok(Self { program, len, flags: *flags })
    }

    /// Loads it; from here on it counts.
    pub(super) fn load(&self) -> Step {
        let program = libc::sock_fprog { len: self.len, filter: self.program.as_ptr().cast_mut() };
        // SAFETY: the call reads `len` instructions of a vector that has as many, and does not write.
        let result =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, self.flags, &raw const program) };
        Errno::result(result).map(drop).map_err(|errno| os_error("cannot load the seccomp filter", errno))
    }
}

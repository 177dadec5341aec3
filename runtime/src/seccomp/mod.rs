//! Compiles the seccomp profile of a container into a BPF program.
//!
//! The filter means what runc and libseccomp make of the profile:
//! - names that the guest's architecture does not have are skipped;
//! - the arguments of a rule must all match, but if it names one of them twice, any match is enough;
//! - a rule without arguments wins over all others of its call; otherwise the first rule that matches counts;
//! - calls newer than the newest in the profile fail with `ENOSYS` unless the default lets them pass;
//! - calls of another architecture end the thread. The guest's kernel runs no other one (nor x32), so those that a
//!   profile lists besides are accepted and need no code.

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag};
use supermachine_agent_protocol::container::Seccomp;

use crate::plan::PlanError;

mod code;
mod profile;
mod spec;

/// Processor architectures of guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GuestArch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

/// Compiles the profile at `at` for a guest of `arch`.
pub fn compile(profile: &LinuxSeccomp, at: &str, arch: GuestArch) -> Result<Seccomp, PlanError> {
    if profile.listener_path().as_ref().is_some_and(|path| !path.as_os_str().is_empty()) {
        return Err(PlanError::unsupported(
            format!("{at}.listenerPath"),
            "calls are not passed to a listener on the host",
        ));
    }
    let program = code::program(&profile::decisions(profile, at, arch)?, arch);
    if program.len() > spec::MAX_INSTRUCTIONS {
        let reason = format!("needs {} instructions, Linux takes {}", program.len(), spec::MAX_INSTRUCTIONS);
        return Err(PlanError::invalid(format!("{at}.syscalls"), reason));
    }
    Ok(Seccomp { program, flags: flags(profile.flags().as_deref().unwrap_or_default(), at)? })
}

fn flags(flags: &[LinuxSeccompFilterFlag], at: &str) -> Result<u32, PlanError> {
    flags.iter().enumerate().try_fold(0, |bits, (index, flag)| {
        let bit = match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => spec::FLAG_LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => spec::FLAG_SPEC_ALLOW,
            // The filter is set by the only thread there is.
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
                return Err(PlanError::unsupported(
                    format!("{at}.flags[{index}]"),
                    "is for listeners, which are not offered",
                ));
            }
        };
        Ok(bits | bit)
    })
}

#[cfg(test)]
mod tests;

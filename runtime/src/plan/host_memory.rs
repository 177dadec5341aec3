//! RAM of this host. Only Linux is asked so far.

/// RAM of this host in MiB, for [`PlanSettings`](super::PlanSettings).
#[cfg(target_os = "linux")]
pub fn host_memory_mib() -> Option<u64> {
    use nix::unistd::{SysconfVar, sysconf};
    let value = |name| sysconf(name).ok().flatten().and_then(|value| u64::try_from(value).ok());
    let bytes = value(SysconfVar::_PHYS_PAGES)?.checked_mul(value(SysconfVar::PAGE_SIZE)?)?;
    Some(bytes >> 20)
}

/// RAM of this host in MiB, for [`PlanSettings`](super::PlanSettings).
#[cfg(not(target_os = "linux"))]
pub fn host_memory_mib() -> Option<u64> {
    None
}

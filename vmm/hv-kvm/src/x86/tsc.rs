//! The guest's time stamp counter across a freeze.
//!
//! Writing the counter's register does not do: the kernel takes a value within a second of what it expects for an
//! attempt to synchronise vCPUs and ignores it, so a young guest's counter would jump back. The offset to the host's
//! counter is set instead, one for all vCPUs of a machine, computed when the machine is restored.
// UNSAFETY: the vCPU attribute's ioctls and RDTSC have no safe wrappers.
#![expect(unsafe_code, reason = "vCPU attributes")]

use std::os::fd::AsRawFd;

use kvm_bindings::{KVM_CLOCK_HOST_TSC, KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, kvm_clock_data, kvm_device_attr};
use kvm_ioctls::VcpuFd;
use supermachine_hv::HvError;

use super::spec::{KVM_GET_DEVICE_ATTR, KVM_SET_DEVICE_ATTR, MSR_TSC};

/// A vCPU whose saved counter is further than this from the machine's had it written by its guest.
const OWN_COUNTER_MS: u64 = 10_000;

/// The host's counter.
pub(super) fn host_now() -> u64 {
    // SAFETY: every x86-64 CPU has the instruction; it reads a register.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// The host's counter when the guest's clock was read: the kernel tells of it while it derives the clock from the
/// counter, from 5.16 on.
pub(super) fn host_at(clock: &kvm_clock_data) -> u64 {
    if clock.flags & KVM_CLOCK_HOST_TSC == 0 { host_now() } else { clock.host_tsc }
}

/// What is added to the host's counter; `None` where the kernel is too old to tell (before 5.16).
pub(super) fn offset(fd: &VcpuFd) -> Option<u64> {
    let mut value = 0_u64;
    attribute(fd, KVM_GET_DEVICE_ATTR, &mut value).ok()?;
    Some(value)
}

/// Gives a restored vCPU its counter, where the machine has an offset; then the register need not be written.
pub(super) fn restore(
    fd: &VcpuFd,
    machine_offset: Option<u64>,
    msrs: &[(u32, u64)],
    khz: u32,
) -> Result<bool, HvError> {
    let saved = msrs.iter().find(|(index, _)| *index == MSR_TSC).map(|(_, value)| *value);
    let (Some(offset), Some(saved)) = (machine_offset, saved) else {
        return Ok(false);
    };
    let mut value = choose(offset, saved, host_now(), khz);
    attribute(fd, KVM_SET_DEVICE_ATTR, &mut value)
        .map_err(|source| HvError::Os { operation: "KVM_SET_DEVICE_ATTR of the TSC offset", source })?;
    Ok(true)
}

/// The machine's offset, unless the guest had set this vCPU's counter apart.
fn choose(machine_offset: u64, saved: u64, host: u64, khz: u32) -> u64 {
    let expected = host.wrapping_add(machine_offset);
    let apart = expected.wrapping_sub(saved).min(saved.wrapping_sub(expected));
    if apart <= u64::from(khz).saturating_mul(OWN_COUNTER_MS) { machine_offset } else { saved.wrapping_sub(host) }
}

fn attribute(fd: &VcpuFd, request: u64, value: &mut u64) -> std::io::Result<()> {
    let attribute = kvm_device_attr {
        flags: 0,
        group: KVM_VCPU_TSC_CTRL,
        attr: KVM_VCPU_TSC_OFFSET.into(),
        addr: std::ptr::from_mut(value) as u64,
    };
    // SAFETY: the attribute is one u64, which the kernel reads or writes at `addr` before the call returns.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw const attribute) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KHZ: u32 = 1_000_000;

    #[test]
    fn vcpus_of_a_machine_share_its_offset() {
        let offset = 0_u64.wrapping_sub(5_000_000_000);
        assert_eq!(choose(offset, 1_000_000, 5_000_900_000, KHZ), offset, "saved a little after the machine");
        assert_eq!(choose(offset, 800_000, 5_000_900_000, KHZ), offset, "saved a little before");
    }

    #[test]
    fn the_counter_is_of_the_moment_when_the_clock_was_read() {
        let told = kvm_clock_data { flags: KVM_CLOCK_HOST_TSC, host_tsc: 7, ..Default::default() };
        assert_eq!(host_at(&told), 7);
        let (before, untold) = (host_now(), kvm_clock_data { host_tsc: 7, ..Default::default() });
        assert!(host_at(&untold) >= before);
    }

    #[test]
    fn a_counter_set_by_the_guest_is_kept() {
        let offset = 0_u64.wrapping_sub(5_000_000_000);
        let own = choose(offset, 1 << 50, 5_000_900_000, KHZ);
        assert_eq!(5_000_900_000_u64.wrapping_add(own), 1 << 50);
    }
}

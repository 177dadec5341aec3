//! The whole state of a vCPU, out of the kernel and back in.

use kvm_bindings::kvm_lapic_state;
use kvm_ioctls::VcpuFd;
use supermachine_hv::x86::{CpuidLeaf, VcpuState};
use supermachine_hv::{HvError, VcpuState as AnyState};

use super::spec::{self, LAPIC_LEN};
use super::vm::Machine;
use super::{convert, msrs, os, refused, tsc, xsave};

/// One part in this many is the difference of rates that KVM too takes for none (its `tsc_tolerance_ppm`, 250).
const TSC_TOLERANCE: u32 = 4_000;

/// Reads everything. The order matters: the kernel settles pending start-up events when asked for the run state.
pub(super) fn save(fd: &VcpuFd, machine: &Machine, cpuid: &[CpuidLeaf]) -> Result<VcpuState, HvError> {
    let mp_state = fd.get_mp_state().map_err(os("KVM_GET_MP_STATE"))?;
    let events = fd.get_vcpu_events().map_err(os("KVM_GET_VCPU_EVENTS"))?;
    let run_state = convert::run_state_from_kernel(mp_state, &events).ok_or_else(|| HvError::BadState {
        field: "run_state",
        problem: format!("the kernel reports state {}", mp_state.mp_state),
    })?;
    let lapic = fd.get_lapic().map_err(os("KVM_GET_LAPIC"))?;
    Ok(VcpuState {
        regs: convert::regs_from_kernel(&fd.get_regs().map_err(os("KVM_GET_REGS"))?),
        sregs: convert::sregs_from_kernel(&fd.get_sregs().map_err(os("KVM_GET_SREGS"))?),
        xsave: xsave::save(fd, machine.xsave_len)?,
        xcr0: read_xcr0(fd)?,
        debug: convert::debug_from_kernel(&fd.get_debug_regs().map_err(os("KVM_GET_DEBUGREGS"))?),
        msrs: msrs::read(fd, &machine.host.msrs)?,
        lapic: lapic.regs.iter().map(|byte| byte.cast_unsigned()).collect(),
        run_state,
        events: convert::events_from_kernel(&events),
        cpuid: cpuid.to_vec(),
        tsc_khz: fd.get_tsc_khz().unwrap_or(0),
    })
}

/// The state for this architecture, with everything checked that can be before the vCPU is touched.
pub(super) fn check<'a>(
    state: &'a AnyState,
    machine: &Machine,
    cpuid: &[CpuidLeaf],
    tsc_khz: u32,
) -> Result<&'a VcpuState, HvError> {
    let AnyState::X86(state) = state else {
        return Err(HvError::BadState { field: "architecture", problem: "not x86-64".to_owned() });
    };
    if state.lapic.len() != LAPIC_LEN {
        let problem = format!("{} bytes, {LAPIC_LEN} expected", state.lapic.len());
        return Err(HvError::BadState { field: "lapic", problem });
    }
    if !state.cpuid.is_empty() && state.cpuid != cpuid {
        let problem = "the guest was shown another CPU".to_owned();
        return Err(HvError::BadState { field: "cpuid", problem });
    }
    let components = xsave::components(cpuid);
    if state.xcr0 & 1 == 0 || state.xcr0 & !components != 0 {
        let problem = format!("{:#x}, the host allows {components:#x}", state.xcr0);
        return Err(HvError::BadState { field: "xcr0", problem });
    }
    check_tsc_khz(tsc_khz, state.tsc_khz)?;
    xsave::check(&state.xsave, machine.xsave_len, components)?;
    msrs::check(&state.msrs, &machine.host.msrs)?;
    convert::check_events(&state.events)?;
    Ok(state)
}

/// Writes a checked state. The order matters: control registers give the local APIC its mode and the APIC's timer
/// mode gives the TSC deadline its meaning; setting general registers drops events, so those come last.
pub(super) fn restore(fd: &VcpuFd, machine: &Machine, state: &VcpuState) -> Result<(), HvError> {
    let VcpuState { regs, sregs, xsave: area, xcr0, debug, msrs: registers, .. } = state;
    let VcpuState { lapic, run_state, events, cpuid: _, tsc_khz, .. } = state;
    fd.set_sregs(&convert::sregs_to_kernel(sregs)).map_err(refused("sregs"))?;
    fd.set_regs(&convert::regs_to_kernel(regs)).map_err(refused("regs"))?;
    fd.set_xcrs(&convert::xcr0_to_kernel(*xcr0)).map_err(refused("xcr0"))?;
    xsave::restore(fd, area, machine.xsave_len)?;
    fd.set_debug_regs(&convert::debug_to_kernel(*debug)).map_err(refused("debug"))?;
    let mut kernel_lapic = kvm_lapic_state::default();
    for (register, byte) in kernel_lapic.regs.iter_mut().zip(lapic) {
        *register = byte.cast_signed();
    }
    fd.set_lapic(&kernel_lapic).map_err(refused("lapic"))?;
    let has_tsc = tsc::restore(fd, machine.tsc_offset(), registers, *tsc_khz)?;
    msrs::write(fd, registers, |index| !(has_tsc && index == spec::MSR_TSC))?;
    fd.set_vcpu_events(&convert::events_to_kernel(events, *run_state)).map_err(refused("events"))?;
    fd.set_mp_state(convert::run_state_to_kernel(*run_state)).map_err(refused("run_state"))?;
    // Tells the guest that it was stopped, so that its watchdogs forgive the gap; without a kvmclock page there is
    // nobody to tell, and the kernel says so with an error that means nothing.
    let _ = fd.kvmclock_ctrl();
    Ok(())
}

fn read_xcr0(fd: &VcpuFd) -> Result<u64, HvError> {
    let xcrs = fd.get_xcrs().map_err(os("KVM_GET_XCRS"))?;
    let count = usize::try_from(xcrs.nr_xcrs).unwrap_or(0);
    Ok(xcrs.xcrs.iter().take(count).find(|entry| entry.xcr == 0).map_or(1, |entry| entry.value))
}

/// The guest knows its counter's rate, so another rate is refused; the kernel's own measure varies a little.
fn check_tsc_khz(own: u32, saved: u32) -> Result<(), HvError> {
    if saved == 0 || own.abs_diff(saved) <= own / TSC_TOLERANCE {
        return Ok(());
    }
    let problem = format!("the guest counts at {saved} kHz, this host at {own} kHz");
    Err(HvError::BadState { field: "tsc_khz", problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_rate_is_refused() {
        assert!(check_tsc_khz(3_000_000, 3_000_100).is_ok());
        assert!(check_tsc_khz(3_000_000, 0).is_ok());
        assert!(check_tsc_khz(3_000_000, 2_400_000).is_err());
        assert!(check_tsc_khz(0, 2_400_000).is_err());
    }
}

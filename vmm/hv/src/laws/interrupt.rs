//! Laws about interrupts: lines through IOAPIC and local APIC, halts, the local timer.

use std::sync::Arc;

use super::machine::{DEVICE, Rig};
use super::programs::interrupt::{
    COUNT_AND_EOI, COUNT_AND_EOI_X2APIC, DEADLINE_TIMER, HALT_EDGE, HALT_LEVEL, HALT_X2APIC, REPORT_AND_EOI,
};
use super::watch::{Later, soon};
use crate::{Exit, Hypervisor, Vm};

/// The IOAPIC pin the programs route.
pub(super) const PIN: u32 = 5;
/// The vector they route it to.
pub(super) const VECTOR: u8 = 0x30;

/// One edge on the line.
pub(super) fn pulse(vm: &dyn Vm) {
    vm.set_irq_line(PIN, true).expect("a line of the IOAPIC");
    vm.set_irq_line(PIN, false).expect("a line of the IOAPIC");
}

pub(super) fn pulse_soon(rig: &Rig) -> Later {
    let vm = Arc::clone(&rig.vm);
    soon(move || pulse(vm.as_ref()))
}

/// A halted vCPU sleeps until the line's edge, runs the handler once and goes on.
pub fn edge_wakes_a_halt(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, HALT_EDGE);
    rig.gate(VECTOR, COUNT_AND_EOI);
    rig.to_end();
    let _later = pulse_soon(&rig);
    assert_eq!(rig.registers_at_end().rbx, 1);
}

/// The same with the local APIC in x2APIC mode.
pub fn edge_wakes_a_halt_in_x2apic_mode(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, HALT_X2APIC);
    rig.gate(VECTOR, COUNT_AND_EOI_X2APIC);
    rig.to_end();
    let _later = pulse_soon(&rig);
    assert_eq!(rig.registers_at_end().rbx, 1);
}

/// An edge that comes before `STI; HLT` is delivered there, not lost.
pub fn line_before_halt_is_not_lost(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, HALT_EDGE);
    rig.gate(VECTOR, COUNT_AND_EOI);
    rig.to_end();
    pulse(rig.vm.as_ref());
    assert_eq!(rig.registers_at_end().rbx, 1);
}

/// A level that stays high interrupts again after each end of interrupt, and no more once it is low.
pub fn level_fires_until_lowered(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, HALT_LEVEL);
    rig.gate(VECTOR, REPORT_AND_EOI);
    rig.to_end();
    rig.vm.set_irq_line(PIN, true).expect("a line of the IOAPIC");
    rig.expect(&Exit::MmioWrite { gpa: DEVICE, size: 4, value: 1 });
    rig.expect(&Exit::MmioWrite { gpa: DEVICE, size: 4, value: 2 });
    rig.vm.set_irq_line(PIN, false).expect("a line of the IOAPIC");
    assert_eq!(rig.registers_at_end().rbx, 2);
}

/// The local APIC's timer in TSC-deadline mode wakes a halt by itself.
pub fn tsc_deadline_wakes_a_halt(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, DEADLINE_TIMER);
    const TSC_DEADLINE: u32 = 1 << 24;
    if !rig.x86().cpuid.iter().any(|leaf| leaf.function == 1 && leaf.ecx & TSC_DEADLINE != 0) {
        return super::skip("tsc_deadline_wakes_a_halt", "the guest's CPU has no TSC-deadline timer");
    }
    rig.gate(VECTOR, COUNT_AND_EOI);
    assert_eq!(rig.registers_at_end().rbx, 1);
}

//! Laws about freezing: a machine made from saved states goes on as the first would have.

use super::interrupt::{PIN, VECTOR, pulse, pulse_soon};
use super::machine::{Rig, state_mut};
use super::programs::interrupt::{COUNT_AND_EOI, HALT_EDGE};
use super::programs::kick::SLEEP;
use super::programs::state::{MSR_STATE, PENDING_LINE};
use super::watch::soon;
use crate::x86::RunState;
use crate::{Exit, Hypervisor, VcpuState, VmState};

/// Time stamp counter and its deadline: they move while nobody runs.
const MOVING_MSRS: [u32; 2] = [0x10, 0x6e0];

/// Machines made from one saved counter; a counter that is only nearly kept fails some of them.
const COPIES: u32 = 8;

/// Saving, restoring into a new machine and saving again gives the same state; the guest reads back what it set.
pub fn registers_survive_a_freeze(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, MSR_STATE);
    rig.to_end();
    let mut frozen = rig.freeze();
    let mut copy = frozen.thaw(hypervisor);
    let (first, second) = (state_mut(&mut frozen.vcpu).clone(), copy.x86());
    assert_eq!(first.regs, second.regs);
    assert_eq!(first.sregs, second.sregs);
    assert_eq!(first.debug, second.debug);
    assert_eq!((first.xcr0, first.run_state, first.events), (second.xcr0, second.run_state, second.events));
    assert_eq!((first.cpuid, first.tsc_khz), (second.cpuid, second.tsc_khz));
    let still = |msrs: Vec<(u32, u64)>| -> Vec<(u32, u64)> {
        msrs.into_iter().filter(|(index, _)| !MOVING_MSRS.contains(index)).collect()
    };
    assert_eq!(still(first.msrs), still(second.msrs));
    for regs in [copy.registers_at_end(), rig.registers_at_end()] {
        assert_eq!((regs.r10, regs.r11), (0x0023_0010, 0x8100_0000), "STAR and LSTAR");
        assert_eq!((regs.r12, regs.r13), (0x1234_5678, 0x12_3456), "GS base after SWAPGS, DR2");
    }
}

/// The time stamp counter of the copy goes on from the saved value; it does not jump back or start anew.
pub fn tsc_goes_on_after_a_freeze(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, MSR_STATE);
    rig.to_end();
    let frozen = rig.freeze();
    for copy in 0..COPIES {
        let regs = frozen.thaw(hypervisor).registers_at_end();
        assert!(regs.r9 > regs.r8, "copy {copy}: {:#x} before, {:#x} after", regs.r8, regs.r9);
    }
}

/// An interrupt that waits in the controllers while the guest has interrupts off is delivered in the copy.
pub fn pending_interrupt_survives_a_freeze(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, PENDING_LINE);
    rig.gate(VECTOR, COUNT_AND_EOI);
    rig.to_end();
    pulse(rig.vm.as_ref());
    rig.to_end();
    let mut copy = rig.freeze().thaw(hypervisor);
    assert_eq!(copy.registers_at_end().rbx, 1, "the copy");
    assert_eq!(rig.registers_at_end().rbx, 1, "the original");
}

/// A vCPU kicked out of its halt is saved as halted.
pub fn halted_vcpu_saves_as_halted(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, SLEEP);
    kick_out_of_halt(&mut rig);
    assert_eq!(rig.x86().regs.rbx, 0);
}

/// A copy of a halted vCPU still waits, and an edge in the copy wakes it.
pub fn frozen_halt_is_woken(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, HALT_EDGE);
    rig.gate(VECTOR, COUNT_AND_EOI);
    rig.to_end();
    kick_out_of_halt(&mut rig);
    let mut copy = rig.freeze().thaw(hypervisor);
    let _later = pulse_soon(&copy);
    assert_eq!(copy.registers_at_end().rbx, 1);
}

/// Kicks until the vCPU is in its halt; a slow guest may not have got there at the first kick.
fn kick_out_of_halt(rig: &mut Rig) {
    loop {
        let kicker = rig.kicker();
        let _later = soon(move || kicker.kick());
        rig.expect(&Exit::Kicked);
        if rig.x86().run_state == RunState::Halted {
            return;
        }
    }
}

/// Interrupt controllers come back as they were: the route and a high line; the clock goes on.
pub fn devices_and_clock_survive_a_freeze(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, PENDING_LINE);
    rig.to_end();
    rig.vm.set_irq_line(PIN, true).expect("a line of the IOAPIC");
    let frozen = rig.freeze();
    let again = frozen.thaw(hypervisor).vm.save().expect("a machine at rest");
    let names = |state: &VmState| -> Vec<String> { state.chips.iter().map(|chip| chip.name.clone()).collect() };
    assert_eq!(names(&frozen.vm), names(&again));
    let ioapic = |state: &VmState| state.chips.iter().find(|chip| chip.name == "ioapic").cloned();
    assert!(ioapic(&frozen.vm).is_some(), "the chips are {:?}", names(&frozen.vm));
    assert_eq!(ioapic(&frozen.vm), ioapic(&again));
    assert!(again.clock_ns >= frozen.vm.clock_ns, "{} then {}", frozen.vm.clock_ns, again.clock_ns);
}

/// States are data: through JSON and back they are equal.
pub fn states_survive_json(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, MSR_STATE);
    rig.to_end();
    let frozen = rig.freeze();
    let text = serde_json::to_string(&frozen.vcpu).expect("a vCPU's state is data");
    assert_eq!(serde_json::from_str::<VcpuState>(&text).expect("and back"), frozen.vcpu);
    let text = serde_json::to_string(&frozen.vm).expect("a machine's state is data");
    assert_eq!(serde_json::from_str::<VmState>(&text).expect("and back"), frozen.vm);
}

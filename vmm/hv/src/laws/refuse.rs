//! Laws about what is refused: saved states are untrusted input.

use super::machine::{Rig, ram, state_mut};
use super::programs::kick::THREE_PORTS;
use crate::x86::{PendingException, VcpuState};
use crate::{ChipState, HvError, Hypervisor, VmConfig, VmState};

/// One way to spoil a state, with its name.
type Spoil<S> = (&'static str, fn(&mut S));

const VCPU_SPOILS: &[Spoil<VcpuState>] = &[
    ("no xsave area", |state| state.xsave.clear()),
    ("xsave area too short", |state| state.xsave.truncate(575)),
    ("xsave area too long", |state| state.xsave.resize(1 << 20, 0)),
    ("local APIC too short", |state| state.lapic.truncate(1023)),
    ("local APIC too long", |state| state.lapic.push(0)),
    ("register that does not exist", |state| state.msrs.push((0xdead_beef, 0))),
    ("XCR0 without x87", |state| state.xcr0 = 0),
    ("XCR0 with a component of the future", |state| state.xcr0 |= 1 << 62),
    ("exception vector above 31", |state| {
        state.events.exception = Some(PendingException { vector: 32, error_code: None });
    }),
    ("another CPU", |state| match state.cpuid.first_mut() {
        Some(leaf) => leaf.ebx ^= 1,
        None => state.cpuid.push(crate::x86::CpuidLeaf { function: 0, ebx: 1, ..Default::default() }),
    }),
];

const MACHINE_SPOILS: &[Spoil<VmState>] = &[
    ("no chips", |state| state.chips.clear()),
    ("a chip missing", |state| drop(state.chips.pop())),
    ("a chip too many", |state| state.chips.push(ChipState { name: "hpet".to_owned(), bytes: vec![] })),
    ("an unknown chip", |state| state.chips.iter_mut().take(1).for_each(|chip| chip.name = "hpet".to_owned())),
    ("a chip too short", |state| state.chips.iter_mut().for_each(|chip| chip.bytes.truncate(chip.bytes.len() - 1))),
    ("a chip too long", |state| state.chips.iter_mut().for_each(|chip| chip.bytes.push(0))),
    ("empty chips", |state| state.chips.iter_mut().for_each(|chip| chip.bytes.clear())),
];

/// Each spoilt vCPU state is refused as such, and the vCPU is what it was before.
pub fn bad_vcpu_states_are_refused(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, THREE_PORTS);
    rig.to_end();
    let good = rig.save();
    for (name, spoil) in VCPU_SPOILS {
        let mut bad = good.clone();
        spoil(state_mut(&mut bad));
        let state = state_mut(&mut bad);
        (state.regs.rip, state.regs.rax) = (0, 0);
        match rig.vcpu.restore(&bad) {
            Err(HvError::BadState { .. }) => {}
            other => panic!("{name}: a bad state expected, got {other:?}"),
        }
        assert_eq!(rig.x86().regs, state_mut(&mut good.clone()).regs, "{name}: the vCPU was changed");
    }
    rig.vcpu.restore(&good).expect("the good state");
    rig.to_end();
}

/// Each spoilt machine state is refused as such.
pub fn bad_machine_states_are_refused(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, THREE_PORTS);
    rig.to_end();
    let good = rig.vm.save().expect("a machine at rest");
    for (name, spoil) in MACHINE_SPOILS {
        let mut bad = good.clone();
        spoil(&mut bad);
        match rig.vm.restore(&bad) {
            Err(HvError::BadState { .. }) => {}
            other => panic!("{name}: a bad state expected, got {other:?}"),
        }
    }
    rig.vm.restore(&good).expect("the good state");
    rig.to_end();
}

/// More vCPUs than the back end names are refused with both numbers; so is an index the machine has not.
pub fn too_many_vcpus_are_refused(hypervisor: &dyn Hypervisor) {
    let limit = hypervisor.capabilities().max_vcpus;
    let config = VmConfig { memory: ram(THREE_PORTS), vcpus: limit + 1 };
    match hypervisor.create_vm(config) {
        Err(HvError::Limit { asked, limit: named, .. }) => {
            assert_eq!((asked, named), (u64::from(limit) + 1, u64::from(limit)));
        }
        other => panic!("a limit expected, got {:?}", other.map(|_| "a machine")),
    }
    let vm = hypervisor.create_vm(VmConfig { memory: ram(THREE_PORTS), vcpus: 1 }).expect("one vCPU");
    assert!(matches!(vm.create_vcpu(1).map(drop), Err(HvError::Limit { .. })));
}

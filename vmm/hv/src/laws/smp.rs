//! Laws about a second vCPU: it waits until the first starts it, and can be kicked while it waits.

use std::sync::Arc;
use std::thread;

use vm_memory::{Bytes, GuestAddress};

use super::machine::{END_PORT, boot, ram, state_mut};
use super::programs::kick::THREE_PORTS;
use super::programs::smp::{START_OTHER, STARTED};
use super::watch::{Watch, soon};
use crate::x86::RunState;
use crate::{Exit, GuestMemory, Hypervisor, UnboundVcpu, VmConfig};

/// Where the program's start-up IPI sends the second vCPU.
const START_PAGE: u64 = 0x1_8000;

/// A machine of two, not yet bound, with a time limit.
struct Two {
    memory: GuestMemory,
    vcpus: [Box<dyn UnboundVcpu>; 2],
    watch: Watch,
}

/// `None` and a word about it where the back end has one vCPU only.
fn two(hypervisor: &dyn Hypervisor, name: &str, code: &[u8]) -> Option<Two> {
    let limit = hypervisor.capabilities().max_vcpus;
    if limit < 2 {
        super::skip(name, &format!("machines of this back end have {limit} vCPU at most"));
        return None;
    }
    let memory = ram(code);
    memory.write_slice(STARTED, GuestAddress(START_PAGE)).expect("in RAM");
    let config = VmConfig { memory: memory.clone(), vcpus: 2 };
    let vm = hypervisor.create_vm(config).expect("a machine of two");
    let vcpus = [0, 1].map(|index| vm.create_vcpu(index).expect("a vCPU"));
    let watch = Watch::start();
    for vcpu in &vcpus {
        watch.guard(vcpu.kicker());
    }
    Some(Two { memory, vcpus, watch })
}

/// INIT and a start-up IPI start the second vCPU in real mode at the named page, with its own APIC id.
pub fn second_vcpu_starts_by_ipi(hypervisor: &dyn Hypervisor) {
    let Some(Two { memory, vcpus: [first, second], watch }) = two(hypervisor, "second_vcpu_starts_by_ipi", START_OTHER)
    else {
        return;
    };
    let kicker = second.kicker();
    let thread = thread::spawn(move || {
        let mut vcpu = second.bind().expect("binding to this thread");
        let exit = vcpu.run().expect("the second vCPU runs");
        assert_eq!(exit, Exit::PioWrite { port: 0xf5, size: 1, value: 0x77 });
        assert_eq!(vcpu.run().expect("the second vCPU halts"), Exit::Kicked);
    });
    let mut first = boot(first).expect("the first vCPU");
    let exit = first.run().expect("the first vCPU runs");
    assert!(!watch.expired(), "the law took too long; last exit {exit:?}");
    assert!(matches!(exit, Exit::PioWrite { port: END_PORT, .. }), "{exit:?}");
    let mut state = first.save().expect("nothing is in flight");
    assert_eq!(state_mut(&mut state).regs.rbx, 1, "the APIC id that CPUID shows the second vCPU");
    let word: u32 = memory.read_obj(GuestAddress(0x2_0000)).expect("in RAM");
    assert_eq!(word, 0x1234);
    kicker.kick();
    thread.join().expect("the second vCPU's thread");
}

/// A vCPU that nobody started waits; a kick ends the wait; its state says that it waits.
pub fn unstarted_vcpu_can_be_kicked(hypervisor: &dyn Hypervisor) {
    let Some(Two { vcpus: [_first, second], watch, .. }) = two(hypervisor, "unstarted_vcpu_can_be_kicked", THREE_PORTS)
    else {
        return;
    };
    let kicker = second.kicker();
    let mut vcpu = second.bind().expect("binding to this thread");
    for _ in 0..2 {
        let kicker = Arc::clone(&kicker);
        let _later = soon(move || kicker.kick());
        assert_eq!(vcpu.run().expect("waits"), Exit::Kicked);
        assert!(!watch.expired(), "the law took too long");
        let mut state = vcpu.save().expect("nothing is in flight");
        assert_eq!(state_mut(&mut state).run_state, RunState::Uninitialized);
        vcpu.restore(&state).expect("its own state");
    }
}

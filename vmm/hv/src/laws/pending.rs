//! Laws about exits in flight: nothing is lost or torn between an exit and the next entry.

use super::machine::{DATA, DEVICE, Rig};
use super::programs::io::{INSB_THEN_END, MODIFY_THEN_END, READ_THEN_END};
use super::programs::kick::THREE_PORTS;
use crate::{Exit, HvError, Hypervisor, Reply};

const READ: Exit = Exit::MmioRead { gpa: DEVICE, size: 4 };

/// While a read waits for its answer, `run`, `save` and `restore` are refused by name, and nothing is harmed.
pub fn unanswered_exit_refuses(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, READ_THEN_END);
    let start = rig.save();
    rig.expect(&READ);
    assert!(matches!(rig.vcpu.run(), Err(HvError::ExitInFlight { exit: "mmio-read" })));
    assert!(matches!(rig.vcpu.save(), Err(HvError::ExitInFlight { exit: "mmio-read" })));
    assert!(matches!(rig.vcpu.restore(&start), Err(HvError::ExitInFlight { exit: "mmio-read" })));
    rig.vcpu.complete(Reply::Read(7)).expect("a read takes data");
    assert_eq!(rig.registers_at_end().rbx, 7);
}

/// A reply of the wrong kind, or with nothing to answer, is refused and changes nothing.
pub fn wrong_reply_is_refused(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, READ_THEN_END);
    assert!(matches!(rig.vcpu.complete(Reply::Read(1)), Err(HvError::WrongReply { .. })), "nothing waits");
    rig.expect(&READ);
    assert!(matches!(rig.vcpu.complete(Reply::Hypercall(1)), Err(HvError::WrongReply { .. })), "another kind");
    rig.vcpu.complete(Reply::Read(9)).expect("a read takes data");
    assert!(matches!(rig.vcpu.complete(Reply::Read(1)), Err(HvError::WrongReply { .. })), "answered already");
    assert_eq!(rig.registers_at_end().rbx, 9);
    assert!(matches!(rig.vcpu.complete(Reply::Read(1)), Err(HvError::WrongReply { .. })), "a write waits for nothing");

    let mut rig = Rig::new(hypervisor, THREE_PORTS);
    rig.to_end();
    assert!(matches!(rig.vcpu.complete(Reply::Read(1)), Err(HvError::WrongReply { .. })));
    rig.to_end();
}

/// A save right after the answer has the loaded register and the next instruction's address.
pub fn answered_read_is_in_a_save(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, READ_THEN_END);
    rig.answer(&READ, 0xdead_beef);
    let frozen = rig.freeze();
    let regs = rig.x86().regs;
    assert_eq!((regs.rax, regs.rbx), (0xdead_beef, 0));
    assert_eq!(rig.registers_at_end().rbx, 0xdead_beef, "the original goes on");
    assert_eq!(frozen.thaw(hypervisor).registers_at_end().rbx, 0xdead_beef, "the copy goes on");
}

/// Between the two halves of a read-modify-write, a save is refused; the write still comes, once.
pub fn modify_is_not_torn_by_a_save(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, MODIFY_THEN_END);
    rig.answer(&READ, 4);
    match rig.vcpu.save() {
        Err(HvError::ExitInFlight { exit: "mmio-write" }) => {}
        other => panic!("the write is in flight, but the save gave {:?}", other.map(|_| "a state")),
    }
    rig.expect(&Exit::MmioWrite { gpa: DEVICE, size: 4, value: 7 });
    let frozen = rig.freeze();
    rig.to_end();
    frozen.thaw(hypervisor).to_end();
}

/// A kick in the middle of `REP INSB`: whatever is still in flight comes first, and a copy reads the rest.
pub fn string_input_is_not_torn_by_a_freeze(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, INSB_THEN_END);
    let read = Exit::PioRead { port: 0x1f0, size: 1 };
    let mut values = 0xb0..;
    rig.answer(&read, values.next().expect("endless"));
    rig.answer(&read, values.next().expect("endless"));
    rig.kicker().kick();
    loop {
        match rig.run() {
            Exit::Kicked => break,
            exit if exit == read => rig.vcpu.complete(Reply::Read(values.next().expect("endless"))).expect("data"),
            exit => panic!("a read or the kick expected, got {exit:?}"),
        }
    }
    let mut copy = rig.freeze().thaw(hypervisor);
    loop {
        match copy.run() {
            exit if exit == read => copy.vcpu.complete(Reply::Read(values.next().expect("endless"))).expect("data"),
            exit => break assert!(matches!(exit, Exit::PioWrite { .. }), "{exit:?}"),
        }
    }
    assert_eq!(copy.read(DATA + 0x100, 5), [0xb0, 0xb1, 0xb2, 0xb3, 0]);
    assert_eq!(copy.x86().regs.rcx, 0);
}

//! Laws about kicks: none is lost, none counts twice, none tears an access.

use std::sync::mpsc::channel;
use std::thread;

use super::machine::{DEVICE, END_PORT, Rig};
use super::programs::io::READ_THEN_END;
use super::programs::kick::{SLEEP, SPIN, THREE_PORTS};
use super::watch::soon;
use crate::{Exit, Hypervisor, Reply};

/// Rounds of the race between a kick and an entry.
const ROUNDS: u32 = 200;

/// Kicks before `run` make exactly one `run` come back kicked, before the guest gets anywhere.
pub fn kick_before_run_counts_once(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, THREE_PORTS);
    rig.kicker().kick();
    rig.kicker().kick();
    rig.expect(&Exit::Kicked);
    rig.expect(&Exit::PioWrite { port: END_PORT, size: 1, value: 1 });
    rig.kicker().kick();
    rig.expect(&Exit::Kicked);
    rig.expect(&Exit::PioWrite { port: END_PORT, size: 1, value: 2 });
    rig.expect(&Exit::PioWrite { port: END_PORT, size: 1, value: 3 });
}

/// A vCPU that never exits by itself comes back, and goes on from where it was.
pub fn kick_ends_a_busy_loop(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, SPIN);
    let mut counted = 0;
    for _ in 0..2 {
        let kicker = rig.kicker();
        let _later = soon(move || kicker.kick());
        rig.expect(&Exit::Kicked);
        let regs = rig.x86().regs;
        assert!(regs.rax > counted, "the loop ran: {} then {}", counted, regs.rax);
        counted = regs.rax;
    }
}

/// A kick that races with the entry ends that `run` all the same.
pub fn kick_never_gets_lost(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, SPIN);
    let kicker = rig.kicker();
    let (go, rounds) = channel::<()>();
    let thread = thread::spawn(move || {
        while rounds.recv().is_ok() {
            kicker.kick();
        }
    });
    for _ in 0..ROUNDS {
        go.send(()).expect("the kicking thread lives");
        rig.expect(&Exit::Kicked);
    }
    drop(go);
    thread.join().expect("the kicking thread ends");
}

/// A halt with interrupts on waits; a kick ends the wait and the next `run` waits again.
pub fn kick_wakes_a_halt(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, SLEEP);
    for _ in 0..3 {
        let kicker = rig.kicker();
        let _later = soon(move || kicker.kick());
        rig.expect(&Exit::Kicked);
        assert_eq!(rig.x86().regs.rbx, 0, "a kick does not carry the guest past its halt");
    }
}

/// A kick while a read waits for its answer is kept until the answer has reached the guest.
pub fn kick_while_an_exit_waits(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, READ_THEN_END);
    rig.expect(&Exit::MmioRead { gpa: DEVICE, size: 4 });
    rig.kicker().kick();
    rig.vcpu.complete(Reply::Read(0x1234_5678)).expect("a read takes data");
    rig.expect(&Exit::Kicked);
    let regs = rig.x86().regs;
    assert_eq!((regs.rax, regs.rbx), (0x1234_5678, 0), "the load is complete, the next instruction is not");
    assert_eq!(rig.registers_at_end().rbx, 0x1234_5678);
}

//! Laws about exceptions: vector, error code, saved address, CR2, and the end of the line.

use super::machine::{CODE, END_PORT, READ_ONLY, Rig, state_mut};
use super::programs::fault::{
    BREAKPOINT, DIVIDE, ERROR_HANDLER, EXECUTE_NO_EXECUTE, NON_CANONICAL, PLAIN_HANDLER, READ_UNMAPPED, UNDEFINED,
    WRITE_PROTECTED, WRITE_UNMAPPED,
};
use crate::{Exit, Fault, Hypervisor};

const PAGE_FAULT: u8 = 14;
/// The unmapped address the programs touch.
const UNMAPPED: u64 = 0xffff_8000_0012_3456;
/// Page fault error code bits (Intel SDM vol. 3A §4.7).
const PROTECTION: u64 = 1;
const WRITE: u64 = 1 << 1;
const FETCH: u64 = 1 << 4;

/// Undefined instruction, division, breakpoint and general protection reach their vectors with the right address.
pub fn faults_reach_their_handlers(hypervisor: &dyn Hypervisor) {
    for (name, program, vector, saved_rip) in
        [("UD2", UNDEFINED, 6, CODE), ("DIV by 0", DIVIDE, 0, CODE + 2), ("INT3", BREAKPOINT, 3, CODE + 1)]
    {
        let mut rig = Rig::new(hypervisor, program);
        rig.gate(vector, PLAIN_HANDLER);
        assert_eq!(rig.registers_at_end().rdx, saved_rip, "{name}");
    }
    let mut rig = Rig::new(hypervisor, NON_CANONICAL);
    rig.gate(13, ERROR_HANDLER);
    let regs = rig.registers_at_end();
    assert_eq!((regs.rbx, regs.rdx), (0, CODE + 10), "general protection");
}

/// CR2 and the error code tell reads, writes, protection and fetches apart.
pub fn page_faults_report_address_and_code(hypervisor: &dyn Hypervisor) {
    for (name, program, address, code, saved_rip) in [
        ("read", READ_UNMAPPED, UNMAPPED, 0, CODE + 10),
        ("write", WRITE_UNMAPPED, UNMAPPED, WRITE, CODE + 10),
        ("write protected", WRITE_PROTECTED, READ_ONLY + 0x10, PROTECTION | WRITE, CODE + 5),
        ("no execute", EXECUTE_NO_EXECUTE, READ_ONLY + 0x20, PROTECTION | FETCH, READ_ONLY + 0x20),
    ] {
        let mut rig = Rig::new(hypervisor, program);
        rig.gate(PAGE_FAULT, ERROR_HANDLER);
        let regs = rig.registers_at_end();
        assert_eq!((regs.rsi, regs.rbx, regs.rdx), (address, code, saved_rip), "{name}");
        assert_eq!(rig.x86().sregs.cr2, address, "{name}: CR2 in a save");
    }
}

/// A fault with no table to handle it ends the vCPU as a triple fault.
pub fn triple_fault_ends_the_vcpu(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, UNDEFINED);
    let mut state = rig.save();
    state_mut(&mut state).sregs.idt.limit = 0;
    rig.vcpu.restore(&state).expect("an empty interrupt table is a state like any other");
    let exit = rig.run();
    assert_eq!(exit, Exit::Fault(Fault::TripleFault), "port {END_PORT:#x} is never reached");
}

//! The busy guest's machine, and what is compared at its end.

use supermachine_hv::laws::machine::{END_PORT, RAM_LEN, Rig, state_mut};
use supermachine_hv::x86::{self, RunState};
use supermachine_hv::{Exit, Hypervisor, VcpuState};

use super::device::Device;
use super::programs::{BUSY, CHANGING, FAULT_IN, TICK};

/// Vectors of page faults and of the timer.
const PAGE_FAULT: u8 = 14;
const TIMER: u8 = 0x30;
/// Where [`CHANGING`] lies.
const FUNCTIONS: u64 = 0x1_6000;
/// Ticks so far, and the timer's own stack above: the only memory that depends on time.
const TICKS: u64 = 0x1_8000;
const TICK_STACK_TOP: u64 = 0x1_a000;
/// A page directory and a page table for the window, 256 KiB from 4 GiB on; the guest fills the table.
const DIRECTORY: u64 = 0x1_b000;
const WINDOW_TABLE: u64 = 0x1_c000;
/// Entry 4 of the machine's page directory pointer table.
const WINDOW_POINTER: u64 = 0x2000 + 4 * 8;
const PRESENT_WRITABLE: u64 = 3;
/// Page faults so far.
const FAULTS: u64 = 0x2_0100;
/// IST1 in a 64-bit TSS, and the byte of an interrupt gate that chooses it (Intel SDM vol. 3A §7.7, §6.14.1).
const IST1: u64 = 0x24;
const GATE_IST: u64 = 4;

/// MSRs that move with time: TSC.
const MOVING_MSR: u32 = 0x10;

/// A machine about to run the busy guest.
pub(super) fn boot(hypervisor: &dyn Hypervisor) -> Rig {
    let mut rig = Rig::new(hypervisor, BUSY);
    rig.gate(PAGE_FAULT, FAULT_IN);
    rig.gate(TIMER, TICK);
    let sregs = rig.x86().sregs;
    rig.write(sregs.tr.base + IST1, &TICK_STACK_TOP.to_le_bytes());
    rig.write(sregs.idt.base + u64::from(TIMER) * 16 + GATE_IST, &[1]);
    rig.write(FUNCTIONS, CHANGING);
    rig.write(WINDOW_POINTER, &(DIRECTORY | PRESENT_WRITABLE).to_le_bytes());
    rig.write(DIRECTORY, &(WINDOW_TABLE | PRESENT_WRITABLE).to_le_bytes());
    rig
}

/// Whether the guest is done.
pub(super) fn is_end(exit: &Exit) -> bool {
    matches!(exit, Exit::PioWrite { port: END_PORT, .. })
}

/// Whether this vCPU sleeps.
pub(super) fn halted(state: &VcpuState) -> bool {
    match state {
        VcpuState::X86(state) => state.run_state == RunState::Halted,
        _ => false,
    }
}

/// All that must be the same at the end.
pub(super) struct Ending {
    vcpu: x86::VcpuState,
    memory: Vec<u8>,
    device: Device,
    ticks: u64,
}

impl Ending {
    pub(super) fn of(rig: &mut Rig, device: Device) -> Self {
        let mut vcpu = state_mut(&mut rig.vcpu.save().expect("the end is a place to save")).clone();
        vcpu.msrs.retain(|(index, _)| *index != MOVING_MSR);
        let mut memory = rig.read(0, RAM_LEN);
        let ticks = word(&memory, TICKS);
        memory[TICKS as usize..TICK_STACK_TOP as usize].fill(0);
        Self { vcpu, memory, device, ticks }
    }

    /// The guest did what it is there for.
    pub(super) fn check_was_busy(&self) {
        let faults = word(&self.memory, FAULTS);
        eprintln!("{} ticks, {faults} page faults, {} device accesses", self.ticks, self.device.accesses);
        assert!(self.ticks > 10, "{} ticks", self.ticks);
        assert!(faults > 1_000, "{faults} page faults");
        assert!(self.device.accesses > 100, "{} accesses", self.device.accesses);
    }

    #[track_caller]
    pub(super) fn compare(&self, whole: &Self) {
        assert!(self.ticks > 10, "{} ticks", self.ticks);
        assert_eq!(self.device, whole.device);
        assert_eq!(self.vcpu.regs, whole.vcpu.regs);
        assert_eq!(self.vcpu.xsave, whole.vcpu.xsave);
        assert_eq!(self.vcpu, whole.vcpu);
        let pairs = self.memory.iter().zip(&whole.memory).enumerate();
        let differs: Vec<_> = pairs.filter(|(_, (cut, whole))| cut != whole).take(16).collect();
        assert!(differs.is_empty(), "(address, (cut, whole)): {differs:x?}");
    }
}

fn word(memory: &[u8], at: u64) -> u64 {
    let at = at as usize;
    memory[at..at + 8].iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

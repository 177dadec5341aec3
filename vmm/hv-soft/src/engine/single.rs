//! One instruction at a time from a chosen user state: the entry of the oracle that compares this CPU with the host's.

use std::sync::Arc;

use supermachine_hv::x86::{RunState, Segment, Sregs};
use supermachine_hv::{GuestMemory, HvError};

use super::Engine;
use crate::chips::shared::Board;
use crate::code::block::BlockInfo;
use crate::code::thread::Left;
use crate::code::{Listing, Source};
use crate::cpu::Cpu;
use crate::cpuid::Model;
use crate::decode;
use crate::mem::{OFFSET, PAGE, Ram};
use crate::op::{Op, Stop, slot};
use crate::simd::mxcsr::MXCSR_RESET;
use crate::sys::exception::Exception;
use crate::sys::msr::index;
use crate::x87::image::{FXSAVE_BYTES, fxrstor_image, fxsave_image};

/// Selectors of a 64-bit Linux process.
const USER_CS: u16 = 0x33;
const USER_SS: u16 = 0x2b;
/// CR0: PG, AM, WP, NE, ET, MP, PE.
const CR0: u64 = 0x8005_0033;
/// CR4: FSGSBASE, OSXMMEXCPT, OSFXSR, PGE, PAE.
const CR4: u64 = 0x1_06a0;
/// EFER: NXE, LMA, LME, SCE.
const EFER: u64 = 0xd01;
/// A string instruction may stop this often to let interrupts in.
const MOST_PAUSES: u32 = 100_000;

/// The user-visible state an instruction starts from and leaves.
#[derive(Debug, Clone)]
pub struct UserState {
    /// FXSAVE64 image.
    pub fx: [u8; FXSAVE_BYTES],
    /// General registers in encoding order.
    pub gpr: [u64; 16],
    /// RFLAGS.
    pub rflags: u64,
    /// Address of the instruction, then of the next.
    pub rip: u64,
}

/// Why an instruction did not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// An exception.
    Exception {
        /// Vector.
        vector: u8,
        /// Error code, 0 where there is none.
        error: u32,
        /// What CR2 would be for a page fault, else 0.
        address: u64,
    },
    /// Something only a whole machine can go on from; the name of the reason.
    Other(&'static str),
}

/// A CPU in 64-bit user mode that runs single instructions.
pub struct SingleStepper {
    engine: Engine,
    bases: [u64; 2],
    ops: Listing,
}

impl SingleStepper {
    /// A CPU over `memory` with the page tables at `cr3`, and these bases of FS and GS.
    ///
    /// # Errors
    /// As [`crate::SoftHypervisor`]'s machine.
    pub fn new(model: Model, memory: GuestMemory, cr3: u64, bases: [u64; 2]) -> Result<Self, HvError> {
        let shared = Arc::clone(&Board::new()).add_vcpu();
        let cpu = Cpu::new(Ram::new(memory)?, shared, 0, model);
        let mut engine = Engine::new(cpu, RunState::Runnable);
        let mut state = engine.save()?;
        state.sregs = Sregs { apic_base: state.sregs.apic_base, ..user_sregs(cr3, bases) };
        (state.regs.rip, state.regs.rflags) = (0, 2);
        for (number, value) in &mut state.msrs {
            match *number {
                index::FS_BASE => *value = bases[0],
                index::GS_BASE => *value = bases[1],
                _ => {}
            }
        }
        engine.restore(&state)?;
        engine.cpu.flush_code = false;
        Ok(SingleStepper { engine, bases, ops: Listing::default() })
    }

    /// Runs the instruction at `state.rip` alone and puts what it leaves into `state`.
    pub fn step(&mut self, state: &mut UserState) -> Result<(), Stopped> {
        self.on_state(state, Self::one)
    }

    /// Runs the instructions from `state.rip` to `end` as the block they are decoded to, so that what the decoder
    /// makes of instructions that follow each other is seen.
    pub fn step_block(&mut self, state: &mut UserState, end: u64) -> Result<(), Stopped> {
        self.on_state(state, |stepper| stepper.block(end))
    }

    fn on_state(
        &mut self,
        state: &mut UserState,
        run: impl FnOnce(&mut Self) -> Result<(), Stopped>,
    ) -> Result<(), Stopped> {
        let cpu = &mut *self.engine.cpu;
        let Some((fpu, mxcsr, xmm)) = fxrstor_image(&state.fx) else {
            return Err(Stopped::Other("the starting state's MXCSR has reserved bits"));
        };
        (cpu.fpu, cpu.mxcsr, cpu.xmm) = (fpu, mxcsr, xmm);
        cpu.regs[..16].copy_from_slice(&state.gpr);
        cpu.set_rflags(state.rflags);
        cpu.fault = Exception::NONE;
        cpu.enter_page(state.rip);
        let result = run(self);
        self.check_mode()?;
        let cpu = &*self.engine.cpu;
        state.fx = fxsave_image(&cpu.fpu, cpu.mxcsr, &cpu.xmm);
        state.gpr.copy_from_slice(&cpu.regs[..16]);
        state.rflags = cpu.rflags();
        state.rip = cpu.rip;
        result
    }

    fn one(&mut self) -> Result<(), Stopped> {
        for _ in 0..MOST_PAUSES {
            let decoded = match self.fetch() {
                Ok(decoded) => decoded,
                Err(_) => return Err(self.exception()),
            };
            let op = decoded.op;
            let cpu = &mut *self.engine.cpu;
            cpu.enter_page(cpu.rip);
            let result = (decoded.plain)(cpu, &op);
            let stop = match result {
                Ok(()) => {
                    cpu.rip = cpu.next_rip(&op);
                    return Ok(());
                }
                Err(stop) => stop,
            };
            match stop {
                Stop::Taken => {
                    let decode::Flow::End(Some(target)) = decoded.flow else {
                        return Err(Stopped::Other("a branch is taken that has no target"));
                    };
                    cpu.rip = cpu.regs[slot::PAGE as usize].wrapping_add(target);
                    return Ok(());
                }
                Stop::Jump | Stop::Sync => return Ok(()),
                Stop::Again => cpu.rip = cpu.op_rip(&op),
                Stop::Fault => return Err(self.faulted(&op)),
                Stop::Halt => return Err(Stopped::Other("halt")),
                Stop::Exit => return Err(Stopped::Other("exit")),
                _ => return Err(Stopped::Other("step")),
            }
        }
        Err(Stopped::Other("a string instruction does not end"))
    }

    fn block(&mut self, end: u64) -> Result<(), Stopped> {
        let start = self.engine.cpu.rip;
        for _ in 0..MOST_PAUSES {
            self.one_block(end)?;
            let rip = self.engine.cpu.rip;
            // At the start again: a string instruction let interrupts in. Further on: the block ended with the page.
            if rip < start || rip >= end {
                return Ok(());
            }
        }
        Err(Stopped::Other("a block does not end"))
    }

    fn one_block(&mut self, end: u64) -> Result<(), Stopped> {
        let rip = self.engine.cpu.rip;
        let mut page = vec![0; PAGE as usize];
        let offset = rip & OFFSET;
        if self.engine.copy_code(rip, &mut page[offset as usize..]).is_err() {
            return Err(self.exception());
        }
        let modes = self.engine.modes();
        let mut ops = std::mem::take(&mut self.ops);
        // Not further than the end: what follows may replace flags that are still to be compared.
        let until = if end > rip { (end - (rip & !OFFSET)).min(PAGE) } else { PAGE };
        let block = decode::block(&page[..until as usize], offset, modes, &mut ops);
        self.engine.cpu.enter_page(rip);
        let result = if ops.ops.is_empty() { self.one() } else { self.run_block(&ops, &block) };
        self.ops = ops;
        result
    }

    /// Runs a block as threaded code, the way the run loop does.
    fn run_block(&mut self, ops: &Listing, block: &decode::DecodedBlock) -> Result<(), Stopped> {
        let engine = &mut self.engine;
        let Some((page, number)) = engine.cpu.ram.page(engine.cpu.sys.cr3) else {
            return Err(Stopped::Other("there is no memory"));
        };
        let info = BlockInfo { instructions: block.instructions, end: block.end, target: block.target.unwrap_or(0) };
        engine.code.clear();
        let number = engine.code.insert(0, 1, info, ops, Source { page, number });
        // Without fuel it stops at the block's end.
        if engine.run_from(number, 0).0 != Left::Stopped {
            return Ok(());
        }
        let cpu = &mut *engine.cpu;
        let Some(&op) = engine.code.ops().get(cpu.left) else {
            return Err(Stopped::Other("it stopped outside its block"));
        };
        match cpu.stop {
            Stop::Taken | Stop::Jump | Stop::Sync => Ok(()),
            Stop::Again => {
                cpu.rip = cpu.op_rip(&op);
                Ok(())
            }
            Stop::Fault => Err(self.faulted(&op)),
            Stop::Halt => Err(Stopped::Other("halt")),
            Stop::Exit => Err(Stopped::Other("exit")),
            _ => {
                cpu.rip = cpu.op_rip(&op);
                self.one()
            }
        }
    }

    fn fetch(&mut self) -> Result<decode::Decoded, Stop> {
        let rip = self.engine.cpu.rip;
        let offset = rip & OFFSET;
        let mut bytes = [0; decode::MAX_INSTRUCTION];
        let mut have = bytes.len().min((PAGE - offset) as usize);
        self.engine.copy_code(rip, &mut bytes[..have])?;
        if have < bytes.len() && decode::needs_more(&bytes[..have]) {
            self.engine.copy_code((rip & !OFFSET).wrapping_add(PAGE), &mut bytes[have..])?;
            have = bytes.len();
        }
        let modes = self.engine.modes();
        Ok(decode::one(&bytes[..have], offset, modes))
    }

    fn faulted(&mut self, op: &Op) -> Stopped {
        let cpu = &mut *self.engine.cpu;
        cpu.rip = cpu.op_rip(op);
        cpu.io.clear();
        if op.mode & crate::op::mode::STACK != 0 {
            cpu.stack_stop(Stop::Fault);
        }
        self.exception()
    }

    fn exception(&self) -> Stopped {
        let fault = self.engine.cpu.fault;
        let address = fault.cr2.unwrap_or(0);
        Stopped::Exception { vector: fault.vector, error: fault.code.unwrap_or(0), address }
    }

    /// User code must not have got out of user mode; if it did, that is put right for the next case.
    fn check_mode(&mut self) -> Result<(), Stopped> {
        let cpu = &mut *self.engine.cpu;
        let bases = [cpu.regs[slot::FS as usize], cpu.regs[slot::GS as usize]];
        if cpu.cpl == 3 && bases == self.bases && cpu.sys.cr0 == CR0 && cpu.sys.cr4 == CR4 && cpu.sys.efer == EFER {
            return Ok(());
        }
        cpu.set_cpl(3);
        (cpu.sys.cr0, cpu.sys.cr4, cpu.sys.efer) = (CR0, CR4, EFER);
        (cpu.regs[slot::FS as usize], cpu.regs[slot::GS as usize]) = (self.bases[0], self.bases[1]);
        cpu.mxcsr = MXCSR_RESET;
        Err(Stopped::Other("it changed what user code must not change"))
    }
}

fn user_sregs(cr3: u64, [fs, gs]: [u64; 2]) -> Sregs {
    let data = |selector: u16, base: u64| Segment {
        base,
        limit: u32::MAX,
        selector,
        attributes: if selector == 0 { 1 << 16 } else { 0xc0f3 },
    };
    Sregs {
        cs: Segment { base: 0, limit: u32::MAX, selector: USER_CS, attributes: 0xa0fb },
        ss: data(USER_SS, 0),
        ds: data(0, 0),
        es: data(0, 0),
        fs: data(0, fs),
        gs: data(0, gs),
        cr0: CR0,
        cr3,
        cr4: CR4,
        efer: EFER,
        ..Sregs::default()
    }
}

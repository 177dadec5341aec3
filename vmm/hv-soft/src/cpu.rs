//! The architectural state of the emulated CPU.

use std::sync::Arc;

use supermachine_hv::x86::{Segment, Table};

use crate::access::Io;
use crate::chips::lapic::Lapic;
use crate::chips::shared::Shared;
use crate::clock::Clock;
use crate::code::jump::JumpCache;
use crate::code::map::CodeMap;
use crate::cpuid::Model;
use crate::flags::{Flags, bit};
use crate::mem::{OFFSET, Ram};
use crate::op::{Op, Stop, slot};
use crate::simd::mxcsr::MXCSR_RESET;
use crate::spec::{cr0, cr4, efer};
use crate::sys::exception::Exception;
use crate::sys::msr::Msrs;
use crate::sys::random::Random;
use crate::tlb::Tlb;
use crate::x87::Fpu;

/// Numbers of the segment registers in [`Sys::segs`], as encoded in instructions.
pub(crate) mod seg {
    pub(crate) const ES: usize = 0;
    pub(crate) const CS: usize = 1;
    pub(crate) const SS: usize = 2;
    pub(crate) const DS: usize = 3;
    pub(crate) const FS: usize = 4;
    pub(crate) const GS: usize = 5;
}

/// Numbers of general registers.
pub(crate) mod reg {
    pub(crate) const RAX: usize = 0;
    pub(crate) const RCX: usize = 1;
    pub(crate) const RDX: usize = 2;
    pub(crate) const RBX: usize = 3;
    pub(crate) const RSP: usize = 4;
    pub(crate) const RBP: usize = 5;
    pub(crate) const RSI: usize = 6;
    pub(crate) const RDI: usize = 7;
    pub(crate) const R11: usize = 11;
}

/// Segments, tables and control registers. The bases of FS and GS live in `Cpu::regs`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sys {
    pub(crate) segs: [Segment; 6],
    pub(crate) tr: Segment,
    pub(crate) ldt: Segment,
    pub(crate) gdt: Table,
    pub(crate) idt: Table,
    pub(crate) cr0: u64,
    pub(crate) cr2: u64,
    pub(crate) cr3: u64,
    pub(crate) cr4: u64,
    pub(crate) efer: u64,
    /// DR0–DR3, DR6, DR7.
    pub(crate) debug: [u64; 6],
}

/// First instruction after reset.
const RESET_RIP: u64 = 0xfff0;

impl Sys {
    /// Values after reset (Intel SDM vol. 3, 9.1.1).
    fn reset() -> Self {
        let data = Segment { base: 0, limit: 0xffff, selector: 0, attributes: 0x93 };
        let mut sys = Sys {
            segs: [data; 6],
            tr: Segment { attributes: 0x8b, ..data },
            ldt: Segment { attributes: 0x82, ..data },
            gdt: Table { base: 0, limit: 0xffff },
            idt: Table { base: 0, limit: 0xffff },
            cr0: cr0::CD | cr0::NW | cr0::ET,
            debug: [0, 0, 0, 0, 0xffff_0ff0, 0x400],
            ..Sys::default()
        };
        sys.segs[seg::CS] = Segment { base: 0xffff_0000, limit: 0xffff, selector: 0xf000, attributes: 0x9b };
        sys
    }
}

/// One vCPU. What nearly every instruction needs comes first, where short displacements reach it.
#[repr(C)]
pub(crate) struct Cpu {
    /// Arithmetic flags.
    pub(crate) flags: Flags,
    /// Instructions that may still run before the run loop is needed.
    pub(crate) fuel: i32,
    /// Fuel at the start.
    pub(crate) granted: i32,
    /// Address of the next instruction; exact only between blocks.
    pub(crate) rip: u64,
    /// General registers and the constant slots of [`slot`].
    pub(crate) regs: [u64; slot::COUNT],
    /// The other bits of RFLAGS (system flags, DF), bit 1 always set.
    pub(crate) sysflags: u64,
    /// Current privilege level.
    pub(crate) cpl: u8,
    /// SSE registers.
    pub(crate) xmm: [u128; 16],
    /// SSE control and status.
    pub(crate) mxcsr: u32,
    /// x87 and MMX.
    pub(crate) fpu: Fpu,
    /// Soft TLB.
    pub(crate) tlb: Tlb,
    /// Guest RAM.
    pub(crate) ram: Ram,
    /// Which bytes of RAM are decoded code, and which of them were written.
    pub(crate) code_map: CodeMap,
    /// Jump targets to blocks.
    pub(crate) jumps: JumpCache,
    /// Segments, tables, control registers.
    pub(crate) sys: Sys,
    /// Model-specific registers.
    pub(crate) msrs: Msrs,
    /// Local APIC.
    pub(crate) lapic: Lapic,
    /// TSC and kvmclock.
    pub(crate) clock: Arc<Clock>,
    /// The exception that stopped an instruction.
    pub(crate) fault: Exception,
    /// Accesses that leave the vCPU.
    pub(crate) io: Io,
    /// Interrupts are held off for the instruction at this address (after STI or a load of SS).
    pub(crate) shadow: Option<u64>,
    /// Shadow came from a load of SS.
    pub(crate) shadow_ss: bool,
    /// Non-maskable interrupts are blocked until IRET.
    pub(crate) nmi_masked: bool,
    /// An interrupt waits for IF.
    pub(crate) irq_waiting: bool,
    /// RDRAND.
    pub(crate) random: Random,
    /// What other threads see.
    pub(crate) shared: Arc<Shared>,
    /// Why it did.
    pub(crate) stop: Stop,
    /// Index of the op that left the threaded code.
    pub(crate) left: usize,
    /// What CPUID says.
    pub(crate) model: Model,
    /// Set when decoded code depends on a mode that changed; the engine then drops all code.
    pub(crate) flush_code: bool,
}

impl Cpu {
    /// A CPU in its reset state.
    pub(crate) fn new(ram: Ram, shared: Arc<Shared>, id: u32, model: Model) -> Box<Self> {
        let pages = ram.pages();
        let mut cpu = Box::new(Cpu {
            regs: [0; slot::COUNT],
            flags: Flags::default(),
            sysflags: bit::FIXED,
            rip: RESET_RIP,
            cpl: 0,
            xmm: [0; 16],
            mxcsr: MXCSR_RESET,
            fpu: Fpu::default(),
            tlb: Tlb::new(),
            ram,
            code_map: CodeMap::new(pages),
            jumps: JumpCache::new(),
            sys: Sys::reset(),
            msrs: Msrs::default(),
            lapic: Lapic::new(id),
            clock: shared.board.clock.clone(),
            fault: Exception::NONE,
            io: Io::default(),
            shadow: None,
            shadow_ss: false,
            nmi_masked: false,
            irq_waiting: false,
            random: Random::new(),
            shared,
            fuel: 0,
            granted: 0,
            left: 0,
            stop: Stop::Sync,
            model,
            flush_code: false,
        });
        cpu.regs[reg::RDX] = u64::from(crate::cpuid::SIGNATURE);
        cpu.regs[slot::FAR as usize] = slot::FAR_STEP;
        cpu.flags.unpack(0);
        cpu
    }

    /// Why the current mode cannot be run, as a number for the log: 1 no paging, 2 no long mode, 3 no 64-bit code.
    pub(crate) fn unsupported_mode(&self) -> Option<u64> {
        let sys = &self.sys;
        if sys.cr0 & (cr0::PE | cr0::PG) != cr0::PE | cr0::PG {
            Some(1)
        } else if sys.efer & efer::LMA == 0 || sys.cr4 & cr4::PAE == 0 {
            Some(2)
        } else if sys.segs[seg::CS].attributes & 1 << 13 == 0 {
            Some(3)
        } else {
            None
        }
    }

    /// Virtual address of the instruction being executed.
    #[inline(always)]
    pub(crate) fn op_rip(&self, op: &Op) -> u64 {
        self.regs[slot::PAGE as usize].wrapping_add(op.offset())
    }

    /// Virtual address of the instruction after `op`.
    #[inline(always)]
    pub(crate) fn next_rip(&self, op: &Op) -> u64 {
        self.regs[slot::PAGE as usize].wrapping_add(op.end())
    }

    /// Ends the block after `op` and looks at interrupts and modes before the next instruction.
    pub(crate) fn sync(&mut self, op: &Op) -> crate::op::Res {
        self.rip = self.next_rip(op);
        Err(Stop::Sync)
    }

    /// All of RFLAGS.
    pub(crate) fn rflags(&self) -> u64 {
        self.flags.pack() | self.sysflags
    }

    /// Replaces all of RFLAGS; the caller has applied the rules on which bits may change.
    pub(crate) fn set_rflags(&mut self, v: u64) {
        self.flags.unpack(v);
        self.sysflags = v & !bit::ARITH | bit::FIXED;
        if v & bit::TF != 0 || v & bit::IF != 0 && self.irq_waiting {
            self.attend();
        }
    }

    /// Sets the privilege level and with it the half of the TLB that accesses use.
    pub(crate) fn set_cpl(&mut self, cpl: u8) {
        self.cpl = cpl;
        self.tlb.set_user(cpl == 3);
        self.jumps.set_user(cpl == 3);
    }

    /// Sets `rip` and the page base of the block to come.
    pub(crate) fn enter_page(&mut self, rip: u64) {
        self.rip = rip;
        self.regs[slot::PAGE as usize] = rip & !OFFSET;
    }

    /// Stops with an exception that has an error code.
    #[cold]
    pub(crate) fn raise_code(&mut self, vector: u8, code: u32) -> Stop {
        self.fault = Exception { vector, code: Some(code), cr2: None, canonical: true };
        Stop::Fault
    }

    /// Stops with an exception that has none.
    #[cold]
    pub(crate) fn raise(&mut self, vector: u8) -> Stop {
        self.fault = Exception { vector, code: None, cr2: None, canonical: true };
        Stop::Fault
    }

    /// Stops with #GP(0).
    #[cold]
    pub(crate) fn gp0(&mut self) -> Stop {
        self.raise_code(crate::sys::exception::GP, 0)
    }

    /// Stops with #UD.
    #[cold]
    pub(crate) fn ud(&mut self) -> Stop {
        self.raise(crate::sys::exception::UD)
    }
}

/// Whether bits 63–47 of an address are equal.
#[inline(always)]
pub(crate) fn canonical(va: u64) -> bool {
    ((va as i64) << 16 >> 16) as u64 == va
}

//! One decoded instruction: 32 bytes with the handler that carries it out.

use crate::code::thread::Quick;
use crate::cpu::Cpu;

/// Result of everything that can end or abort an instruction.
pub(crate) type Res<T = ()> = Result<T, Stop>;

/// Carries out one instruction. `Ok` means done, go on with the next op of the block.
pub(crate) type Handler = fn(&mut Cpu, &Op) -> Res;

/// Why an op ended its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stop {
    /// Done; the direct branch at the block's end is taken.
    Taken,
    /// Done; `cpu.rip` holds the next address.
    Jump,
    /// Done; `cpu.rip` holds the next address and interrupts, exits or modes must be looked at first.
    Sync,
    /// Not done but restartable (REP in progress): look at interrupts, then run the same instruction again.
    Again,
    /// Aborted with the exception in `cpu.fault`.
    Fault,
    /// Aborted: an exit is pending (MMIO or port read); the instruction runs again when it is answered.
    Exit,
    /// Done, with a store that changed code; `cpu.rip` holds the next address.
    Changed,
    /// Not done: the TLB does not know a page, and the handler goes no further than the TLB.
    Miss,
    /// Not done: the code was changed and is forgotten.
    Retired,
    /// Not done: the instruction must run alone (it crosses a page).
    Step,
    /// Done; HLT was executed and `cpu.rip` holds the next address.
    Halt,
}

/// Slots of `Cpu::regs` after the sixteen general registers. They make address forms uniform.
pub(crate) mod slot {
    /// Virtual address of the page the current block is in.
    pub(crate) const PAGE: u8 = 16;
    /// Always zero: an absent base, index or segment.
    pub(crate) const ZERO: u8 = 17;
    /// FS base.
    pub(crate) const FS: u8 = 18;
    /// GS base.
    pub(crate) const GS: u8 = 19;
    /// Always [`FAR_STEP`]: lets a rip-relative displacement that leaves the i32 range be written as a sum.
    pub(crate) const FAR: u8 = 20;
    /// The constant in [`FAR`].
    pub(crate) const FAR_STEP: u64 = 0x2000;
    /// Number of slots: as many as a byte can name, so that no bounds check is needed. Those above are never used.
    pub(crate) const COUNT: usize = 256;
}

/// Bits of [`Op::mode`].
pub(crate) mod mode {
    /// Shift applied to the index register.
    pub(crate) const SCALE: u8 = 3;
    /// Addresses are truncated to 32 bits (prefix 67).
    pub(crate) const ADDR32: u8 = 4;
    /// Prefix F3.
    pub(crate) const REP: u8 = 8;
    /// Prefix F2.
    pub(crate) const REPNE: u8 = 16;
    /// The address is relative to the stack segment: a non-canonical one is #SS, not #GP.
    pub(crate) const STACK: u8 = 32;
    /// The memory operand is `base + disp` and nothing else.
    pub(crate) const SIMPLE: u8 = 64;
}

/// One decoded instruction.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub(crate) struct Op {
    /// Carries it out and goes on with what follows.
    pub(crate) quick: Quick,
    /// Immediate, sign-extended to the operand size and kept in 64 bits.
    pub(crate) imm: u64,
    /// Displacement of the memory operand.
    pub(crate) disp: i32,
    /// Handler's own: branch target relative to the page, second immediate, sub-operation.
    pub(crate) aux: u32,
    /// Register of the first operand, if it is one.
    pub(crate) dst: u8,
    /// Register of the second operand (or the only register beside a memory first operand).
    pub(crate) src: u8,
    /// Slot of the base register.
    pub(crate) base: u8,
    /// Slot of the index register.
    pub(crate) index: u8,
    /// See [`mode`].
    pub(crate) mode: u8,
    /// Slot of the segment base.
    pub(crate) seg: u8,
    /// Offset of the instruction in its page (12 bits) and its length (4 bits).
    pub(crate) place: u16,
}

impl Op {
    /// An op with no operands.
    pub(crate) fn new(quick: Quick, offset: u16, len: u8) -> Self {
        Op {
            quick,
            imm: 0,
            disp: 0,
            aux: 0,
            dst: 0,
            src: 0,
            base: slot::ZERO,
            index: slot::ZERO,
            mode: mode::SIMPLE,
            seg: slot::ZERO,
            place: (offset & 0xfff) | (u16::from(len) << 12),
        }
    }

    /// Offset of the instruction in its page.
    #[inline(always)]
    pub(crate) fn offset(&self) -> u64 {
        u64::from(self.place & 0xfff)
    }

    /// Offset of the following instruction, relative to the same page; may be past its end.
    #[inline(always)]
    pub(crate) fn end(&self) -> u64 {
        u64::from(self.place & 0xfff) + u64::from(self.place >> 12)
    }

    /// Whether the memory operand is in no segment and its address is not truncated.
    pub(crate) fn indexed(&self) -> bool {
        self.mode & mode::ADDR32 == 0 && self.seg == slot::ZERO
    }

    /// Whether the memory operand is `base + disp`.
    pub(crate) fn simple(&self) -> bool {
        self.mode & mode::SIMPLE != 0
    }
}

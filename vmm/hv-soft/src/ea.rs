//! Effective addresses.

use crate::cpu::Cpu;
use crate::op::{Op, mode};

/// A way to compute the address of an op's memory operand; chosen when the op is made.
pub(crate) trait Ea {
    /// The linear address.
    fn ea(cpu: &Cpu, op: &Op) -> u64;
}

/// `base + disp`.
pub(crate) struct Simple;

/// `base + index * scale + disp`.
pub(crate) struct Indexed;

/// `segment + base + index * scale + disp`, truncated to 32 bits before the segment if the prefix says so.
pub(crate) struct Full;

impl Ea for Simple {
    #[inline(always)]
    fn ea(cpu: &Cpu, op: &Op) -> u64 {
        cpu.regs[op.base as usize].wrapping_add(i64::from(op.disp) as u64)
    }
}

impl Ea for Indexed {
    #[inline(always)]
    fn ea(cpu: &Cpu, op: &Op) -> u64 {
        let index = cpu.regs[op.index as usize] << (op.mode & mode::SCALE);
        cpu.regs[op.base as usize].wrapping_add(index).wrapping_add(i64::from(op.disp) as u64)
    }
}

impl Ea for Full {
    #[inline(always)]
    fn ea(cpu: &Cpu, op: &Op) -> u64 {
        offset(cpu, op).wrapping_add(cpu.regs[op.seg as usize])
    }
}

/// The effective address without the segment base (what LEA gives).
#[inline(always)]
pub(crate) fn offset(cpu: &Cpu, op: &Op) -> u64 {
    let index = cpu.regs[op.index as usize] << (op.mode & mode::SCALE);
    let ea = cpu.regs[op.base as usize].wrapping_add(index).wrapping_add(i64::from(op.disp) as u64);
    if op.mode & mode::ADDR32 != 0 { u64::from(ea as u32) } else { ea }
}

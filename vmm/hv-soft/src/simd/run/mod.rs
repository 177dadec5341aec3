//! Handlers: they bring operands to the pure functions and put results back.

pub(crate) mod binary;
pub(crate) mod gpr;
pub(crate) mod moves;
pub(crate) mod special;

use super::mxcsr::Sse;
use crate::cpu::Cpu;
use crate::flags::bit;
use crate::op::{Res, Stop};
use crate::spec::cr4;
use crate::sys::exception::{MF, XM};

/// XMM register `n`.
#[inline(always)]
pub(crate) fn xmm(cpu: &Cpu, n: u8) -> u128 {
    cpu.xmm[usize::from(n & 15)]
}

/// Writes XMM register `n`.
#[inline(always)]
pub(crate) fn set_xmm(cpu: &mut Cpu, n: u8, v: u128) {
    cpu.xmm[usize::from(n & 15)] = v;
}

/// MMX register `n`, zero-extended.
#[inline(always)]
pub(crate) fn mm(cpu: &Cpu, n: u8) -> u128 {
    u128::from(cpu.fpu.mm(n))
}

/// Starts an MMX instruction: stops where an x87 exception is pending.
#[inline(always)]
pub(crate) fn check_mmx(cpu: &mut Cpu) -> Res {
    if cpu.fpu.pending() { Err(cpu.raise(MF)) } else { Ok(()) }
}

/// Ends an MMX instruction that writes register `n`.
#[inline(always)]
pub(crate) fn set_mm(cpu: &mut Cpu, n: u8, v: u64) {
    cpu.fpu.enter_mmx();
    cpu.fpu.set_mm(n, v);
}

/// Reads a memory operand of `W` bytes, zero-extended; one of 16 must be aligned.
#[inline(always)]
pub(crate) fn load<const W: usize>(cpu: &mut Cpu, va: u64) -> Res<u128> {
    Ok(match W {
        1 => u128::from(cpu.read::<u8>(va)?),
        2 => u128::from(cpu.read::<u16>(va)?),
        4 => u128::from(cpu.read::<u32>(va)?),
        8 => u128::from(cpu.read::<u64>(va)?),
        _ => load_aligned(cpu, va)?,
    })
}

/// Reads 16 aligned bytes; #GP(0) where they are not.
#[inline(always)]
fn load_aligned(cpu: &mut Cpu, va: u64) -> Res<u128> {
    if va & 15 != 0 { Err(cpu.gp0()) } else { cpu.read128(va) }
}

/// Writes 16 aligned bytes; #GP(0) where they are not.
#[inline(always)]
pub(crate) fn store_aligned(cpu: &mut Cpu, va: u64, v: u128) -> Res {
    if va & 15 != 0 { Err(cpu.gp0()) } else { cpu.write128(va, v) }
}

/// Puts an instruction's flags into MXCSR; stops where one of them is unmasked.
#[inline(always)]
pub(crate) fn finish(cpu: &mut Cpu, sse: Sse) -> Res {
    let done = sse.finish();
    cpu.mxcsr = done.mxcsr;
    if done.fault { Err(simd_exception(cpu)) } else { Ok(()) }
}

/// Sets the arithmetic flags as comparisons of numbers do; the others are cleared.
#[inline(always)]
pub(crate) fn set_flags(cpu: &mut Cpu, zf: bool, pf: bool, cf: bool) {
    let flag = |on: bool, b: u64| if on { b } else { 0 };
    cpu.flags.unpack(flag(zf, bit::ZF) | flag(pf, bit::PF) | flag(cf, bit::CF));
}

/// #XM, or #UD where the system does not expect it.
#[cold]
fn simd_exception(cpu: &mut Cpu) -> Stop {
    if cpu.sys.cr4 & cr4::OSXMMEXCPT != 0 { cpu.raise(XM) } else { cpu.ud() }
}

//! Instructions of the shape `dst = f(dst, src, imm)` on XMM or MMX registers.

use iced_x86::{Instruction, OpKind, Register};

use super::{check_mmx, finish, load, mm, set_mm, set_xmm, xmm};
use crate::cpu::Cpu;
use crate::decode::{by_ea, memory_operand};
use crate::ea::{Ea, Full};
use crate::op::{Handler, Op, Res};
use crate::simd::lanes::lo;
use crate::simd::mxcsr::Sse;

/// What an instruction does with its operands.
pub(crate) trait Meaning {
    /// Whether it obeys and reports to MXCSR.
    const FLOAT: bool;
    /// The result from the first operand, the second one and the immediate.
    fn f(a: u128, b: u128, imm: u8, sse: &mut Sse) -> u128;
}

/// Computes and writes an XMM result.
#[inline(always)]
fn compute<M: Meaning>(cpu: &mut Cpu, op: &Op, b: u128) -> Res {
    let mut sse = Sse::new(cpu.mxcsr);
    let v = M::f(xmm(cpu, op.dst), b, op.imm as u8, &mut sse);
    if M::FLOAT {
        finish(cpu, sse)?;
    }
    set_xmm(cpu, op.dst, v);
    Ok(())
}

fn rr<M: Meaning>(cpu: &mut Cpu, op: &Op) -> Res {
    let b = xmm(cpu, op.src);
    compute::<M>(cpu, op, b)
}

fn rm<M: Meaning, E: Ea, const W: usize>(cpu: &mut Cpu, op: &Op) -> Res {
    let b = load::<W>(cpu, E::ea(cpu, op))?;
    compute::<M>(cpu, op, b)
}

/// The immediate is the second operand (shifts).
fn ri<M: Meaning>(cpu: &mut Cpu, op: &Op) -> Res {
    compute::<M>(cpu, op, u128::from(op.imm as u8))
}

/// The second operand is an MMX register (CVTPI2PS, CVTPI2PD).
fn x_from_mm<M: Meaning>(cpu: &mut Cpu, op: &Op) -> Res {
    check_mmx(cpu)?;
    let b = mm(cpu, op.src);
    cpu.fpu.enter_mmx();
    compute::<M>(cpu, op, b)
}

/// As [`x_from_mm`] with a memory operand: no MMX register takes part.
fn x_from_m64<M: Meaning>(cpu: &mut Cpu, op: &Op) -> Res {
    let b = load::<8>(cpu, Full::ea(cpu, op))?;
    compute::<M>(cpu, op, b)
}

#[inline(always)]
fn compute_mmx<M: Meaning>(cpu: &mut Cpu, op: &Op, b: u128) -> Res {
    let mut sse = Sse::new(cpu.mxcsr);
    let v = M::f(mm(cpu, op.dst), b, op.imm as u8, &mut sse);
    if M::FLOAT {
        // The registers turn into MMX registers even where the conversion faults.
        cpu.fpu.enter_mmx();
        finish(cpu, sse)?;
    }
    set_mm(cpu, op.dst, lo(v));
    Ok(())
}

fn mm_rr<M: Meaning>(cpu: &mut Cpu, op: &Op) -> Res {
    check_mmx(cpu)?;
    let b = mm(cpu, op.src);
    compute_mmx::<M>(cpu, op, b)
}

fn mm_rm<M: Meaning, const W: usize>(cpu: &mut Cpu, op: &Op) -> Res {
    check_mmx(cpu)?;
    let b = load::<W>(cpu, Full::ea(cpu, op))?;
    compute_mmx::<M>(cpu, op, b)
}

fn mm_ri<M: Meaning>(cpu: &mut Cpu, op: &Op) -> Res {
    check_mmx(cpu)?;
    compute_mmx::<M>(cpu, op, u128::from(op.imm as u8))
}

/// The second operand is an XMM register (CVTPS2PI and its kin).
fn mm_from_x<M: Meaning>(cpu: &mut Cpu, op: &Op) -> Res {
    check_mmx(cpu)?;
    let b = xmm(cpu, op.src);
    compute_mmx::<M>(cpu, op, b)
}

/// Whether operand `n` is an MMX register.
pub(crate) fn is_mm(insn: &Instruction, n: u32) -> bool {
    insn.op_kind(n) == OpKind::Register && insn.op_register(n).is_mm()
}

/// Whether operand `n` is an XMM register.
pub(crate) fn is_xmm(insn: &Instruction, n: u32) -> bool {
    insn.op_kind(n) == OpKind::Register && (Register::XMM0..=Register::XMM15).contains(&insn.op_register(n))
}

/// The handler for a destination in an XMM register.
pub(crate) fn choose<M: Meaning>(insn: &Instruction, op: &Op) -> Handler {
    if is_mm(insn, 1) {
        return x_from_mm::<M>;
    }
    if insn.op_kind(1) == OpKind::Immediate8 {
        return ri::<M>;
    }
    if !memory_operand(insn, 1) {
        return rr::<M>;
    }
    match insn.memory_size().size() {
        2 => rm::<M, Full, 2>,
        4 => by_ea!(op, E => rm::<M, E, 4> as Handler),
        8 if is_pi_source(insn) => x_from_m64::<M>,
        8 => by_ea!(op, E => rm::<M, E, 8> as Handler),
        _ => by_ea!(op, E => rm::<M, E, 16> as Handler),
    }
}

/// Whether a 64-bit memory operand stands for an MMX register.
fn is_pi_source(insn: &Instruction) -> bool {
    use iced_x86::Mnemonic::{Cvtpi2pd, Cvtpi2ps};
    matches!(insn.mnemonic(), Cvtpi2pd | Cvtpi2ps)
}

/// The handler for a destination in an MMX register.
pub(crate) fn choose_mmx<M: Meaning>(insn: &Instruction) -> Handler {
    if is_xmm(insn, 1) {
        return mm_from_x::<M>;
    }
    if insn.op_kind(1) == OpKind::Immediate8 {
        return mm_ri::<M>;
    }
    if !memory_operand(insn, 1) {
        return mm_rr::<M>;
    }
    match insn.memory_size().size() {
        4 => mm_rm::<M, 4>,
        8 => mm_rm::<M, 8>,
        _ => mm_rm::<M, 16>,
    }
}

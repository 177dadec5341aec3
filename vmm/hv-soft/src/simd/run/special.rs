//! PTEST, blends by XMM0, masked stores, string comparison.

use super::{check_mmx, load, mm, set_flags, set_xmm, xmm};
use crate::cpu::Cpu;
use crate::ea::{Ea, Full};
use crate::flags::bit;
use crate::op::{Op, Res};
use crate::simd::lanes::u8s;
use crate::simd::string::{self, Compared};

/// The second operand: a register or 16 aligned bytes.
#[inline(always)]
fn source<const MEM: bool>(cpu: &mut Cpu, op: &Op) -> Res<u128> {
    if MEM { load::<16>(cpu, Full::ea(cpu, op)) } else { Ok(xmm(cpu, op.src)) }
}

/// PTEST.
pub(crate) fn ptest<const MEM: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let b = source::<MEM>(cpu, op)?;
    let a = xmm(cpu, op.dst);
    set_flags(cpu, a & b == 0, false, !a & b == 0);
    Ok(())
}

/// A blend whose mask is in XMM0.
pub(crate) trait Blend {
    /// `a` or `b`, lane by lane.
    fn f(a: u128, b: u128, mask: u128) -> u128;
}

/// PBLENDVB, BLENDVPS, BLENDVPD.
pub(crate) fn blend<B: Blend, const MEM: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let b = source::<MEM>(cpu, op)?;
    let v = B::f(xmm(cpu, op.dst), b, cpu.xmm[0]);
    set_xmm(cpu, op.dst, v);
    Ok(())
}

/// MASKMOVDQU: bytes of the first register where the second one's have their top bit, to DS:RDI. The segment and
/// the address size are in the op; `base` is RDI.
pub(crate) fn masked_store(cpu: &mut Cpu, op: &Op) -> Res {
    let (data, mask) = (u8s(xmm(cpu, op.dst)), u8s(xmm(cpu, op.src)));
    store_bytes(cpu, Full::ea(cpu, op), &data, &mask)
}

/// MASKMOVQ.
pub(crate) fn mm_masked_store(cpu: &mut Cpu, op: &Op) -> Res {
    check_mmx(cpu)?;
    let (data, mask) = (mm(cpu, op.dst) as u64, mm(cpu, op.src) as u64);
    cpu.fpu.enter_mmx();
    store_bytes(cpu, Full::ea(cpu, op), &data.to_le_bytes(), &mask.to_le_bytes())
}

/// Stores the chosen bytes; the place as a whole must be writable, even where none is chosen.
fn store_bytes(cpu: &mut Cpu, at: u64, data: &[u8], mask: &[u8]) -> Res {
    let chosen = |&i: &usize| mask[i] & 0x80 != 0;
    let all = 0..data.len().min(mask.len());
    cpu.prepare_write(at, data.len() as u64)?;
    for i in all.filter(chosen) {
        cpu.write::<u8>(at.wrapping_add(i as u64), data[i])?;
    }
    Ok(())
}

/// Compares as an immediate says; `EXPLICIT` lengths are in RAX and RDX. A non-zero `aux`: 64-bit lengths.
fn compare<const EXPLICIT: bool, const MEM: bool>(cpu: &mut Cpu, op: &Op) -> Res<Compared> {
    let b = if MEM { cpu.read128(Full::ea(cpu, op))? } else { xmm(cpu, op.src) };
    let lengths = EXPLICIT.then_some((cpu.regs[0], cpu.regs[2]));
    let c = string::compare(xmm(cpu, op.dst), b, op.imm as u8, lengths, op.aux != 0);
    let flag = |on: bool, b: u64| if on { b } else { 0 };
    cpu.flags.unpack(flag(c.cf, bit::CF) | flag(c.zf, bit::ZF) | flag(c.sf, bit::SF) | flag(c.of, bit::OF));
    Ok(c)
}

/// PCMPESTRI, PCMPISTRI: the index to ECX.
pub(crate) fn string_index<const EXPLICIT: bool, const MEM: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let c = compare::<EXPLICIT, MEM>(cpu, op)?;
    cpu.regs[1] = u64::from(string::index(c, op.imm as u8));
    Ok(())
}

/// PCMPESTRM, PCMPISTRM: the mask to XMM0.
pub(crate) fn string_mask<const EXPLICIT: bool, const MEM: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let c = compare::<EXPLICIT, MEM>(cpu, op)?;
    cpu.xmm[0] = string::expand(c, op.imm as u8);
    Ok(())
}

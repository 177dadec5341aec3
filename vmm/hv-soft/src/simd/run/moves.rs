//! Moves between registers and memory that change nothing on the way.

use super::{check_mmx, load, mm, set_mm, set_xmm, xmm};
use crate::cpu::Cpu;
use crate::ea::{Ea, Full};
use crate::op::{Op, Res};
use crate::simd::lanes::{hi, lo, pair};
use crate::word::Word;

/// A whole XMM register.
pub(crate) fn mov_rr(cpu: &mut Cpu, op: &Op) -> Res {
    let v = xmm(cpu, op.src);
    set_xmm(cpu, op.dst, v);
    Ok(())
}

/// 16 bytes of any alignment (MOVUPS, MOVDQU, LDDQU).
pub(crate) fn load_unaligned<E: Ea>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = cpu.read128(E::ea(cpu, op))?;
    set_xmm(cpu, op.dst, v);
    Ok(())
}

/// `W` bytes, zero-extended (MOVAPS, MOVSD, MOVSS, MOVQ, MOVD).
pub(crate) fn load_zero<E: Ea, const W: usize>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = load::<W>(cpu, E::ea(cpu, op))?;
    set_xmm(cpu, op.dst, v);
    Ok(())
}

/// 16 bytes of any alignment.
pub(crate) fn store_unaligned<E: Ea>(cpu: &mut Cpu, op: &Op) -> Res {
    cpu.write128(E::ea(cpu, op), xmm(cpu, op.src))
}

/// 16 aligned bytes.
pub(crate) fn store_aligned<E: Ea>(cpu: &mut Cpu, op: &Op) -> Res {
    let (at, v) = (E::ea(cpu, op), xmm(cpu, op.src));
    super::store_aligned(cpu, at, v)
}

/// The low bytes of an XMM register (MOVSS, MOVSD, MOVQ, MOVD, MOVLPS).
pub(crate) fn store_low<T: Word, E: Ea>(cpu: &mut Cpu, op: &Op) -> Res {
    cpu.write(E::ea(cpu, op), T::from64(lo(xmm(cpu, op.src))))
}

/// The high half of an XMM register (MOVHPS, MOVHPD).
pub(crate) fn store_high(cpu: &mut Cpu, op: &Op) -> Res {
    cpu.write(Full::ea(cpu, op), hi(xmm(cpu, op.src)))
}

/// MOVSS between registers: the low lane alone.
pub(crate) fn merge_single(cpu: &mut Cpu, op: &Op) -> Res {
    let low = u128::from(u32::MAX);
    let v = xmm(cpu, op.dst) & !low | xmm(cpu, op.src) & low;
    set_xmm(cpu, op.dst, v);
    Ok(())
}

/// MOVSD between registers: the low half alone.
pub(crate) fn merge_double(cpu: &mut Cpu, op: &Op) -> Res {
    let v = pair(lo(xmm(cpu, op.src)), hi(xmm(cpu, op.dst)));
    set_xmm(cpu, op.dst, v);
    Ok(())
}

/// MOVQ between registers: the low half, zero-extended.
pub(crate) fn low_half(cpu: &mut Cpu, op: &Op) -> Res {
    let v = u128::from(lo(xmm(cpu, op.src)));
    set_xmm(cpu, op.dst, v);
    Ok(())
}

/// MOVLPS, MOVLPD from memory.
pub(crate) fn load_low(cpu: &mut Cpu, op: &Op) -> Res {
    let v = cpu.read::<u64>(Full::ea(cpu, op))?;
    let v = pair(v, hi(xmm(cpu, op.dst)));
    set_xmm(cpu, op.dst, v);
    Ok(())
}

/// MOVHPS, MOVHPD from memory.
pub(crate) fn load_high(cpu: &mut Cpu, op: &Op) -> Res {
    let v = cpu.read::<u64>(Full::ea(cpu, op))?;
    let v = pair(lo(xmm(cpu, op.dst)), v);
    set_xmm(cpu, op.dst, v);
    Ok(())
}

/// MOVHLPS.
pub(crate) fn high_to_low(cpu: &mut Cpu, op: &Op) -> Res {
    let v = pair(hi(xmm(cpu, op.src)), hi(xmm(cpu, op.dst)));
    set_xmm(cpu, op.dst, v);
    Ok(())
}

/// MOVLHPS.
pub(crate) fn low_to_high(cpu: &mut Cpu, op: &Op) -> Res {
    let v = pair(lo(xmm(cpu, op.dst)), lo(xmm(cpu, op.src)));
    set_xmm(cpu, op.dst, v);
    Ok(())
}

/// MOVD, MOVQ from a general register.
pub(crate) fn from_gpr<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = u128::from(T::get(cpu, op.src).to64());
    set_xmm(cpu, op.dst, v);
    Ok(())
}

/// MOVD, MOVQ to a general register.
pub(crate) fn to_gpr<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = T::from64(lo(xmm(cpu, op.src)));
    T::set(cpu, op.dst, v);
    Ok(())
}

/// MOVQ between MMX registers.
pub(crate) fn mm_rr(cpu: &mut Cpu, op: &Op) -> Res {
    check_mmx(cpu)?;
    let v = lo(mm(cpu, op.src));
    set_mm(cpu, op.dst, v);
    Ok(())
}

/// MOVD, MOVQ to an MMX register from memory.
pub(crate) fn mm_load<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    check_mmx(cpu)?;
    let v = cpu.read::<T>(Full::ea(cpu, op))?;
    set_mm(cpu, op.dst, v.to64());
    Ok(())
}

/// MOVD, MOVQ, MOVNTQ from an MMX register to memory.
pub(crate) fn mm_store<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    check_mmx(cpu)?;
    let v = T::from64(lo(mm(cpu, op.src)));
    cpu.write(Full::ea(cpu, op), v)?;
    cpu.fpu.enter_mmx();
    Ok(())
}

/// MOVD, MOVQ to an MMX register from a general one.
pub(crate) fn mm_from_gpr<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    check_mmx(cpu)?;
    let v = T::get(cpu, op.src).to64();
    set_mm(cpu, op.dst, v);
    Ok(())
}

/// MOVD, MOVQ from an MMX register to a general one.
pub(crate) fn mm_to_gpr<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    check_mmx(cpu)?;
    let v = T::from64(lo(mm(cpu, op.src)));
    cpu.fpu.enter_mmx();
    T::set(cpu, op.dst, v);
    Ok(())
}

/// MOVQ2DQ.
pub(crate) fn mm_to_xmm(cpu: &mut Cpu, op: &Op) -> Res {
    check_mmx(cpu)?;
    let v = mm(cpu, op.src);
    cpu.fpu.enter_mmx();
    set_xmm(cpu, op.dst, v);
    Ok(())
}

/// MOVDQ2Q.
pub(crate) fn xmm_to_mm(cpu: &mut Cpu, op: &Op) -> Res {
    check_mmx(cpu)?;
    let v = lo(xmm(cpu, op.src));
    set_mm(cpu, op.dst, v);
    Ok(())
}

/// EMMS.
pub(crate) fn emms(cpu: &mut Cpu, _: &Op) -> Res {
    check_mmx(cpu)?;
    cpu.fpu.empty_mmx();
    Ok(())
}

//! Between vector and general registers: inserts, extracts, masks, conversions, comparisons into flags.

use super::{check_mmx, finish, mm, set_flags, set_mm, set_xmm, xmm};
use crate::cpu::Cpu;
use crate::ea::{Ea, Full};
use crate::op::{Op, Res};
use crate::simd::float::{self, Lane};
use crate::simd::lanes::lo;
use crate::simd::mxcsr::Sse;
use crate::simd::{convert, shuffle};
use crate::word::Word;

/// PINSRB, PINSRW, PINSRD, PINSRQ from a register; lanes of `S`.
pub(crate) fn insert_r<S: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = cpu.regs[usize::from(op.src & 31)];
    put::<S>(cpu, op, v)
}

/// PINSRB, PINSRW, PINSRD, PINSRQ from memory.
pub(crate) fn insert_m<S: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = cpu.read::<S>(Full::ea(cpu, op))?.to64();
    put::<S>(cpu, op, v)
}

fn put<S: Word>(cpu: &mut Cpu, op: &Op, v: u64) -> Res {
    let lanes = 16 / S::BYTES as u32;
    let v = shuffle::insert(xmm(cpu, op.dst), v, op.imm as u32 & (lanes - 1), S::BYTES as u32);
    set_xmm(cpu, op.dst, v);
    Ok(())
}

/// PEXTRB, PEXTRW, PEXTRD, PEXTRQ, EXTRACTPS to a register, zero-extended.
pub(crate) fn extract_r<S: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    cpu.regs[usize::from(op.dst & 15)] = get::<S>(cpu, op);
    Ok(())
}

/// PEXTRB, PEXTRW, PEXTRD, PEXTRQ, EXTRACTPS to memory.
pub(crate) fn extract_m<S: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = S::from64(get::<S>(cpu, op));
    cpu.write(Full::ea(cpu, op), v)
}

fn get<S: Word>(cpu: &Cpu, op: &Op) -> u64 {
    let lanes = 16 / S::BYTES as u32;
    shuffle::extract(xmm(cpu, op.src), op.imm as u32 & (lanes - 1), S::BYTES as u32)
}

/// PINSRW to an MMX register.
pub(crate) fn mm_insert_r(cpu: &mut Cpu, op: &Op) -> Res {
    check_mmx(cpu)?;
    let v = cpu.regs[usize::from(op.src & 31)];
    mm_put(cpu, op, v)
}

/// PINSRW to an MMX register from memory.
pub(crate) fn mm_insert_m(cpu: &mut Cpu, op: &Op) -> Res {
    check_mmx(cpu)?;
    let v = cpu.read::<u16>(Full::ea(cpu, op))?;
    mm_put(cpu, op, u64::from(v))
}

fn mm_put(cpu: &mut Cpu, op: &Op, v: u64) -> Res {
    let v = shuffle::insert(mm(cpu, op.dst), v, op.imm as u32 & 3, 2);
    set_mm(cpu, op.dst, lo(v));
    Ok(())
}

/// PEXTRW from an MMX register.
pub(crate) fn mm_extract(cpu: &mut Cpu, op: &Op) -> Res {
    check_mmx(cpu)?;
    let v = shuffle::extract(mm(cpu, op.src), op.imm as u32 & 3, 2);
    cpu.fpu.enter_mmx();
    cpu.regs[usize::from(op.dst & 15)] = v;
    Ok(())
}

/// INSERTPS between registers: the immediate chooses the source lane too.
pub(crate) fn insertps_r(cpu: &mut Cpu, op: &Op) -> Res {
    let lane = shuffle::extract(xmm(cpu, op.src), op.imm as u32 >> 6 & 3, 4);
    let v = shuffle::insertps(xmm(cpu, op.dst), lane as u32, op.imm as u8);
    set_xmm(cpu, op.dst, v);
    Ok(())
}

/// INSERTPS from memory.
pub(crate) fn insertps_m(cpu: &mut Cpu, op: &Op) -> Res {
    let lane = cpu.read::<u32>(Full::ea(cpu, op))?;
    let v = shuffle::insertps(xmm(cpu, op.dst), lane, op.imm as u8);
    set_xmm(cpu, op.dst, v);
    Ok(())
}

/// PMOVMSKB.
pub(crate) fn byte_mask(cpu: &mut Cpu, op: &Op) -> Res {
    cpu.regs[usize::from(op.dst & 15)] = u64::from(shuffle::pmovmskb(xmm(cpu, op.src)));
    Ok(())
}

/// PMOVMSKB from an MMX register.
pub(crate) fn mm_byte_mask(cpu: &mut Cpu, op: &Op) -> Res {
    check_mmx(cpu)?;
    let v = u64::from(shuffle::pmovmskb(mm(cpu, op.src)));
    cpu.fpu.enter_mmx();
    cpu.regs[usize::from(op.dst & 15)] = v;
    Ok(())
}

/// MOVMSKPS.
pub(crate) fn single_mask(cpu: &mut Cpu, op: &Op) -> Res {
    cpu.regs[usize::from(op.dst & 15)] = u64::from(shuffle::movmskps(xmm(cpu, op.src)));
    Ok(())
}

/// MOVMSKPD.
pub(crate) fn double_mask(cpu: &mut Cpu, op: &Op) -> Res {
    cpu.regs[usize::from(op.dst & 15)] = u64::from(shuffle::movmskpd(xmm(cpu, op.src)));
    Ok(())
}

/// A float lane that general registers exchange values with.
pub(crate) trait GprLane: Lane + Word {
    /// Toward zero, to an integer of `width` bits.
    fn truncate(self, width: u32, sse: &mut Sse) -> i64;
    /// From an integer.
    fn from_integer(i: i64, sse: &mut Sse) -> Self;
}

impl GprLane for u32 {
    fn truncate(self, width: u32, sse: &mut Sse) -> i64 {
        convert::to_int(self, width, true, sse)
    }
    fn from_integer(i: i64, sse: &mut Sse) -> Self {
        convert::from_int(i, sse)
    }
}

impl GprLane for u64 {
    #[inline(always)]
    fn truncate(self, width: u32, sse: &mut Sse) -> i64 {
        convert::truncate_f64(self, width, sse)
    }
    #[inline(always)]
    fn from_integer(i: i64, sse: &mut Sse) -> Self {
        convert::from_int_f64(i, sse)
    }
}

/// The source lane of a conversion or comparison, from a register or memory.
#[inline(always)]
fn source<L: GprLane, const MEM: bool>(cpu: &mut Cpu, op: &Op) -> Res<L> {
    if MEM { cpu.read::<L>(Full::ea(cpu, op)) } else { Ok(L::from64(lo(xmm(cpu, op.src)))) }
}

/// CVTTSS2SI, CVTTSD2SI: lane `L` to register width `T`.
pub(crate) fn truncate<L: GprLane, T: Word, const MEM: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = source::<L, MEM>(cpu, op)?;
    let mut sse = Sse::new(cpu.mxcsr);
    let i = v.truncate(T::BITS, &mut sse);
    finish(cpu, sse)?;
    T::set(cpu, op.dst, T::from64(i as u64));
    Ok(())
}

/// CVTSS2SI, CVTSD2SI.
pub(crate) fn round<L: GprLane, T: Word, const MEM: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = source::<L, MEM>(cpu, op)?;
    let mut sse = Sse::new(cpu.mxcsr);
    let i = convert::to_int(v, T::BITS, false, &mut sse);
    finish(cpu, sse)?;
    T::set(cpu, op.dst, T::from64(i as u64));
    Ok(())
}

/// CVTSI2SS, CVTSI2SD: register or memory of width `T` to lane `L`, the rest of the register kept.
pub(crate) fn from_integer<L: GprLane, T: Word, const MEM: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let i = if MEM { cpu.read::<T>(Full::ea(cpu, op))? } else { T::get(cpu, op.src) };
    let mut sse = Sse::new(cpu.mxcsr);
    let v = L::from_integer(i.sext() as i64, &mut sse);
    finish(cpu, sse)?;
    let mask = u128::MAX >> (128 - L::BITS);
    let v = xmm(cpu, op.dst) & !mask | u128::from(v.to64());
    set_xmm(cpu, op.dst, v);
    Ok(())
}

/// COMISS, COMISD and, without `SIGNAL`, UCOMISS, UCOMISD.
pub(crate) fn compare<L: GprLane, const SIGNAL: bool, const MEM: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let b = source::<L, MEM>(cpu, op)?;
    let a = L::from64(lo(xmm(cpu, op.dst)));
    let mut sse = Sse::new(cpu.mxcsr);
    let (zf, pf, cf) = float::comi(a, b, SIGNAL, &mut sse);
    finish(cpu, sse)?;
    set_flags(cpu, zf, pf, cf);
    Ok(())
}

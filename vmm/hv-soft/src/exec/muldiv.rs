//! Multiplication and division.

use crate::access::Path;
use crate::cpu::{Cpu, reg};
use crate::ea::{Ea, Full};
use crate::op::{Op, Res};
use crate::sys::exception::DE;
use crate::word::Word;

const RAX: u8 = reg::RAX as u8;
const RDX: u8 = reg::RDX as u8;
/// AH.
const AH: u8 = 0x40;

#[inline(always)]
fn operand<T: Word, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Res<T> {
    if MEMORY { cpu.read::<T>(Full::ea(cpu, op)) } else { Ok(T::get(cpu, op.dst)) }
}

/// Stores a double-width product and sets CF and OF if the upper half matters.
#[inline(always)]
fn product<T: Word>(cpu: &mut Cpu, low: u64, high: u64, overflow: bool) {
    if T::BITS == 8 {
        u8::set(cpu, RAX, low as u8);
        u8::set(cpu, AH, high as u8);
    } else {
        T::set(cpu, RAX, T::from64(low));
        T::set(cpu, RDX, T::from64(high));
    }
    cpu.flags.set_cf_of(overflow, overflow);
}

pub(crate) fn mul<T: Word, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let b = operand::<T, MEMORY>(cpu, op)?.to64();
    let wide = u128::from(T::get(cpu, RAX).to64()) * u128::from(b);
    let high = (wide >> T::BITS) as u64;
    product::<T>(cpu, wide as u64, high, high != 0);
    Ok(())
}

pub(crate) fn imul1<T: Word, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let b = operand::<T, MEMORY>(cpu, op)?.sext() as i64;
    let wide = i128::from(T::get(cpu, RAX).sext() as i64) * i128::from(b);
    let fits = i128::from(T::from64(wide as u64).sext() as i64) == wide;
    product::<T>(cpu, wide as u64, (wide >> T::BITS) as u64, !fits);
    Ok(())
}

#[inline(always)]
fn imul_into<T: Word>(cpu: &mut Cpu, dst: u8, a: T, b: u64) -> Res {
    let wide = i128::from(a.sext() as i64) * i128::from(b as i64);
    let r = T::from64(wide as u64);
    let overflow = i128::from(r.sext() as i64) != wide;
    T::set(cpu, dst, r);
    cpu.flags.set_cf_of(overflow, overflow);
    Ok(())
}

/// IMUL with two operands; `MEMORY` says where the second is.
pub(crate) fn imul2<P: Path, T: Word, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let b = if MEMORY { cpu.read_by::<P, T>(Full::ea(cpu, op))? } else { T::get(cpu, op.src) };
    let a = T::get(cpu, op.dst);
    imul_into(cpu, op.dst, a, b.sext())
}

/// IMUL with an immediate third operand.
pub(crate) fn imul3<P: Path, T: Word, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let a = if MEMORY { cpu.read_by::<P, T>(Full::ea(cpu, op))? } else { T::get(cpu, op.src) };
    imul_into(cpu, op.dst, a, T::from64(op.imm).sext())
}

/// `imul2` without its flags.
pub(crate) fn imul2_quiet<P: Path, T: Word, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let a = if MEMORY { cpu.read_by::<P, T>(Full::ea(cpu, op))? } else { T::get(cpu, op.src) };
    let b = T::get(cpu, op.dst).to64();
    T::set(cpu, op.dst, T::from64(a.to64().wrapping_mul(b)));
    Ok(())
}

/// `imul3` without its flags.
pub(crate) fn imul3_quiet<P: Path, T: Word, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let a = if MEMORY { cpu.read_by::<P, T>(Full::ea(cpu, op))? } else { T::get(cpu, op.src) };
    let b = op.imm;
    T::set(cpu, op.dst, T::from64(a.to64().wrapping_mul(b)));
    Ok(())
}

/// The dividend: AX, or the data register over the accumulator.
#[inline(always)]
fn dividend<T: Word>(cpu: &Cpu) -> u128 {
    if T::BITS == 8 {
        u128::from(u16::get(cpu, RAX))
    } else {
        u128::from(T::get(cpu, RDX).to64()) << T::BITS | u128::from(T::get(cpu, RAX).to64())
    }
}

#[inline(always)]
fn quotient<T: Word>(cpu: &mut Cpu, q: u64, r: u64) {
    if T::BITS == 8 {
        u8::set(cpu, RAX, q as u8);
        u8::set(cpu, AH, r as u8);
    } else {
        T::set(cpu, RAX, T::from64(q));
        T::set(cpu, RDX, T::from64(r));
    }
}

pub(crate) fn div<T: Word, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let b = operand::<T, MEMORY>(cpu, op)?.to64();
    let a = dividend::<T>(cpu);
    if b == 0 || (a >> T::BITS) as u64 >= b {
        return Err(cpu.raise(DE));
    }
    let (q, r) = match u64::try_from(a) {
        Ok(a) => (a / b, a % b),
        Err(_) => ((a / u128::from(b)) as u64, (a % u128::from(b)) as u64),
    };
    quotient::<T>(cpu, q, r);
    Ok(())
}

pub(crate) fn idiv<T: Word, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let b = operand::<T, MEMORY>(cpu, op)?.sext() as i64;
    let double = if T::BITS == 8 { 16 } else { 2 * T::BITS };
    let a = (dividend::<T>(cpu) << (128 - double)) as i128 >> (128 - double);
    let divided = a.checked_div(i128::from(b)).zip(a.checked_rem(i128::from(b)));
    let Some((q, r)) = divided else { return Err(cpu.raise(DE)) };
    if i128::from(T::from64(q as u64).sext() as i64) != q {
        return Err(cpu.raise(DE));
    }
    quotient::<T>(cpu, q as u64, r as u64);
    Ok(())
}

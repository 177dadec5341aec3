//! Handlers of x87 instructions.

use super::arith::Basic;
use super::transcendental::Function;
use super::{F80, Fpu};
use crate::cpu::Cpu;
use crate::ea::{Ea, Full, offset};
use crate::op::{Op, Res};
use crate::simd::fp::{self, Value};
use crate::simd::set_flags;
use crate::sys::exception::MF;

/// WAIT, and what every waiting instruction does first.
pub(crate) fn wait(cpu: &mut Cpu, _: &Op) -> Res {
    if cpu.fpu.pending() { Err(cpu.raise(MF)) } else { Ok(()) }
}

/// Starts a computing instruction: notes where it is.
fn enter(cpu: &mut Cpu, op: &Op) -> Res {
    wait(cpu, op)?;
    cpu.fpu.fip = cpu.op_rip(op);
    Ok(())
}

/// Starts a computing instruction with a memory operand; gives its address.
fn enter_memory(cpu: &mut Cpu, op: &Op) -> Res<u64> {
    wait(cpu, op)?;
    Ok(Full::ea(cpu, op))
}

/// Notes where an instruction and its memory operand are, once the memory was reached.
fn note(cpu: &mut Cpu, op: &Op) {
    cpu.fpu.fip = cpu.op_rip(op);
    cpu.fpu.fdp = offset(cpu, op);
}

/// A memory operand that arithmetic takes.
pub(crate) trait Source {
    /// Reads it.
    fn read(cpu: &mut Cpu, va: u64) -> Res<Value>;
}

macro_rules! sources {
    ($($name:ident, $t:ty: |$bits:ident| $e:expr;)*) => {$(
        pub(crate) struct $name;
        impl Source for $name {
            fn read(cpu: &mut Cpu, va: u64) -> Res<Value> {
                let $bits = cpu.read::<$t>(va)?;
                Ok($e)
            }
        }
    )*};
}

sources! {
    Single, u32: |b| fp::unpack32(b);
    Double, u64: |b| fp::unpack64(b);
    Int16, u16: |b| fp::from_i64(i64::from(b as i16));
    Int32, u32: |b| fp::from_i64(i64::from(b as i32));
    Int64, u64: |b| fp::from_i64(b as i64);
}

/// The operations of the eight rows of the opcode map.
const fn row(k: u8) -> Basic {
    match k {
        0 => Basic::Add,
        1 => Basic::Mul,
        4 => Basic::Sub,
        5 => Basic::SubR,
        6 => Basic::Div,
        _ => Basic::DivR,
    }
}

/// FADD … FDIVR between registers; `POP` for the popping ones.
pub(crate) fn basic<const K: u8, const POP: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    enter(cpu, op)?;
    let f = &mut cpu.fpu;
    let other = f.value(usize::from(op.src));
    if f.basic(row(K), usize::from(op.dst), other) && POP {
        f.pop();
    }
    Ok(())
}

/// FADD … FDIVR, FIADD … FIDIVR from memory.
pub(crate) fn basic_m<const K: u8, S: Source>(cpu: &mut Cpu, op: &Op) -> Res {
    let at = enter_memory(cpu, op)?;
    let other = S::read(cpu, at)?;
    note(cpu, op);
    cpu.fpu.basic(row(K), 0, Some(other));
    Ok(())
}

/// FCOM, FCOMP, FCOMPP, FUCOM …
pub(crate) fn compare<const QUIET: bool, const POPS: u8>(cpu: &mut Cpu, op: &Op) -> Res {
    enter(cpu, op)?;
    let other = cpu.fpu.value(usize::from(op.src));
    cpu.fpu.compare(other, QUIET, POPS);
    Ok(())
}

/// FCOM, FCOMP, FICOM, FICOMP from memory.
pub(crate) fn compare_m<S: Source, const POPS: u8>(cpu: &mut Cpu, op: &Op) -> Res {
    let at = enter_memory(cpu, op)?;
    let other = S::read(cpu, at)?;
    note(cpu, op);
    cpu.fpu.compare(Some(other), false, POPS);
    Ok(())
}

/// FTST.
pub(crate) fn test(cpu: &mut Cpu, op: &Op) -> Res {
    enter(cpu, op)?;
    cpu.fpu.compare(Some(Value::zero(false)), false, 0);
    Ok(())
}

/// FCOMI, FCOMIP, FUCOMI, FUCOMIP.
pub(crate) fn compare_flags<const QUIET: bool, const POPS: u8>(cpu: &mut Cpu, op: &Op) -> Res {
    enter(cpu, op)?;
    let other = cpu.fpu.value(usize::from(op.src));
    let (zf, pf, cf) = cpu.fpu.compare_flags(other, QUIET, POPS);
    set_flags(cpu, zf, pf, cf);
    Ok(())
}

/// FCMOVcc: `K` bits 0–1 choose B, E, BE or U; bit 2 negates.
pub(crate) fn conditional<const K: u8>(cpu: &mut Cpu, op: &Op) -> Res {
    enter(cpu, op)?;
    let f = &cpu.flags;
    let holds = match K & 3 {
        0 => f.cf(),
        1 => f.zf(),
        2 => f.cf() || f.zf(),
        _ => f.pf(),
    };
    cpu.fpu.conditional_move(usize::from(op.src), holds != (K & 4 != 0));
    Ok(())
}

/// Instructions on the stack alone; `n` is the register operand.
macro_rules! on_stack {
    ($($name:ident: $field:ident, |$f:ident, $n:ident| $e:expr;)*) => {$(
        pub(crate) fn $name(cpu: &mut Cpu, op: &Op) -> Res {
            enter(cpu, op)?;
            let ($f, $n): (&mut Fpu, usize) = (&mut cpu.fpu, usize::from(op.$field & 7));
            $e;
            Ok(())
        }
    )*};
}

on_stack! {
    load_st: dst, |f, n| f.load_st(n);
    store_st: dst, |f, n| f.store_st(n);
    store_st_pop: dst, |f, n| if f.store_st(n) { f.pop() };
    exchange: src, |f, n| f.exchange(n);
    free: dst, |f, n| { f.clear_c1(); f.free(n) };
    free_pop: dst, |f, n| { f.clear_c1(); f.free(n); f.pop() };
    store_st_pop_unchecked: dst, |f, n| f.store_unchecked(n);
    negate: dst, |f, _n| f.set_sign(|s| !s);
    absolute: dst, |f, _n| f.set_sign(|_| false);
    examine: dst, |f, _n| f.examine();
    square_root: dst, |f, _n| f.sqrt();
    round: dst, |f, _n| f.round_to_integer();
    remainder: dst, |f, _n| f.remainder(false);
    remainder_nearest: dst, |f, _n| f.remainder(true);
    scale: dst, |f, _n| f.scale();
    extract: dst, |f, _n| f.extract();
    turn_up: dst, |f, _n| { f.clear_c1(); f.rotate(1) };
    turn_down: dst, |f, _n| { f.clear_c1(); f.rotate(7) };
}

/// FLD1 … FLDZ; the constant's number is in `aux`.
pub(crate) fn constant(cpu: &mut Cpu, op: &Op) -> Res {
    enter(cpu, op)?;
    cpu.fpu.load_constant(op.aux as usize);
    Ok(())
}

/// The transcendental instructions.
pub(crate) fn transcendental<const K: u8>(cpu: &mut Cpu, op: &Op) -> Res {
    enter(cpu, op)?;
    cpu.fpu.transcendental(match K {
        0 => Function::PowerOfTwoLessOne,
        1 => Function::Logarithm,
        2 => Function::Tangent,
        3 => Function::ArcTangent,
        4 => Function::LogarithmOfMore,
        5 => Function::SineCosine,
        6 => Function::Sine,
        _ => Function::Cosine,
    });
    Ok(())
}

/// FLD m32, m64.
pub(crate) fn load_short<S: Source>(cpu: &mut Cpu, op: &Op) -> Res {
    let at = enter_memory(cpu, op)?;
    let v = S::read(cpu, at)?;
    note(cpu, op);
    cpu.fpu.load_short(v);
    Ok(())
}

/// FILD.
pub(crate) fn load_int<S: Source>(cpu: &mut Cpu, op: &Op) -> Res {
    let at = enter_memory(cpu, op)?;
    let v = S::read(cpu, at)?;
    note(cpu, op);
    cpu.fpu.load(F80::pack(v));
    Ok(())
}

/// Reads the ten bytes of an 80-bit operand.
fn read80(cpu: &mut Cpu, at: u64) -> Res<[u8; 10]> {
    let (low, high) = (cpu.read::<u64>(at)?, cpu.read::<u16>(at.wrapping_add(8))?);
    Ok(F80 { se: high, sig: low }.to_bytes())
}

/// Writes the ten bytes of an 80-bit operand; the place was prepared.
fn write80(cpu: &mut Cpu, at: u64, b: [u8; 10]) -> Res {
    let v = F80::from_bytes(b);
    cpu.write(at, v.sig)?;
    cpu.write(at.wrapping_add(8), v.se)
}

/// FLD m80.
pub(crate) fn load_whole(cpu: &mut Cpu, op: &Op) -> Res {
    let at = enter_memory(cpu, op)?;
    let b = read80(cpu, at)?;
    note(cpu, op);
    cpu.fpu.load(F80::from_bytes(b));
    Ok(())
}

/// FBLD.
pub(crate) fn load_decimal(cpu: &mut Cpu, op: &Op) -> Res {
    let at = enter_memory(cpu, op)?;
    let b = read80(cpu, at)?;
    note(cpu, op);
    cpu.fpu.load_bcd(b);
    Ok(())
}

/// Makes sure that both parts of an 80-bit store will succeed.
fn prepare80(cpu: &mut Cpu, at: u64) -> Res {
    cpu.prepare_write(at, 8)?;
    cpu.prepare_write(at.wrapping_add(8), 2)
}

/// Ends a store: pops where it was carried through.
fn stored(cpu: &mut Cpu, done: bool, pop: bool) -> Res {
    if done && pop {
        cpu.fpu.pop();
    }
    Ok(())
}

/// FST, FSTP m32.
pub(crate) fn store_single<const POP: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let at = enter_memory(cpu, op)?;
    cpu.prepare_write(at, 4)?;
    note(cpu, op);
    let v = cpu.fpu.store_short(&fp::F32);
    if let Some(v) = v {
        cpu.write(at, fp::pack32(v))?;
    }
    stored(cpu, v.is_some(), POP)
}

/// FST, FSTP m64.
pub(crate) fn store_double<const POP: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let at = enter_memory(cpu, op)?;
    cpu.prepare_write(at, 8)?;
    note(cpu, op);
    let v = cpu.fpu.store_short(&fp::F64);
    if let Some(v) = v {
        cpu.write(at, fp::pack64(v))?;
    }
    stored(cpu, v.is_some(), POP)
}

/// FSTP m80.
pub(crate) fn store_whole(cpu: &mut Cpu, op: &Op) -> Res {
    let at = enter_memory(cpu, op)?;
    prepare80(cpu, at)?;
    note(cpu, op);
    let v = cpu.fpu.store_whole();
    if let Some(v) = v {
        write80(cpu, at, v.to_bytes())?;
    }
    stored(cpu, v.is_some(), true)
}

/// FBSTP.
pub(crate) fn store_decimal(cpu: &mut Cpu, op: &Op) -> Res {
    let at = enter_memory(cpu, op)?;
    prepare80(cpu, at)?;
    note(cpu, op);
    let v = cpu.fpu.store_bcd();
    if let Some(b) = v {
        write80(cpu, at, b)?;
    }
    stored(cpu, v.is_some(), true)
}

/// FIST, FISTP, FISTTP of `BITS` bits.
pub(crate) fn store_int<const BITS: u32, const POP: bool, const CUT: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let at = enter_memory(cpu, op)?;
    cpu.prepare_write(at, u64::from(BITS / 8))?;
    note(cpu, op);
    let v = cpu.fpu.store_int(BITS, CUT);
    if let Some(i) = v {
        match BITS {
            16 => cpu.write(at, i as u16)?,
            32 => cpu.write(at, i as u32)?,
            _ => cpu.write(at, i as u64)?,
        }
    }
    stored(cpu, v.is_some(), POP)
}

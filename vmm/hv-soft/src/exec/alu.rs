//! Two-operand arithmetic and logic, and INC, DEC, NEG, NOT.

use crate::access::Path;
use crate::cpu::Cpu;
use crate::ea::Ea;
use crate::flags::Flags;
use crate::op::{Op, Res};
use crate::word::Word;

/// A two-operand operation on values in the low bits of 64.
pub(crate) trait Alu {
    /// Whether the result goes to the first operand (all but CMP and TEST).
    const WRITES: bool;
    /// Computes the result (zero-extended) and sets the flags.
    fn compute<T: Word>(f: &mut Flags, a: u64, b: u64) -> u64;
}

/// Copies the carry bits of a narrow value to the top.
#[inline(always)]
fn widen<T: Word>(cv: u64) -> u64 {
    if T::BITS == 64 { cv } else { cv | cv << (64 - T::BITS) }
}

#[inline(always)]
fn set_result<T: Word>(f: &mut Flags, result: u64) -> u64 {
    let narrow = T::from64(result);
    f.z = narrow.sext();
    f.sp = narrow.sext();
    narrow.to64()
}

#[inline(always)]
pub(crate) fn add<T: Word>(f: &mut Flags, a: u64, b: u64, carry: u64) -> u64 {
    let r = set_result::<T>(f, a.wrapping_add(b).wrapping_add(carry));
    f.cv = widen::<T>(a & b | (a | b) & !r);
    r
}

#[inline(always)]
pub(crate) fn sub<T: Word>(f: &mut Flags, a: u64, b: u64, borrow: u64) -> u64 {
    let r = set_result::<T>(f, a.wrapping_sub(b).wrapping_sub(borrow));
    f.cv = widen::<T>(!a & b | !(a ^ b) & r);
    r
}

#[inline(always)]
pub(crate) fn logic<T: Word>(f: &mut Flags, result: u64) -> u64 {
    f.cv = 0;
    set_result::<T>(f, result)
}

macro_rules! alu {
    ($name:ident, $writes:expr, |$f:ident, $a:ident, $b:ident| $e:expr) => {
        #[doc = stringify!($name)]
        pub(crate) struct $name;
        impl Alu for $name {
            const WRITES: bool = $writes;
            #[inline(always)]
            fn compute<T: Word>($f: &mut Flags, $a: u64, $b: u64) -> u64 {
                $e
            }
        }
    };
}

alu!(Add, true, |f, a, b| add::<T>(f, a, b, 0));
alu!(Or, true, |f, a, b| logic::<T>(f, a | b));
alu!(Adc, true, |f, a, b| {
    let c = u64::from(f.cf());
    add::<T>(f, a, b, c)
});
alu!(Sbb, true, |f, a, b| {
    let c = u64::from(f.cf());
    sub::<T>(f, a, b, c)
});
alu!(And, true, |f, a, b| logic::<T>(f, a & b));
alu!(Sub, true, |f, a, b| sub::<T>(f, a, b, 0));
alu!(Xor, true, |f, a, b| logic::<T>(f, a ^ b));
alu!(Cmp, false, |f, a, b| sub::<T>(f, a, b, 0));
alu!(Test, false, |f, a, b| logic::<T>(f, a & b));

/// An operation without its flags.
pub(crate) struct Quiet<X>(std::marker::PhantomData<X>);

impl<A: Alu> Alu for Quiet<A> {
    const WRITES: bool = A::WRITES;
    #[inline(always)]
    fn compute<T: Word>(_: &mut Flags, a: u64, b: u64) -> u64 {
        A::compute::<T>(&mut Flags::default(), a, b)
    }
}

impl<U: Unary> Unary for Quiet<U> {
    #[inline(always)]
    fn compute<T: Word>(_: &mut Flags, a: u64) -> u64 {
        U::compute::<T>(&mut Flags::default(), a)
    }
}

pub(crate) fn rr<A: Alu, T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let (a, b) = (T::get(cpu, op.dst).to64(), T::get(cpu, op.src).to64());
    let r = A::compute::<T>(&mut cpu.flags, a, b);
    if A::WRITES {
        T::set(cpu, op.dst, T::from64(r));
    }
    Ok(())
}

pub(crate) fn ri<A: Alu, T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let (a, b) = (T::get(cpu, op.dst).to64(), T::from64(op.imm).to64());
    let r = A::compute::<T>(&mut cpu.flags, a, b);
    if A::WRITES {
        T::set(cpu, op.dst, T::from64(r));
    }
    Ok(())
}

pub(crate) fn rm<P: Path, A: Alu, T: Word, E: Ea>(cpu: &mut Cpu, op: &Op) -> Res {
    let b = cpu.read_by::<P, T>(E::ea(cpu, op))?.to64();
    let a = T::get(cpu, op.dst).to64();
    let r = A::compute::<T>(&mut cpu.flags, a, b);
    if A::WRITES {
        T::set(cpu, op.dst, T::from64(r));
    }
    Ok(())
}

#[inline(always)]
fn to_memory<P: Path, A: Alu, T: Word>(cpu: &mut Cpu, ea: u64, b: u64) -> Res {
    if A::WRITES {
        cpu.rmw_by::<P, T>(ea, |cpu, old| T::from64(A::compute::<T>(&mut cpu.flags, old.to64(), b)))
    } else {
        let a = cpu.read_by::<P, T>(ea)?.to64();
        A::compute::<T>(&mut cpu.flags, a, b);
        Ok(())
    }
}

pub(crate) fn mr<P: Path, A: Alu, T: Word, E: Ea>(cpu: &mut Cpu, op: &Op) -> Res {
    let b = T::get(cpu, op.src).to64();
    to_memory::<P, A, T>(cpu, E::ea(cpu, op), b)
}

pub(crate) fn mi<P: Path, A: Alu, T: Word, E: Ea>(cpu: &mut Cpu, op: &Op) -> Res {
    to_memory::<P, A, T>(cpu, E::ea(cpu, op), T::from64(op.imm).to64())
}

/// A one-operand operation.
pub(crate) trait Unary {
    fn compute<T: Word>(f: &mut Flags, a: u64) -> u64;
}

macro_rules! unary {
    ($name:ident, |$f:ident, $a:ident| $e:expr) => {
        #[doc = stringify!($name)]
        pub(crate) struct $name;
        impl Unary for $name {
            #[inline(always)]
            fn compute<T: Word>($f: &mut Flags, $a: u64) -> u64 {
                $e
            }
        }
    };
}

unary!(Inc, |f, a| {
    let cf = f.cf();
    let r = add::<T>(f, a, 1, 0);
    f.set_cf(cf);
    r
});
unary!(Dec, |f, a| {
    let cf = f.cf();
    let r = sub::<T>(f, a, 1, 0);
    f.set_cf(cf);
    r
});
unary!(Neg, |f, a| sub::<T>(f, 0, a, 0));
unary!(Not, |_f, a| T::from64(!a).to64());

pub(crate) fn unary_r<U: Unary, T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let a = T::get(cpu, op.dst).to64();
    let r = U::compute::<T>(&mut cpu.flags, a);
    T::set(cpu, op.dst, T::from64(r));
    Ok(())
}

pub(crate) fn unary_m<P: Path, U: Unary, T: Word, E: Ea>(cpu: &mut Cpu, op: &Op) -> Res {
    cpu.rmw_by::<P, T>(E::ea(cpu, op), |cpu, old| T::from64(U::compute::<T>(&mut cpu.flags, old.to64())))
}

/// XADD and XCHG: `f` gives (new first operand, new second operand) and may set flags.
pub(crate) trait Exchange {
    fn compute<T: Word>(f: &mut Flags, a: u64, b: u64) -> (u64, u64);
}

/// XADD.
pub(crate) struct Xadd;
/// XCHG.
pub(crate) struct Xchg;

impl Exchange for Xadd {
    #[inline(always)]
    fn compute<T: Word>(f: &mut Flags, a: u64, b: u64) -> (u64, u64) {
        (add::<T>(f, a, b, 0), a)
    }
}

impl Exchange for Xchg {
    #[inline(always)]
    fn compute<T: Word>(_: &mut Flags, a: u64, b: u64) -> (u64, u64) {
        (b, a)
    }
}

pub(crate) fn exchange_r<X: Exchange, T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let (a, b) = (T::get(cpu, op.dst).to64(), T::get(cpu, op.src).to64());
    let (first, second) = X::compute::<T>(&mut cpu.flags, a, b);
    T::set(cpu, op.src, T::from64(second));
    T::set(cpu, op.dst, T::from64(first));
    Ok(())
}

pub(crate) fn exchange_m<P: Path, X: Exchange, T: Word, E: Ea>(cpu: &mut Cpu, op: &Op) -> Res {
    let b = T::get(cpu, op.src).to64();
    let mut second = 0;
    cpu.rmw_by::<P, T>(E::ea(cpu, op), |cpu, old| {
        let (first, s) = X::compute::<T>(&mut cpu.flags, old.to64(), b);
        second = s;
        T::from64(first)
    })?;
    T::set(cpu, op.src, T::from64(second));
    Ok(())
}

pub(crate) fn cmpxchg_r<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let (acc, old) = (T::get(cpu, 0), T::get(cpu, op.dst));
    let new = T::get(cpu, op.src);
    sub::<T>(&mut cpu.flags, acc.to64(), old.to64(), 0);
    if acc == old {
        T::set(cpu, op.dst, new);
    } else {
        T::set(cpu, 0, old);
    }
    Ok(())
}

pub(crate) fn cmpxchg_m<P: Path, T: Word, E: Ea>(cpu: &mut Cpu, op: &Op) -> Res {
    let (acc, new) = (T::get(cpu, 0), T::get(cpu, op.src));
    let mut seen = acc;
    cpu.rmw_by::<P, T>(E::ea(cpu, op), |cpu, old| {
        seen = old;
        sub::<T>(&mut cpu.flags, acc.to64(), old.to64(), 0);
        if acc == old { new } else { old }
    })?;
    if seen != acc {
        T::set(cpu, 0, seen);
    }
    Ok(())
}

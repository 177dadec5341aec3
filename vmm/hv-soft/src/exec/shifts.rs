//! Shifts and rotates.

use crate::access::Path;
use crate::cpu::Cpu;
use crate::ea::{Ea, Full};
use crate::exec::alu::Quiet;
use crate::flags::{Flags, carry_vector};
use crate::op::{Op, Res};
use crate::word::Word;

/// A shift or rotate of `a` by `count`, which is 1 to 63 (31 below 64 bits).
pub(crate) trait Shift {
    fn compute<T: Word>(f: &mut Flags, a: u64, count: u32) -> u64;
}

#[inline(always)]
fn finish<T: Word>(f: &mut Flags, result: u64, cf: bool, of: bool) -> u64 {
    let r = T::from64(result);
    f.z = r.sext();
    f.sp = r.sext();
    f.cv = carry_vector(cf, of, false);
    r.to64()
}

#[inline(always)]
fn top<T: Word>(v: u64) -> bool {
    v >> (T::BITS - 1) & 1 != 0
}

macro_rules! shift {
    ($name:ident, |$f:ident, $a:ident, $n:ident| $e:expr) => {
        #[doc = stringify!($name)]
        pub(crate) struct $name;
        impl Shift for $name {
            #[inline(always)]
            fn compute<T: Word>($f: &mut Flags, $a: u64, $n: u32) -> u64 {
                $e
            }
        }
    };
}

shift!(Shl, |f, a, n| {
    let r = a << n;
    let cf = n <= T::BITS && a >> (T::BITS - n.min(T::BITS)) & 1 != 0;
    finish::<T>(f, r, cf, top::<T>(r) ^ cf)
});
shift!(Shr, |f, a, n| finish::<T>(f, a >> n, a >> (n - 1) & 1 != 0, top::<T>(a)));
shift!(Sar, |f, a, n| {
    let wide = T::from64(a).sext() as i64;
    finish::<T>(f, (wide >> n) as u64, wide >> (n - 1) & 1 != 0, false)
});
shift!(Rol, |f, a, n| {
    let n = n % T::BITS;
    let r = if n == 0 { a } else { T::from64(a << n | a >> (T::BITS - n)).to64() };
    f.set_cf_of(r & 1 != 0, top::<T>(r) ^ (r & 1 != 0));
    r
});
shift!(Ror, |f, a, n| {
    let n = n % T::BITS;
    let r = if n == 0 { a } else { T::from64(a >> n | a << (T::BITS - n)).to64() };
    f.set_cf_of(top::<T>(r), top::<T>(r) ^ (r >> (T::BITS - 2) & 1 != 0));
    r
});
shift!(Rcl, |f, a, n| {
    let n = n % (T::BITS + 1);
    if n == 0 {
        return a;
    }
    let wide = u128::from(a) | u128::from(f.cf()) << T::BITS;
    let turned = wide << n | wide >> (T::BITS + 1 - n);
    let r = T::from64(turned as u64).to64();
    let cf = turned >> T::BITS & 1 != 0;
    f.set_cf_of(cf, top::<T>(r) ^ cf);
    r
});
shift!(Rcr, |f, a, n| {
    let n = n % (T::BITS + 1);
    if n == 0 {
        return a;
    }
    let wide = u128::from(a) | u128::from(f.cf()) << T::BITS;
    let turned = wide >> n | wide << (T::BITS + 1 - n);
    let r = T::from64(turned as u64).to64();
    f.set_cf_of(turned >> T::BITS & 1 != 0, top::<T>(r) ^ (r >> (T::BITS - 2) & 1 != 0));
    r
});

impl<S: Shift> Shift for Quiet<S> {
    #[inline(always)]
    fn compute<T: Word>(_: &mut Flags, a: u64, count: u32) -> u64 {
        S::compute::<T>(&mut Flags::default(), a, count)
    }
}

#[inline(always)]
fn mask<T: Word>() -> u64 {
    if T::BITS == 64 { 63 } else { 31 }
}

#[inline(always)]
fn on_register<S: Shift, T: Word>(cpu: &mut Cpu, r: u8, count: u64) -> Res {
    let n = (count & mask::<T>()) as u32;
    let a = T::get(cpu, r);
    let v = if n == 0 { a } else { T::from64(S::compute::<T>(&mut cpu.flags, a.to64(), n)) };
    T::set(cpu, r, v);
    Ok(())
}

pub(crate) fn ri<S: Shift, T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    on_register::<S, T>(cpu, op.dst, op.imm)
}

/// By an immediate that the decoder saw is not zero.
pub(crate) fn counted<S: Shift, T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let n = (op.imm & mask::<T>()) as u32;
    let a = T::get(cpu, op.dst).to64();
    let v = S::compute::<T>(&mut cpu.flags, a, n);
    T::set(cpu, op.dst, T::from64(v));
    Ok(())
}

pub(crate) fn rc<S: Shift, T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let n = cpu.regs[1];
    on_register::<S, T>(cpu, op.dst, n)
}

#[inline(always)]
fn on_memory<P: Path, S: Shift, T: Word>(cpu: &mut Cpu, op: &Op, count: u64) -> Res {
    let n = (count & mask::<T>()) as u32;
    cpu.rmw_by::<P, T>(Full::ea(cpu, op), |cpu, a| {
        if n == 0 { a } else { T::from64(S::compute::<T>(&mut cpu.flags, a.to64(), n)) }
    })
}

pub(crate) fn mi<P: Path, S: Shift, T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    on_memory::<P, S, T>(cpu, op, op.imm)
}

pub(crate) fn mc<P: Path, S: Shift, T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    on_memory::<P, S, T>(cpu, op, cpu.regs[1])
}

/// SHLD (`LEFT`) and SHRD. A count beyond 16 on 16-bit operands is undefined; this wraps through both operands.
fn double<T: Word, const LEFT: bool>(f: &mut Flags, a: u64, b: u64, n: u32) -> u64 {
    let (r, cf) = if LEFT {
        let wide = u128::from(a) << T::BITS | u128::from(b);
        let wide = if T::BITS == 16 { wide << 16 | u128::from(a) } else { wide };
        let total = if T::BITS == 16 { 48 } else { 2 * T::BITS };
        let turned = wide << n;
        ((turned >> (total - T::BITS)) as u64, wide >> (total - n) & 1 != 0)
    } else {
        let wide = u128::from(b) << T::BITS | u128::from(a);
        let wide = if T::BITS == 16 { wide | u128::from(a) << 32 } else { wide };
        ((wide >> n) as u64, wide >> (n - 1) & 1 != 0)
    };
    finish::<T>(f, r, cf, top::<T>(r) ^ top::<T>(a))
}

fn double_count<T: Word>(cpu: &Cpu, op: &Op) -> u32 {
    let count = if op.aux == 1 { cpu.regs[1] } else { op.imm };
    (count & mask::<T>()) as u32
}

pub(crate) fn double_r<T: Word, const LEFT: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let n = double_count::<T>(cpu, op);
    let (a, b) = (T::get(cpu, op.dst), T::get(cpu, op.src).to64());
    let v = if n == 0 { a } else { T::from64(double::<T, LEFT>(&mut cpu.flags, a.to64(), b, n)) };
    T::set(cpu, op.dst, v);
    Ok(())
}

pub(crate) fn double_m<T: Word, const LEFT: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let n = double_count::<T>(cpu, op);
    let b = T::get(cpu, op.src).to64();
    cpu.rmw::<T>(Full::ea(cpu, op), |cpu, a| {
        if n == 0 { a } else { T::from64(double::<T, LEFT>(&mut cpu.flags, a.to64(), b, n)) }
    })
}

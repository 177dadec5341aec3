//! SSE arithmetic on single lanes and on packed and scalar registers.
//!
//! The host's own arithmetic answers where it is sure to be right: the guest rounds to nearest with everything masked,
//! no operand is denormal, the result is an ordinary number and the precision flag either stands already or does not
//! rise. Else, on an x86-64 host, its own instruction runs under the guest's MXCSR if everything is masked; what is left
//! goes through the soft arithmetic.

use super::fp;
use super::lanes::*;
use super::mxcsr::Sse;
use super::native;

/// A lane's bits.
pub(crate) trait Lane: Copy + PartialEq {
    /// Bits of a zero-extended lane mask.
    const ONES: Self;
    /// Precision and range.
    const FORMAT: fp::Format;
    /// Takes the number apart.
    fn unpack(self) -> fp::Value;
    /// Puts a rounded number together.
    fn pack(v: fp::Value) -> Self;
    /// Neither NaN nor denormal.
    fn is_plain(self) -> bool;
    /// Not denormal.
    fn is_not_denormal(self) -> bool;
    /// Plus or minus zero.
    fn is_zero(self) -> bool;
    /// Normal, finite and not the smallest exponent: neither overflow nor underflow can have happened.
    fn is_ordinary(self) -> bool;
    /// Low bits of the significand that are zero.
    fn spare_bits(self) -> u32;
    /// Host addition, and whether it was exact.
    fn host_add(self, b: Self) -> (Self, bool);
    /// Host multiplication.
    fn host_mul(self, b: Self) -> Self;
    /// Host division.
    fn host_div(self, b: Self) -> Self;
    /// Host square root.
    fn host_sqrt(self) -> Self;
    /// Host comparison.
    fn host_less(self, b: Self) -> bool;
    /// Host comparison.
    fn host_equal(self, b: Self) -> bool;
    /// With the sign bit turned.
    fn negated(self) -> Self;
}

macro_rules! lane {
    ($bits:ty, $float:ty, $format:expr, $unpack:path, $pack:path, $frac:literal, $top:literal) => {
        impl Lane for $bits {
            const ONES: Self = <$bits>::MAX;
            const FORMAT: fp::Format = $format;
            fn unpack(self) -> fp::Value {
                $unpack(self)
            }
            fn pack(v: fp::Value) -> Self {
                $pack(v)
            }
            #[inline(always)]
            fn is_plain(self) -> bool {
                let magnitude = self & (<$bits>::MAX >> 1);
                magnitude == 0 || magnitude >> $frac != 0 && magnitude <= $top << $frac
            }
            #[inline(always)]
            fn is_not_denormal(self) -> bool {
                let magnitude = self & (<$bits>::MAX >> 1);
                magnitude == 0 || magnitude >> $frac != 0
            }
            #[inline(always)]
            fn is_zero(self) -> bool {
                self << 1 == 0
            }
            #[inline(always)]
            fn is_ordinary(self) -> bool {
                let field = self >> $frac & $top;
                field > 1 && field < $top
            }
            #[inline(always)]
            fn spare_bits(self) -> u32 {
                (self | 1 << $frac).trailing_zeros()
            }
            #[inline(always)]
            fn host_add(self, b: Self) -> (Self, bool) {
                let (a, b) = (<$float>::from_bits(self), <$float>::from_bits(b));
                let sum = a + b;
                let part = sum - a;
                let error = (a - (sum - part)) + (b - part);
                (sum.to_bits(), error == 0.0)
            }
            #[inline(always)]
            fn host_mul(self, b: Self) -> Self {
                (<$float>::from_bits(self) * <$float>::from_bits(b)).to_bits()
            }
            #[inline(always)]
            fn host_div(self, b: Self) -> Self {
                (<$float>::from_bits(self) / <$float>::from_bits(b)).to_bits()
            }
            #[inline(always)]
            fn host_sqrt(self) -> Self {
                <$float>::from_bits(self).sqrt().to_bits()
            }
            #[inline(always)]
            fn host_less(self, b: Self) -> bool {
                <$float>::from_bits(self) < <$float>::from_bits(b)
            }
            #[inline(always)]
            fn host_equal(self, b: Self) -> bool {
                <$float>::from_bits(self) == <$float>::from_bits(b)
            }
            #[inline(always)]
            fn negated(self) -> Self {
                self ^ !(<$bits>::MAX >> 1)
            }
        }
    };
}

lane!(u32, f32, fp::F32, fp::unpack32, fp::pack32, 23, 0xff);
lane!(u64, f64, fp::F64, fp::unpack64, fp::pack64, 52, 0x7ff);

/// `a + b`.
#[inline]
pub(crate) fn add<T: Lane>(a: T, b: T, sse: &mut Sse) -> T {
    if sse.host_mode() && a.is_not_denormal() && b.is_not_denormal() {
        let (r, exact) = a.host_add(b);
        // A sum of normal numbers that is zero is exact; one with a NaN or infinity is not ordinary.
        if (r.is_ordinary() || r.is_zero()) && (sse.inexact_known() || exact) {
            return r;
        }
    }
    sse.soft(|e| T::pack(fp::add(a.unpack(), b.unpack(), &T::FORMAT, e)))
}

/// `a - b`.
#[inline]
pub(crate) fn sub<T: Lane>(a: T, b: T, sse: &mut Sse) -> T {
    if sse.host_mode() && a.is_not_denormal() && b.is_not_denormal() {
        let (r, exact) = a.host_add(b.negated());
        if (r.is_ordinary() || r.is_zero()) && (sse.inexact_known() || exact) {
            return r;
        }
    }
    sse.soft(|e| T::pack(fp::sub(a.unpack(), b.unpack(), &T::FORMAT, e)))
}

/// `a * b`.
#[inline]
pub(crate) fn mul<T: Lane>(a: T, b: T, sse: &mut Sse) -> T {
    if sse.host_mode() && a.is_not_denormal() && b.is_not_denormal() {
        let r = a.host_mul(b);
        // The product needs no more bits than both factors use together.
        let exact = || a.spare_bits() + b.spare_bits() >= T::FORMAT.precision;
        if r.is_ordinary() && (sse.inexact_known() || exact()) || r.is_zero() && (a.is_zero() || b.is_zero()) {
            return r;
        }
    }
    sse.soft(|e| T::pack(fp::mul(a.unpack(), b.unpack(), &T::FORMAT, e)))
}

/// `a / b`.
#[inline]
pub(crate) fn div<T: Lane>(a: T, b: T, sse: &mut Sse) -> T {
    if sse.host_mode() && sse.inexact_known() && a.is_not_denormal() && b.is_not_denormal() {
        let r = a.host_div(b);
        if r.is_ordinary() || r.is_zero() && a.is_zero() {
            return r;
        }
    }
    sse.soft(|e| T::pack(fp::div(a.unpack(), b.unpack(), &T::FORMAT, e)))
}

/// Square root of `b`.
#[inline]
pub(crate) fn sqrt<T: Lane>(_a: T, b: T, sse: &mut Sse) -> T {
    if sse.host_mode() && b.is_plain() {
        let r = b.host_sqrt();
        if r.is_zero() || r.is_ordinary() && (sse.inexact_known() || r.spare_bits() * 2 >= T::FORMAT.precision) {
            let exact = r.host_mul(r) == b;
            if sse.inexact_known() || exact {
                return r;
            }
        }
    }
    sse.soft(|e| T::pack(fp::sqrt(b.unpack(), &T::FORMAT, e)))
}

/// The smaller of two; the second one where they are equal, both zero or unordered.
#[inline]
pub(crate) fn min<T: Lane>(a: T, b: T, sse: &mut Sse) -> T {
    if a.is_plain() && b.is_plain() {
        return if a.host_less(b) { a } else { b };
    }
    extreme(a, b, core::cmp::Ordering::Less, sse)
}

/// The larger of two; the second one where they are equal, both zero or unordered.
#[inline]
pub(crate) fn max<T: Lane>(a: T, b: T, sse: &mut Sse) -> T {
    if a.is_plain() && b.is_plain() {
        return if b.host_less(a) { a } else { b };
    }
    extreme(a, b, core::cmp::Ordering::Greater, sse)
}

fn extreme<T: Lane>(a: T, b: T, wanted: core::cmp::Ordering, sse: &mut Sse) -> T {
    sse.soft(|e| {
        let first = fp::compare(a.unpack(), b.unpack(), true, e) == Some(wanted);
        let chosen = if first { a } else { b };
        let v = chosen.unpack();
        if e.daz && v.class == fp::Class::Denormal { T::pack(fp::Value::zero(v.sign)) } else { chosen }
    })
}

/// `CMPccPS` and its kin: all ones where predicate `imm` holds.
#[inline]
pub(crate) fn compare<T: Lane + Default>(a: T, b: T, imm: u8, sse: &mut Sse) -> T {
    let (less, equal, unordered) = if a.is_plain() && b.is_plain() {
        (a.host_less(b), a.host_equal(b), false)
    } else {
        let signal = matches!(imm & 3, 1 | 2);
        let order = sse.soft(|e| fp::compare(a.unpack(), b.unpack(), signal, e));
        (order.is_some_and(|o| o.is_lt()), order.is_some_and(|o| o.is_eq()), order.is_none())
    };
    let holds = match imm & 3 {
        0 => equal,
        1 => less,
        2 => less || equal,
        _ => unordered,
    };
    if holds != (imm & 4 != 0) { T::ONES } else { T::default() }
}

/// `COMISx` (`signal`: quiet NaNs raise invalid too) and `UCOMISx`: ZF, PF, CF.
#[inline]
pub(crate) fn comi<T: Lane>(a: T, b: T, signal: bool, sse: &mut Sse) -> (bool, bool, bool) {
    if a.is_plain() && b.is_plain() {
        return (a.host_equal(b), false, a.host_less(b));
    }
    match sse.soft(|e| fp::compare(a.unpack(), b.unpack(), signal, e)) {
        None => (true, true, true),
        Some(order) => (order.is_eq(), false, order.is_lt()),
    }
}

/// `ROUNDxx`: `imm` bits 0–1 are the mode, bit 2 takes MXCSR's instead, bit 3 suppresses the precision flag.
pub(crate) fn round<T: Lane>(b: T, imm: u8, sse: &mut Sse) -> T {
    let rounding = if imm & 4 != 0 { sse.rounding() } else { fp::Rounding::from_bits(u32::from(imm)) };
    sse.soft(|e| {
        let v = b.unpack();
        let v = if e.daz && v.class == fp::Class::Denormal { fp::Value::zero(v.sign) } else { v };
        T::pack(fp::round_to_integral(v, rounding, imm & 8 != 0, e))
    })
}

macro_rules! packed {
    ($($ps:ident, $pd:ident, $ss:ident, $sd:ident: $op:ident;)*) => {$(
        #[doc = concat!("`", stringify!($ps), "`.")]
        #[inline]
        pub(crate) fn $ps(a: u128, b: u128, sse: &mut Sse) -> u128 {
            if let Some(v) = native::$ps(a, b, sse) {
                return v;
            }
            let (x, y) = (u32s(a), u32s(b));
            from_u32s(core::array::from_fn(|i| $op(x[i], y[i], sse)))
        }

        #[doc = concat!("`", stringify!($pd), "`.")]
        #[inline]
        pub(crate) fn $pd(a: u128, b: u128, sse: &mut Sse) -> u128 {
            if let Some(v) = native::$pd(a, b, sse) {
                return v;
            }
            let (x, y) = (u64s(a), u64s(b));
            from_u64s(core::array::from_fn(|i| $op(x[i], y[i], sse)))
        }

        #[doc = concat!("`", stringify!($ss), "`.")]
        #[inline]
        pub(crate) fn $ss(a: u128, b: u128, sse: &mut Sse) -> u128 {
            if !sse.host_sure()
                && let Some(v) = native::$ss(a, b, sse)
            {
                return v;
            }
            a & !u128::from(u32::MAX) | u128::from($op(a as u32, b as u32, sse))
        }

        #[doc = concat!("`", stringify!($sd), "`.")]
        #[inline]
        pub(crate) fn $sd(a: u128, b: u128, sse: &mut Sse) -> u128 {
            if !sse.host_sure()
                && let Some(v) = native::$sd(a, b, sse)
            {
                return v;
            }
            a & !u128::from(u64::MAX) | u128::from($op(a as u64, b as u64, sse))
        }
    )*};
}

packed! {
    addps, addpd, addss, addsd: add;
    subps, subpd, subss, subsd: sub;
    mulps, mulpd, mulss, mulsd: mul;
    divps, divpd, divss, divsd: div;
    sqrtps, sqrtpd, sqrtss, sqrtsd: sqrt;
    minps, minpd, minss, minsd: min;
    maxps, maxpd, maxss, maxsd: max;
}

macro_rules! packed_imm {
    ($($ps:ident, $pd:ident, $ss:ident, $sd:ident: |$a:ident, $b:ident, $imm:ident, $sse:ident| $e:expr;)*) => {$(
        #[doc = concat!("`", stringify!($ps), "`.")]
        pub(crate) fn $ps(a: u128, b: u128, $imm: u8, $sse: &mut Sse) -> u128 {
            let (x, y) = (u32s(a), u32s(b));
            from_u32s(core::array::from_fn(|i| { let ($a, $b) = (x[i], y[i]); $e }))
        }

        #[doc = concat!("`", stringify!($pd), "`.")]
        pub(crate) fn $pd(a: u128, b: u128, $imm: u8, $sse: &mut Sse) -> u128 {
            let (x, y) = (u64s(a), u64s(b));
            from_u64s(core::array::from_fn(|i| { let ($a, $b) = (x[i], y[i]); $e }))
        }

        #[doc = concat!("`", stringify!($ss), "`.")]
        pub(crate) fn $ss(a: u128, b: u128, $imm: u8, $sse: &mut Sse) -> u128 {
            let ($a, $b) = (a as u32, b as u32);
            a & !u128::from(u32::MAX) | u128::from($e)
        }

        #[doc = concat!("`", stringify!($sd), "`.")]
        pub(crate) fn $sd(a: u128, b: u128, $imm: u8, $sse: &mut Sse) -> u128 {
            let ($a, $b) = (a as u64, b as u64);
            a & !u128::from(u64::MAX) | u128::from($e)
        }
    )*};
}

packed_imm! {
    cmpps, cmppd, cmpss, cmpsd: |a, b, imm, sse| compare(a, b, imm, sse);
    roundps, roundpd, roundss, roundsd: |_a, b, imm, sse| round(b, imm, sse);
}

/// `ADDSUBPS`: even lanes subtracted, odd lanes added.
pub(crate) fn addsubps(a: u128, b: u128, sse: &mut Sse) -> u128 {
    let (x, y) = (u32s(a), u32s(b));
    from_u32s(core::array::from_fn(|i| if i % 2 == 0 { sub(x[i], y[i], sse) } else { add(x[i], y[i], sse) }))
}

/// `ADDSUBPD`: the low lane subtracted, the high one added.
pub(crate) fn addsubpd(a: u128, b: u128, sse: &mut Sse) -> u128 {
    pair(sub(lo(a), lo(b), sse), add(hi(a), hi(b), sse))
}

macro_rules! horizontal {
    ($($ps:ident, $pd:ident: $op:ident;)*) => {$(
        #[doc = concat!("`", stringify!($ps), "`.")]
        pub(crate) fn $ps(a: u128, b: u128, sse: &mut Sse) -> u128 {
            let (x, y) = (u32s(a), u32s(b));
            from_u32s([$op(x[0], x[1], sse), $op(x[2], x[3], sse), $op(y[0], y[1], sse), $op(y[2], y[3], sse)])
        }

        #[doc = concat!("`", stringify!($pd), "`.")]
        pub(crate) fn $pd(a: u128, b: u128, sse: &mut Sse) -> u128 {
            pair($op(lo(a), hi(a), sse), $op(lo(b), hi(b), sse))
        }
    )*};
}

horizontal! {
    haddps, haddpd: add;
    hsubps, hsubpd: sub;
}

/// `DPPS`: the products of the lanes in `imm` bits 4–7, summed, in the lanes of bits 0–3.
pub(crate) fn dpps(a: u128, b: u128, imm: u8, sse: &mut Sse) -> u128 {
    let (x, y) = (u32s(a), u32s(b));
    let p: [u32; 4] = core::array::from_fn(|i| if imm >> (4 + i) & 1 != 0 { mul(x[i], y[i], sse) } else { 0 });
    if sse.step_faults() {
        return a;
    }
    let pairs = (add(p[0], p[1], sse), add(p[2], p[3], sse));
    if sse.step_faults() {
        return a;
    }
    let sum = add(pairs.0, pairs.1, sse);
    from_u32s(core::array::from_fn(|i| if imm >> i & 1 != 0 { sum } else { 0 }))
}

/// `DPPD`: the products of the lanes in `imm` bits 4–5, summed, in the lanes of bits 0–1.
pub(crate) fn dppd(a: u128, b: u128, imm: u8, sse: &mut Sse) -> u128 {
    let (x, y) = (u64s(a), u64s(b));
    let p: [u64; 2] = core::array::from_fn(|i| if imm >> (4 + i) & 1 != 0 { mul(x[i], y[i], sse) } else { 0 });
    if sse.step_faults() {
        return a;
    }
    let sum = add(p[0], p[1], sse);
    from_u64s(core::array::from_fn(|i| if imm >> i & 1 != 0 { sum } else { 0 }))
}

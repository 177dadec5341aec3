//! SSE conversions between integers and floating point and between precisions.

use super::float::Lane;
use super::fp;
use super::lanes::*;
use super::mxcsr::Sse;
use super::native;

/// A float lane to a signed integer of `bits` bits, `truncate` toward zero, else as MXCSR says.
#[inline]
pub(crate) fn to_int<T: Lane>(v: T, bits: u32, truncate: bool, sse: &mut Sse) -> i64 {
    let rounding = if truncate { fp::Rounding::Zero } else { sse.rounding() };
    sse.soft(|e| fp::to_int(v.unpack(), bits, rounding, e))
}

/// A signed integer to a float lane.
#[inline]
pub(crate) fn from_int<T: Lane>(i: i64, sse: &mut Sse) -> T {
    sse.soft(|e| T::pack(fp::narrow(fp::from_i64(i), &T::FORMAT, e)))
}

/// `CVTTSD2SI`: with a short way for the numbers that programs convert.
#[inline]
pub(crate) fn truncate_f64(bits: u64, width: u32, sse: &mut Sse) -> i64 {
    let v = f64::from_bits(bits);
    if v.abs() < 2_147_483_648.0 {
        let i = v as i64;
        if i as f64 == v || sse.host_mode() && sse.inexact_known() {
            return i;
        }
    }
    to_int(bits, width, true, sse)
}

/// `CVTSI2SD`: exact for the integers that 53 bits hold.
#[inline]
pub(crate) fn from_int_f64(i: i64, sse: &mut Sse) -> u64 {
    if i.unsigned_abs() < 1 << 53 { (i as f64).to_bits() } else { from_int(i, sse) }
}

/// Single to double precision, exact.
#[inline]
pub(crate) fn widen(v: u32, sse: &mut Sse) -> u64 {
    if v.is_plain() {
        return f64::from(f32::from_bits(v)).to_bits();
    }
    sse.soft(|e| fp::pack64(resize(v.unpack(), &fp::F64, e)))
}

/// Double to single precision.
#[inline]
pub(crate) fn narrow(v: u64, sse: &mut Sse) -> u32 {
    if sse.host_mode() && v.is_plain() {
        let r = f64::from_bits(v) as f32;
        let exact = v.is_zero() || f64::from(r).to_bits() == v;
        if v.is_zero() || r.to_bits().is_ordinary() && (sse.inexact_known() || exact) {
            return r.to_bits();
        }
    }
    sse.soft(|e| fp::pack32(resize(v.unpack(), &fp::F32, e)))
}

/// A value moved to another format.
fn resize(v: fp::Value, format: &fp::Format, env: &mut fp::Env) -> fp::Value {
    if v.is_nan() {
        return fp::propagate(&v, &v, env);
    }
    let v = fp::operand(v, env);
    fp::narrow(v, format, env)
}

/// `CVTPS2PD`.
pub(crate) fn cvtps2pd(a: u128, b: u128, sse: &mut Sse) -> u128 {
    if let Some(v) = native::cvtps2pd(a, b, sse) {
        return v;
    }
    let y = u32s(b);
    pair(widen(y[0], sse), widen(y[1], sse))
}

/// `CVTPD2PS`.
pub(crate) fn cvtpd2ps(a: u128, b: u128, sse: &mut Sse) -> u128 {
    if let Some(v) = native::cvtpd2ps(a, b, sse) {
        return v;
    }
    from_u32s([narrow(lo(b), sse), narrow(hi(b), sse), 0, 0])
}

/// `CVTSS2SD`.
pub(crate) fn cvtss2sd(a: u128, b: u128, sse: &mut Sse) -> u128 {
    if let Some(v) = native::cvtss2sd(a, b, sse) {
        return v;
    }
    pair(widen(b as u32, sse), hi(a))
}

/// `CVTSD2SS`.
pub(crate) fn cvtsd2ss(a: u128, b: u128, sse: &mut Sse) -> u128 {
    if let Some(v) = native::cvtsd2ss(a, b, sse) {
        return v;
    }
    a & !u128::from(u32::MAX) | u128::from(narrow(lo(b), sse))
}

/// `CVTDQ2PS`.
pub(crate) fn cvtdq2ps(a: u128, b: u128, sse: &mut Sse) -> u128 {
    if let Some(v) = native::cvtdq2ps(a, b, sse) {
        return v;
    }
    from_u32s(i32s(b).map(|i| from_int(i64::from(i), sse)))
}

/// `CVTDQ2PD`, `CVTPI2PD`.
pub(crate) fn cvtdq2pd(_a: u128, b: u128, sse: &mut Sse) -> u128 {
    let y = i32s(b);
    pair(from_int_f64(i64::from(y[0]), sse), from_int_f64(i64::from(y[1]), sse))
}

/// `CVTPS2DQ` and, with `truncate`, `CVTTPS2DQ`.
pub(crate) fn ps2dq(b: u128, truncate: bool, sse: &mut Sse) -> u128 {
    from_i32s(u32s(b).map(|v| to_int(v, 32, truncate, sse) as i32))
}

/// `CVTPD2DQ`, `CVTPD2PI` and, with `truncate`, the truncating ones.
pub(crate) fn pd2dq(b: u128, truncate: bool, sse: &mut Sse) -> u128 {
    let y = u64s(b).map(|v| to_int(v, 32, truncate, sse) as i32);
    from_i32s([y[0], y[1], 0, 0])
}

/// `CVTPS2PI` and, with `truncate`, `CVTTPS2PI`: the two low lanes.
pub(crate) fn ps2pi(b: u128, truncate: bool, sse: &mut Sse) -> u128 {
    let y = u32s(b);
    let both = [y[0], y[1]].map(|v| to_int(v, 32, truncate, sse) as i32);
    from_i32s([both[0], both[1], 0, 0])
}

/// `CVTPI2PS`: two integers into the low lanes, the high ones kept.
pub(crate) fn pi2ps(a: u128, b: u128, sse: &mut Sse) -> u128 {
    let y = i32s(b);
    let both = [y[0], y[1]].map(|i| from_int::<u32>(i64::from(i), sse));
    pair(u64::from(both[0]) | u64::from(both[1]) << 32, hi(a))
}

macro_rules! rounded {
    ($($name:ident: $op:ident, $truncate:literal;)*) => {$(
        #[doc = concat!("`", stringify!($name), "`.")]
        pub(crate) fn $name(a: u128, b: u128, sse: &mut Sse) -> u128 {
            if let Some(v) = native::$name(a, b, sse) {
                return v;
            }
            $op(b, $truncate, sse)
        }
    )*};
}

rounded! {
    cvtps2dq: ps2dq, false;
    cvttps2dq: ps2dq, true;
    cvtpd2dq: pd2dq, false;
    cvttpd2dq: pd2dq, true;
}

/// `CVTPS2PI`.
pub(crate) fn cvtps2pi(_a: u128, b: u128, sse: &mut Sse) -> u128 {
    ps2pi(b, false, sse)
}

/// `CVTTPS2PI`.
pub(crate) fn cvttps2pi(_a: u128, b: u128, sse: &mut Sse) -> u128 {
    ps2pi(b, true, sse)
}

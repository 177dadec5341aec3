//! Conversions to and from integers and rounding to integral values.

use super::round::{round_bits, shift_sticky};
use super::*;

/// The magnitude rounded to an integer, with whether it was inexact and whether rounded up; `None` from 2^64 on.
fn integral(v: &Value, rounding: Rounding) -> Option<(u64, bool, bool)> {
    if v.exp > 63 {
        return None;
    }
    // The binary point between bits 63 and 64 after the shift.
    let shifted = shift_sticky(u128::from(v.sig) << 64, 63i32.abs_diff(v.exp));
    let (kept, inexact, up) = round_bits(v.sign, shifted, 64, rounding);
    u64::try_from(kept).ok().map(|k| (k, inexact, up))
}

/// To a signed integer of `bits` bits (16, 32 or 64); what does not fit raises invalid and gives the smallest one.
pub(crate) fn to_int(v: Value, bits: u32, rounding: Rounding, env: &mut Env) -> i64 {
    env.rounded_up = false;
    let indefinite = i64::MIN >> (64 - bits);
    let v = if env.daz && v.class == Class::Denormal { Value::zero(v.sign) } else { v };
    if v.is_zero() {
        return 0;
    }
    let rounded = if v.is_number() { integral(&v, rounding) } else { None };
    let limit = indefinite.unsigned_abs();
    match rounded {
        Some((magnitude, inexact, up)) if magnitude < limit || v.sign && magnitude == limit => {
            if inexact {
                env.raise(PE);
                env.rounded_up = up;
            }
            let magnitude = magnitude as i64;
            if v.sign { magnitude.wrapping_neg() } else { magnitude }
        }
        _ => {
            env.raise(IE);
            indefinite
        }
    }
}

/// From a signed integer, exact before rounding.
pub(crate) fn from_i64(i: i64) -> Value {
    if i == 0 {
        return Value::zero(false);
    }
    let magnitude = i.unsigned_abs();
    let shift = magnitude.leading_zeros();
    Value { class: Class::Normal, sign: i < 0, exp: 63 - shift as i32, sig: magnitude << shift }
}

/// To an integral value in the same format. `quiet` suppresses the precision flag.
pub(crate) fn round_to_integral(v: Value, rounding: Rounding, quiet: bool, env: &mut Env) -> Value {
    env.rounded_up = false;
    if v.is_nan() {
        return propagate(&v, &v, env);
    }
    if !v.is_number() || v.exp >= 63 {
        return v;
    }
    let Some((magnitude, inexact, up)) = integral(&v, rounding) else { return v };
    if inexact && !quiet {
        env.raise(PE);
        env.rounded_up = up;
    }
    match magnitude {
        0 => Value::zero(v.sign),
        m => from_i64_magnitude(m, v.sign),
    }
}

fn from_i64_magnitude(magnitude: u64, sign: bool) -> Value {
    let shift = magnitude.leading_zeros();
    Value { class: Class::Normal, sign, exp: 63 - shift as i32, sig: magnitude << shift }
}

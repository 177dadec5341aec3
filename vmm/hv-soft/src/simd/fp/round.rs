//! Rounding to a format.

use super::*;

/// Rounds `sig / 2^127 * 2^exp` (leading one at bit 127, the lowest bit may stand for all that is below) to `format`.
pub(crate) fn round(sign: bool, exp: i32, sig: u128, format: &Format, env: &mut Env) -> Value {
    env.rounded_up = false;
    let (exp_r, sig_r, inexact, up) = round_at(sign, exp, sig, format.precision, env.rounding);
    if exp < format.min {
        return round_small(sign, exp, sig, format, exp_r < format.min, env);
    }
    if exp_r > format.max {
        return overflow(sign, (exp_r, sig_r), inexact, up, format, env);
    }
    if inexact {
        env.raise(PE);
        env.rounded_up = up;
    }
    Value { class: Class::Normal, sign, exp: exp_r, sig: sig_r }
}

/// Rounds a number that the format already holds in full exponent range to fewer bits, as `round` does.
pub(crate) fn narrow(v: Value, format: &Format, env: &mut Env) -> Value {
    match v.class {
        Class::Normal | Class::Denormal => round(v.sign, v.exp, u128::from(v.sig) << 64, format, env),
        _ => v,
    }
}

/// Whether a remainder is rounded away from zero; `half` compares it with half a unit.
fn away(sign: bool, odd: bool, half: core::cmp::Ordering, inexact: bool, rounding: Rounding) -> bool {
    match rounding {
        Rounding::Nearest => half.is_gt() || half.is_eq() && odd,
        Rounding::Down => sign && inexact,
        Rounding::Up => !sign && inexact,
        Rounding::Zero => false,
    }
}

/// Rounds to `precision` bits with no limit on the exponent: exponent, significand, whether inexact and whether up.
fn round_at(sign: bool, exp: i32, sig: u128, precision: u32, rounding: Rounding) -> (i32, u64, bool, bool) {
    let (kept, inexact, up) = round_bits(sign, sig, 128 - precision, rounding);
    let sig = kept << (64 - precision);
    match kept >> precision {
        0 => (exp, sig as u64, inexact, up),
        _ => (exp + 1, 1 << 63, inexact, up),
    }
}

/// Drops `drop` (1–127) low bits of `sig`, rounding: what is kept, whether inexact and whether up.
pub(super) fn round_bits(sign: bool, sig: u128, drop: u32, rounding: Rounding) -> (u128, bool, bool) {
    let kept = sig >> drop;
    let rest = sig << (128 - drop);
    let half = rest.cmp(&(1 << 127));
    let up = away(sign, kept & 1 != 0, half, rest != 0, rounding);
    (kept + u128::from(up), rest != 0, up)
}

/// Shifts right, keeping in bit 0 whether anything was lost.
pub(super) fn shift_sticky(sig: u128, by: u32) -> u128 {
    match by {
        0 => sig,
        1..=127 => sig >> by | u128::from(sig << (128 - by) != 0),
        _ => u128::from(sig != 0),
    }
}

/// Rounds below the format's normal range; `tiny` is what rounding with an unlimited exponent said.
fn round_small(sign: bool, exp: i32, sig: u128, format: &Format, tiny: bool, env: &mut Env) -> Value {
    if tiny && env.masked & UE == 0 {
        return unmasked_underflow(sign, exp, sig, format, env);
    }
    if tiny && env.ftz {
        env.raise(UE | PE);
        return Value::zero(sign);
    }
    let shifted = shift_sticky(sig, format.min.abs_diff(exp));
    let (kept, inexact, up) = round_bits(sign, shifted, 128 - format.precision, env.rounding);
    if inexact {
        env.raise(if tiny { UE | PE } else { PE });
        env.rounded_up = up;
    }
    let sig = (kept << (64 - format.precision)) as u64;
    match sig {
        0 => Value::zero(sign),
        _ => Value { class: Class::Normal, sign, exp: format.min, sig },
    }
}

/// Underflow whose handler is to see the result: scaled up (x87).
fn unmasked_underflow(sign: bool, exp: i32, sig: u128, format: &Format, env: &mut Env) -> Value {
    env.raise(UE);
    let (exp, sig, inexact, up) = round_at(sign, exp, sig, format.precision, env.rounding);
    if env.family == Family::X87 && exp.saturating_add(format.scale) < format.min {
        env.raise(PE);
        return Value::zero(sign);
    }
    if inexact {
        env.raise(PE);
        env.rounded_up = up;
    }
    Value { class: Class::Normal, sign, exp: exp.saturating_add(format.scale), sig }
}

/// A result above the format's range.
fn overflow(sign: bool, (exp, sig): (i32, u64), inexact: bool, up: bool, format: &Format, env: &mut Env) -> Value {
    env.raise(OE);
    if env.masked & OE == 0 {
        if env.family == Family::X87 && exp.saturating_sub(format.scale) > format.max {
            env.raise(PE);
            env.rounded_up = true;
            return Value::infinity(sign);
        }
        if inexact {
            env.raise(PE);
            env.rounded_up = up;
        }
        return Value { class: Class::Normal, sign, exp: exp.saturating_sub(format.scale), sig };
    }
    env.raise(PE);
    let to_infinity = match env.rounding {
        Rounding::Nearest => true,
        Rounding::Down => sign,
        Rounding::Up => !sign,
        Rounding::Zero => false,
    };
    if to_infinity {
        env.rounded_up = true;
        return Value::infinity(sign);
    }
    env.rounded_up = false;
    let largest = u64::MAX << (64 - format.precision);
    Value { class: Class::Normal, sign, exp: format.max, sig: largest }
}

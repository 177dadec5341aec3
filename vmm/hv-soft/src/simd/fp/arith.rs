//! Addition, multiplication, division, square root, comparison.

use core::cmp::Ordering;

use super::round::shift_sticky;
use super::*;

/// `a + b`.
pub(crate) fn add(a: Value, b: Value, format: &Format, env: &mut Env) -> Value {
    env.rounded_up = false;
    if a.is_nan() || b.is_nan() {
        return propagate(&a, &b, env);
    }
    if a.is_infinity() && b.is_infinity() && a.sign != b.sign {
        return env.invalid();
    }
    let (a, b) = (operand(a, env), operand(b, env));
    match (a.is_infinity(), b.is_infinity()) {
        (true, _) => return a,
        (_, true) => return b,
        _ => {}
    }
    match (a.is_zero(), b.is_zero()) {
        (true, true) if a.sign == b.sign => a,
        (true, true) => exact_zero(env),
        (true, false) => narrow(b, format, env),
        (false, true) => narrow(a, format, env),
        (false, false) => add_numbers(a, b, format, env),
    }
}

/// `a - b`.
pub(crate) fn sub(a: Value, b: Value, format: &Format, env: &mut Env) -> Value {
    if b.is_nan() {
        return add(a, b, format, env);
    }
    add(a, b.flip_sign(true), format, env)
}

/// The zero that a difference of equals gives.
fn exact_zero(env: &Env) -> Value {
    Value::zero(env.rounding == Rounding::Down)
}

fn add_numbers(a: Value, b: Value, format: &Format, env: &mut Env) -> Value {
    let (big, small) = if (a.exp, a.sig) >= (b.exp, b.sig) { (a, b) } else { (b, a) };
    // The leading one at bit 126 leaves room for a carry.
    let x = u128::from(big.sig) << 63;
    let y = shift_sticky(u128::from(small.sig) << 63, big.exp.abs_diff(small.exp));
    let sum = if a.sign == b.sign { x + y } else { x - y };
    if sum == 0 {
        return exact_zero(env);
    }
    let shift = sum.leading_zeros();
    round(big.sign, big.exp + 1 - shift as i32, sum << shift, format, env)
}

/// `a * b`.
pub(crate) fn mul(a: Value, b: Value, format: &Format, env: &mut Env) -> Value {
    env.rounded_up = false;
    if a.is_nan() || b.is_nan() {
        return propagate(&a, &b, env);
    }
    let zero = |v: &Value, env: &Env| v.is_zero() || env.daz && v.class == Class::Denormal;
    if a.is_infinity() && zero(&b, env) || b.is_infinity() && zero(&a, env) {
        return env.invalid();
    }
    let (a, b) = (operand(a, env), operand(b, env));
    let sign = a.sign ^ b.sign;
    if a.is_infinity() || b.is_infinity() {
        return Value::infinity(sign);
    }
    if a.is_zero() || b.is_zero() {
        return Value::zero(sign);
    }
    let product = u128::from(a.sig) * u128::from(b.sig);
    let shift = product.leading_zeros();
    round(sign, a.exp + b.exp + 1 - shift as i32, product << shift, format, env)
}

/// `a / b`.
pub(crate) fn div(a: Value, b: Value, format: &Format, env: &mut Env) -> Value {
    env.rounded_up = false;
    if a.is_nan() || b.is_nan() {
        return propagate(&a, &b, env);
    }
    let zero = |v: &Value, env: &Env| v.is_zero() || env.daz && v.class == Class::Denormal;
    if a.is_infinity() && b.is_infinity() || zero(&a, env) && zero(&b, env) {
        return env.invalid();
    }
    let sign = a.sign ^ b.sign;
    if a.is_number() && zero(&b, env) {
        env.raise(ZE);
        return Value::infinity(sign);
    }
    let (a, b) = (operand(a, env), operand(b, env));
    if a.is_infinity() {
        return Value::infinity(sign);
    }
    if b.is_infinity() || a.is_zero() {
        return Value::zero(sign);
    }
    div_numbers(sign, a, b, format, env)
}

fn div_numbers(sign: bool, a: Value, b: Value, format: &Format, env: &mut Env) -> Value {
    let divisor = u128::from(b.sig);
    let less = a.sig < b.sig;
    // Either way the quotient has its leading one at bit 63.
    let dividend = u128::from(a.sig) << if less { 64 } else { 63 };
    let (high, rest) = (dividend / divisor, dividend % divisor);
    let (low, rest) = ((rest << 64) / divisor, (rest << 64) % divisor);
    let quotient = high << 64 | low | u128::from(rest != 0);
    round(sign, a.exp - b.exp - i32::from(less), quotient, format, env)
}

/// Square root.
pub(crate) fn sqrt(a: Value, format: &Format, env: &mut Env) -> Value {
    env.rounded_up = false;
    if a.is_nan() {
        return propagate(&a, &a, env);
    }
    let zero = a.is_zero() || env.daz && a.class == Class::Denormal;
    if a.sign && !zero {
        return env.invalid();
    }
    let a = operand(a, env);
    if !a.is_number() {
        return a;
    }
    let odd = a.exp & 1;
    let radicand = u128::from(a.sig) << (63 + odd);
    let root = radicand.isqrt();
    let rest = radicand - root * root;
    let half = u128::from(rest > root) << 63 | u128::from(rest != 0);
    round(false, (a.exp - odd) / 2, root << 64 | half, format, env)
}

/// Order of `a` and `b`, `None` if a NaN is there. A signaling NaN raises invalid, a quiet one where `signal`.
pub(crate) fn compare(a: Value, b: Value, signal: bool, env: &mut Env) -> Option<Ordering> {
    if a.is_nan() || b.is_nan() {
        let quiet = |v: &Value| !v.is_nan() || v.class == Class::QuietNan;
        if signal || !quiet(&a) || !quiet(&b) {
            env.raise(IE);
        }
        return None;
    }
    let (a, b) = (operand(a, env), operand(b, env));
    if a.is_zero() && b.is_zero() {
        return Some(Ordering::Equal);
    }
    if a.sign != b.sign {
        return Some(if a.sign { Ordering::Less } else { Ordering::Greater });
    }
    let magnitude = rank(&a).cmp(&rank(&b));
    Some(if a.sign { magnitude.reverse() } else { magnitude })
}

/// A key that orders magnitudes.
fn rank(v: &Value) -> (i32, u64) {
    match v.class {
        Class::Zero => (i32::MIN, 0),
        Class::Infinity => (i32::MAX, 0),
        _ => (v.exp, v.sig),
    }
}

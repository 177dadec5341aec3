//! The partial remainders of FPREM and FPREM1.

use super::*;

/// Result of a partial remainder.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PartialRemainder {
    /// The remainder so far.
    pub(crate) value: Value,
    /// Low bits of the quotient; meaningless where incomplete.
    pub(crate) quotient: u64,
    /// Whether the reduction has to go on.
    pub(crate) incomplete: bool,
}

/// `a` reduced by multiples of `b`, both numbers; `nearest` rounds the quotient to nearest (FPREM1), else toward zero.
pub(crate) fn partial_remainder(a: Value, b: Value, nearest: bool) -> PartialRemainder {
    let done = |value, quotient| PartialRemainder { value, quotient, incomplete: false };
    let distance = a.exp - b.exp;
    if distance < -1 || distance < 0 && !nearest {
        return done(a, 0);
    }
    if distance >= 64 {
        return reduce(a, b, distance);
    }
    // One bit below the divisor's, so that half of it is exact.
    let divisor = u128::from(b.sig) << 1;
    let (mut quotient, mut rest) = if distance < 0 {
        (0, u128::from(a.sig))
    } else {
        long_division(u128::from(a.sig), distance as u32, u128::from(b.sig))
    };
    let mut sign = a.sign;
    if nearest && (rest > divisor / 2 || rest == divisor / 2 && quotient & 1 != 0) {
        rest = divisor - rest;
        quotient += 1;
        sign = !sign;
    }
    done(normalized(sign, b.exp - 1, rest, a.sign), quotient as u64)
}

/// `(a << shift) / b` and its remainder doubled; `shift` below 64.
fn long_division(a: u128, shift: u32, b: u128) -> (u128, u128) {
    let n = a << shift;
    (n / b, (n % b) << 1)
}

/// One step when the exponents are 64 or more apart: takes off 32 to 63 bits of the quotient.
fn reduce(a: Value, b: Value, distance: i32) -> PartialRemainder {
    let step = (distance as u32 & 31) | 32;
    let rest = (u128::from(a.sig) << step) % u128::from(b.sig);
    let value = normalized(a.sign, a.exp - step as i32, rest, a.sign);
    PartialRemainder { value, quotient: 0, incomplete: true }
}

/// The number `rest / 2^63 * 2^exp`, or a zero of sign `zero_sign`.
fn normalized(sign: bool, exp: i32, rest: u128, zero_sign: bool) -> Value {
    if rest == 0 {
        return Value::zero(zero_sign);
    }
    // `rest` is below 2^65; its lowest bit is zero where it needs 65 bits.
    let shift = rest.leading_zeros() as i32 - 64;
    let sig = if shift < 0 { (rest >> 1) as u64 } else { (rest as u64) << shift };
    Value { class: Class::Normal, sign, exp: exp - shift, sig }
}

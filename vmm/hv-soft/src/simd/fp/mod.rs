//! Floating point in integers: exact IEEE 754 arithmetic for 32, 64 and 80 bits with x86's flags, tininess after
//! rounding and default NaN. SSE uses it where the host's own arithmetic cannot answer, x87 always.

mod arith;
mod convert;
mod remainder;
mod round;

pub(crate) use arith::{add, compare, div, mul, sqrt, sub};
pub(crate) use convert::{from_i64, round_to_integral, to_int};
pub(crate) use remainder::partial_remainder;
pub(crate) use round::{narrow, round};

/// Invalid operation.
pub(crate) const IE: u32 = 1;
/// Denormal operand.
pub(crate) const DE: u32 = 2;
/// Division by zero.
pub(crate) const ZE: u32 = 4;
/// Overflow.
pub(crate) const OE: u32 = 8;
/// Underflow.
pub(crate) const UE: u32 = 0x10;
/// Precision (inexact).
pub(crate) const PE: u32 = 0x20;

/// Rounding mode, in the encoding of MXCSR.RC and the x87 control word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// To nearest, ties to even.
    Nearest,
    /// Toward minus infinity.
    Down,
    /// Toward plus infinity.
    Up,
    /// Toward zero.
    Zero,
}

impl Rounding {
    /// From the two bits of a control register.
    pub(crate) fn from_bits(bits: u32) -> Self {
        match bits & 3 {
            0 => Rounding::Nearest,
            1 => Rounding::Down,
            2 => Rounding::Up,
            _ => Rounding::Zero,
        }
    }
}

/// How NaN operands and out-of-range results are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// MXCSR rules: the first NaN operand wins; an unmasked exception gives no result.
    Sse,
    /// x87 rules: the larger significand wins; unmasked overflow and underflow give a scaled result.
    X87,
}

/// Control bits that an operation obeys and the flags it raises.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Env {
    /// Rounding mode.
    pub(crate) rounding: Rounding,
    /// Exceptions that are masked, as flag bits.
    pub(crate) masked: u32,
    /// Denormal operands count as zeros (SSE).
    pub(crate) daz: bool,
    /// Tiny results become zeros where underflow is masked (SSE).
    pub(crate) ftz: bool,
    /// Which rules.
    pub(crate) family: Family,
    /// Flags raised so far.
    pub(crate) flags: u32,
    /// The last rounding went away from zero (x87 C1).
    pub(crate) rounded_up: bool,
}

impl Env {
    /// Raises flags.
    #[inline(always)]
    pub(crate) fn raise(&mut self, flags: u32) {
        self.flags |= flags;
    }

    /// Raises invalid and gives the default NaN.
    pub(crate) fn invalid(&mut self) -> Value {
        self.raise(IE);
        Value::DEFAULT_NAN
    }
}

/// Precision and exponent range of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    /// Bits of the significand with its leading one.
    pub(crate) precision: u32,
    /// Exponent of the smallest normal number.
    pub(crate) min: i32,
    /// Exponent of the largest number.
    pub(crate) max: i32,
    /// What x87 adds to or takes from the exponent when an unmasked exception scales a result.
    pub(crate) scale: i32,
}

/// `binary32`.
pub(crate) const F32: Format = Format { precision: 24, min: -126, max: 127, scale: 192 };
/// `binary64`.
pub(crate) const F64: Format = Format { precision: 53, min: -1022, max: 1023, scale: 1536 };
/// x87 double extended.
pub(crate) const F80: Format = Format { precision: 64, min: -16382, max: 16383, scale: 24576 };

/// Kinds of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Zero,
    Normal,
    /// Smaller than the normal numbers of the format it came from; `sig` is normalised all the same.
    Denormal,
    Infinity,
    QuietNan,
    SignalingNan,
    /// An 80-bit encoding that no operation accepts.
    Unsupported,
}

/// A number apart from its format: `sig / 2^63 * 2^exp`, the leading one at bit 63. For NaNs `sig` is the
/// significand with its leading bit set, left-aligned.
///
/// A rounded result that is denormal in its format has that format's smallest exponent and a clear bit 63.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) class: Class,
    pub(crate) sign: bool,
    pub(crate) exp: i32,
    pub(crate) sig: u64,
}

impl Value {
    /// x86's answer to an invalid operation: negative, quiet, no payload.
    pub(crate) const DEFAULT_NAN: Value = Value { class: Class::QuietNan, sign: true, exp: 0, sig: 3 << 62 };

    /// A zero.
    pub(crate) const fn zero(sign: bool) -> Value {
        Value { class: Class::Zero, sign, exp: 0, sig: 0 }
    }

    /// An infinity.
    pub(crate) const fn infinity(sign: bool) -> Value {
        Value { class: Class::Infinity, sign, exp: 0, sig: 1 << 63 }
    }

    /// Whether this is a NaN or an encoding treated as one.
    pub(crate) fn is_nan(&self) -> bool {
        matches!(self.class, Class::QuietNan | Class::SignalingNan | Class::Unsupported)
    }

    /// Whether this is zero.
    pub(crate) fn is_zero(&self) -> bool {
        self.class == Class::Zero
    }

    /// Whether this is an infinity.
    pub(crate) fn is_infinity(&self) -> bool {
        self.class == Class::Infinity
    }

    /// Whether this is finite and not zero.
    pub(crate) fn is_number(&self) -> bool {
        matches!(self.class, Class::Normal | Class::Denormal)
    }

    /// The same NaN, quiet.
    pub(crate) fn quieted(self) -> Value {
        Value { class: Class::QuietNan, sig: self.sig | 1 << 62, ..self }
    }

    /// With another sign.
    pub(crate) fn with_sign(self, sign: bool) -> Value {
        Value { sign, ..self }
    }

    /// With the sign turned where `flip`.
    pub(crate) fn flip_sign(self, flip: bool) -> Value {
        Value { sign: self.sign ^ flip, ..self }
    }
}

/// Takes a packed binary number apart.
#[inline(always)]
fn unpack(bits: u64, frac_bits: u32, exp_bits: u32) -> Value {
    let sign = bits >> (frac_bits + exp_bits) & 1 != 0;
    let frac = bits & ((1 << frac_bits) - 1);
    let field = (bits >> frac_bits & ((1 << exp_bits) - 1)) as i32;
    let top = (1 << exp_bits) - 1;
    let bias = top >> 1;
    let aligned = frac << (63 - frac_bits);
    if field == top {
        return match frac {
            0 => Value::infinity(sign),
            _ => nan(sign, aligned | 1 << 63),
        };
    }
    if field != 0 {
        return Value { class: Class::Normal, sign, exp: field - bias, sig: aligned | 1 << 63 };
    }
    if frac == 0 {
        return Value::zero(sign);
    }
    let shift = aligned.leading_zeros();
    Value { class: Class::Denormal, sign, exp: 1 - bias - shift as i32, sig: aligned << shift }
}

/// A NaN with this significand, quiet or signaling by its bit 62.
pub(crate) fn nan(sign: bool, sig: u64) -> Value {
    let class = if sig >> 62 & 1 != 0 { Class::QuietNan } else { Class::SignalingNan };
    Value { class, sign, exp: 0, sig }
}

/// Puts a rounded value together.
#[inline(always)]
fn pack(v: Value, frac_bits: u32, exp_bits: u32) -> u64 {
    let top = (1u64 << exp_bits) - 1;
    let bias = (top >> 1) as i64;
    let frac_mask = (1u64 << frac_bits) - 1;
    let frac = v.sig >> (63 - frac_bits) & frac_mask;
    let field = match v.class {
        Class::Zero => 0,
        Class::Normal | Class::Denormal if v.sig >> 63 == 0 => 0,
        Class::Normal | Class::Denormal => (i64::from(v.exp) + bias) as u64 & top,
        _ => top,
    };
    u64::from(v.sign) << (frac_bits + exp_bits) | field << frac_bits | frac
}

/// From the bits of a `binary32`.
pub(crate) fn unpack32(bits: u32) -> Value {
    unpack(u64::from(bits), 23, 8)
}

/// From the bits of a `binary64`.
pub(crate) fn unpack64(bits: u64) -> Value {
    unpack(bits, 52, 11)
}

/// To the bits of a `binary32`; the value was rounded to it or is a NaN.
pub(crate) fn pack32(v: Value) -> u32 {
    pack(v, 23, 8) as u32
}

/// To the bits of a `binary64`; the value was rounded to it or is a NaN.
pub(crate) fn pack64(v: Value) -> u64 {
    pack(v, 52, 11)
}

/// From an x87 register: sign and exponent, significand.
pub(crate) fn unpack80(se: u16, sig: u64) -> Value {
    let sign = se >> 15 != 0;
    let field = i32::from(se & 0x7fff);
    let integer = sig >> 63 != 0;
    let class = match (field, sig, integer) {
        (0, 0, _) => return Value::zero(sign),
        (0, ..) => {
            let shift = sig.leading_zeros();
            return Value { class: Class::Denormal, sign, exp: -16382 - shift as i32, sig: sig << shift };
        }
        (_, _, false) => Class::Unsupported,
        (0x7fff, 0x8000_0000_0000_0000, _) => return Value::infinity(sign),
        (0x7fff, ..) => return nan(sign, sig),
        _ => Class::Normal,
    };
    Value { class, sign, exp: field - 16383, sig }
}

/// To an x87 register: sign and exponent, significand.
pub(crate) fn pack80(v: Value) -> (u16, u64) {
    let field = match v.class {
        Class::Zero => 0,
        Class::Normal | Class::Denormal if v.sig >> 63 == 0 => 0,
        Class::Normal | Class::Denormal => (v.exp + 16383) as u16 & 0x7fff,
        _ => 0x7fff,
    };
    (u16::from(v.sign) << 15 | field, v.sig)
}

/// Notes denormal operands: with DAZ they become zeros, else they raise `DE`.
pub(crate) fn operand(v: Value, env: &mut Env) -> Value {
    if v.class != Class::Denormal {
        return v;
    }
    if env.daz {
        return Value::zero(v.sign);
    }
    env.raise(DE);
    v
}

/// The NaN that an operation on `a` and `b` gives; one of them is a NaN.
pub(crate) fn propagate(a: &Value, b: &Value, env: &mut Env) -> Value {
    let unsupported = a.class == Class::Unsupported || b.class == Class::Unsupported;
    if unsupported {
        return env.invalid();
    }
    let signaling = |v: &Value| v.class == Class::SignalingNan;
    if signaling(a) || signaling(b) {
        env.raise(IE);
    }
    if env.family == Family::Sse || !(a.is_nan() && b.is_nan()) {
        return if a.is_nan() { a.quieted() } else { b.quieted() };
    }
    match (signaling(a), signaling(b)) {
        (true, false) => *b,
        (false, true) => *a,
        _ => larger_nan(a, b).quieted(),
    }
}

/// Of two NaNs the one with the larger significand, of equals the positive one.
fn larger_nan(a: &Value, b: &Value) -> Value {
    match a.sig.cmp(&b.sig) {
        core::cmp::Ordering::Greater => *a,
        core::cmp::Ordering::Less => *b,
        core::cmp::Ordering::Equal => {
            if a.sign {
                *b
            } else {
                *a
            }
        }
    }
}

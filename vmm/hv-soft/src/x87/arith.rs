//! FADD to FDIVR, square root, remainders, scaling.

use super::{F80, Fpu, sw};
use crate::simd::fp::{self, Env, Value, ZE};

/// The basic operations, as encoded in bits 3–5 of the ModRM byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Basic {
    Add,
    Mul,
    Sub,
    /// Operands exchanged.
    SubR,
    Div,
    /// Operands exchanged.
    DivR,
}

impl Fpu {
    /// ST(dst) = ST(dst) op `other`; `None` is an empty register. Gives whether it was carried through, so that a pop
    /// may follow.
    pub(crate) fn basic(&mut self, op: Basic, dst: usize, other: Option<Value>) -> bool {
        self.clear_c1();
        let (Some(a), Some(b)) = (self.value(dst), other) else {
            return self.deliver_indefinite(dst);
        };
        let (format, mut env) = (self.format(), self.env());
        let result = match op {
            Basic::Add => fp::add(a, b, &format, &mut env),
            Basic::Mul => fp::mul(a, b, &format, &mut env),
            Basic::Sub => fp::sub(a, b, &format, &mut env),
            Basic::SubR => fp::sub(b, a, &format, &mut env),
            Basic::Div => fp::div(a, b, &format, &mut env),
            Basic::DivR => fp::div(b, a, &format, &mut env),
        };
        self.deliver(dst, result, &env)
    }

    /// A stack underflow whose masked answer goes to ST(dst).
    pub(crate) fn deliver_indefinite(&mut self, dst: usize) -> bool {
        let masked = self.underflow();
        if masked {
            self.set_st(dst, F80::INDEFINITE);
        }
        masked
    }

    /// Reports flags and writes a result unless they withhold it.
    pub(crate) fn deliver(&mut self, dst: usize, result: Value, env: &Env) -> bool {
        let withheld = self.report(env, false);
        if !withheld {
            self.set_st(dst, F80::pack(result));
        }
        !withheld
    }

    /// FSQRT.
    pub(crate) fn sqrt(&mut self) {
        self.clear_c1();
        let Some(a) = self.value(0) else {
            self.deliver_indefinite(0);
            return;
        };
        let (format, mut env) = (self.format(), self.env());
        let result = fp::sqrt(a, &format, &mut env);
        self.deliver(0, result, &env);
    }

    /// FRNDINT.
    pub(crate) fn round_to_integer(&mut self) {
        self.clear_c1();
        let Some(a) = self.value(0) else {
            self.deliver_indefinite(0);
            return;
        };
        let mut env = self.env();
        let a = fp::operand(a, &mut env);
        let result = fp::round_to_integral(a, env.rounding, false, &mut env);
        self.deliver(0, result, &env);
    }

    /// FPREM and, with `nearest`, FPREM1.
    pub(crate) fn remainder(&mut self, nearest: bool) {
        self.sw &= !(sw::C1 | sw::C2);
        let (Some(a), Some(b)) = (self.value(0), self.value(1)) else {
            self.deliver_indefinite(0);
            return;
        };
        let mut env = self.env();
        let (result, cc) = remainder_of(a, b, nearest, &mut env);
        if self.deliver(0, result, &env)
            && let Some(cc) = cc
        {
            self.set_cc(cc);
        }
    }

    /// FSCALE.
    pub(crate) fn scale(&mut self) {
        self.clear_c1();
        let (Some(a), Some(b)) = (self.value(0), self.value(1)) else {
            self.deliver_indefinite(0);
            return;
        };
        let mut env = self.env();
        let result = scaled(a, b, &mut env);
        self.deliver(0, result, &env);
    }

    /// FXTRACT.
    pub(crate) fn extract(&mut self) {
        self.clear_c1();
        let a = match (self.value(0), self.is_empty(7)) {
            (Some(a), true) => a,
            (a, _) => {
                let masked = if a.is_none() { self.underflow() } else { self.overflow() };
                if masked {
                    self.set_st(0, F80::INDEFINITE);
                    self.push(F80::INDEFINITE);
                }
                return;
            }
        };
        let mut env = self.env();
        let (exponent, significand) = extracted(a, &mut env);
        if self.deliver(0, exponent, &env) {
            self.push(F80::pack(significand));
        }
    }
}

/// The partial remainder of any two values and its condition codes; `None` where there is no quotient.
fn remainder_of(a: Value, b: Value, nearest: bool, env: &mut Env) -> (Value, Option<u16>) {
    if a.is_nan() || b.is_nan() {
        return (fp::propagate(&a, &b, env), None);
    }
    if a.is_infinity() || b.is_zero() {
        return (env.invalid(), None);
    }
    let (a, b) = (fp::operand(a, env), fp::operand(b, env));
    if a.is_zero() || b.is_infinity() {
        return (fp::narrow(a, &fp::F80, env), Some(0));
    }
    let r = fp::partial_remainder(a, b, nearest);
    let value = fp::narrow(r.value, &fp::F80, env);
    if r.incomplete {
        return (value, Some(sw::C2));
    }
    let bit = |n: u32, cc: u16| if r.quotient >> n & 1 != 0 { cc } else { 0 };
    (value, Some(bit(0, sw::C1) | bit(1, sw::C3) | bit(2, sw::C0)))
}

/// `a` times two to the power of `b` cut to an integer.
fn scaled(a: Value, b: Value, env: &mut Env) -> Value {
    if a.is_nan() || b.is_nan() {
        return fp::propagate(&a, &b, env);
    }
    if b.is_infinity() && (a.is_infinity() && b.sign || a.is_zero() && !b.sign) {
        return env.invalid();
    }
    let (a, b) = (fp::operand(a, env), fp::operand(b, env));
    if b.is_infinity() {
        return if b.sign { Value::zero(a.sign) } else { Value::infinity(a.sign) };
    }
    if !a.is_number() {
        return a;
    }
    let exp = a.exp.saturating_add(small_integer(b));
    fp::narrow(Value { exp, ..a }, &fp::F80, env)
}

/// A finite value cut to an integer and to what an exponent can take.
fn small_integer(v: Value) -> i32 {
    const LIMIT: i32 = 0x1_0000;
    if !v.is_number() || v.exp < 0 {
        return 0;
    }
    let magnitude = if v.exp >= 16 { LIMIT } else { (v.sig >> (63 - v.exp)) as i32 };
    if v.sign { -magnitude } else { magnitude }
}

/// Exponent and significand as numbers.
fn extracted(a: Value, env: &mut Env) -> (Value, Value) {
    if a.is_nan() {
        let nan = fp::propagate(&a, &a, env);
        return (nan, nan);
    }
    if a.is_zero() {
        env.raise(ZE);
        return (Value::infinity(true), a);
    }
    if a.is_infinity() {
        return (Value::infinity(false), a);
    }
    let a = fp::operand(a, env);
    (fp::from_i64(i64::from(a.exp)), Value { exp: 0, class: fp::Class::Normal, ..a })
}

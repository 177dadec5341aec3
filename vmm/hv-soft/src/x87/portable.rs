//! Transcendental instructions in the host's double precision: at most 53 bits where a real unit gives 64, and large
//! angles reduced from a rounded operand; special cases are exact. For hosts that have no x87 unit of their own.

use super::F80;
use super::transcendental::{Answer, Function};
use crate::simd::fp::{self, Class, DE, IE, PE, Value, ZE};

/// The answer to within double precision, rounded to nearest.
pub(crate) fn evaluate(function: Function, x: F80, y: F80, _cw: u16) -> Answer {
    let (x, y) = (x.unpack(), y.unpack());
    let two = matches!(function, Function::ArcTangent | Function::Logarithm | Function::LogarithmOfMore);
    if x.is_nan() || two && y.is_nan() {
        return nan(&x, if two { &y } else { &x });
    }
    let denormal = x.class == Class::Denormal || two && y.class == Class::Denormal;
    let mut answer = match function {
        Function::PowerOfTwoLessOne => one(power_less_one(narrow(&x))),
        Function::Sine => circular(&x, f64::sin, |_| 0.0),
        Function::Cosine => circular(&x, f64::cos, |_| 0.0),
        Function::SineCosine => circular(&x, f64::cos, f64::sin),
        Function::Tangent => circular(&x, |_| 1.0, f64::tan),
        Function::ArcTangent => one(narrow(&y).atan2(narrow(&x))),
        Function::Logarithm => logarithm(&x, &y),
        Function::LogarithmOfMore => product(narrow(&x).ln_1p() / core::f64::consts::LN_2, &y),
    };
    if denormal && answer.flags & (IE | ZE) == 0 {
        answer.flags |= DE;
    }
    answer
}

/// A value in double precision; what is out of its range becomes zero or infinite.
fn narrow(v: &Value) -> f64 {
    let magnitude = match v.class {
        Class::Zero => 0.0,
        Class::Infinity => f64::INFINITY,
        _ => v.sig as f64 * 2f64.powi(v.exp.clamp(-1100, 1100) - 63),
    };
    if v.sign { -magnitude } else { magnitude }
}

/// An inexact result.
fn one(v: f64) -> Answer {
    let exact = v == 0.0 || v.is_infinite();
    Answer { first: wide(v), second: wide(v), flags: if exact { 0 } else { PE }, ..Answer::default() }
}

fn wide(v: f64) -> F80 {
    let v = fp::unpack64(v.to_bits());
    F80::pack(v)
}

fn invalid() -> Answer {
    Answer { first: F80::INDEFINITE, second: F80::INDEFINITE, flags: IE, ..Answer::default() }
}

fn nan(x: &Value, y: &Value) -> Answer {
    let signaling = |v: &Value| v.class != Class::QuietNan && v.is_nan();
    let pick = if x.is_nan() && (!y.is_nan() || x.sig >= y.sig) { x } else { y };
    let unsupported = x.class == Class::Unsupported || y.class == Class::Unsupported;
    let v = if unsupported { Value::DEFAULT_NAN } else { pick.quieted() };
    let flags = if signaling(x) || signaling(y) { IE } else { 0 };
    Answer { first: F80::pack(v), second: F80::pack(v), flags, ..Answer::default() }
}

fn power_less_one(v: f64) -> f64 {
    (v * core::f64::consts::LN_2).exp_m1()
}

/// Below two to this power a sine differs from its operand by less than the last of 64 bits.
const TINY: i32 = -40;

/// An operand as a register holds it, denormal again where it was.
fn rounded(x: &Value) -> Value {
    fp::narrow(*x, &fp::F80, &mut super::Fpu::default().env())
}

/// `first` ends in ST(0), `second` below it.
fn circular(x: &Value, first: fn(f64) -> f64, second: fn(f64) -> f64) -> Answer {
    if x.is_infinity() {
        return invalid();
    }
    if x.exp >= 63 && x.is_number() {
        return Answer { out_of_range: true, ..Answer::default() };
    }
    if x.exp < TINY && x.is_number() {
        // Sine and tangent of a tiny number are the number, the others are one.
        let near = |f: fn(f64) -> f64| if f(1e-12) < 0.5 { F80::pack(rounded(x)) } else { wide(f(0.0)) };
        return Answer { first: near(first), second: near(second), flags: PE, ..Answer::default() };
    }
    let v = narrow(x);
    let flags = if x.is_zero() { 0 } else { PE };
    Answer { first: wide(first(v)), second: wide(second(v)), flags, ..Answer::default() }
}

fn logarithm(x: &Value, y: &Value) -> Answer {
    if x.is_zero() {
        if y.is_zero() {
            return invalid();
        }
        let flags = if y.is_infinity() { 0 } else { ZE };
        return Answer { first: F80::pack(Value::infinity(!y.sign)), flags, ..Answer::default() };
    }
    if x.sign {
        return invalid();
    }
    let log = if x.is_infinity() { f64::INFINITY } else { f64::from(x.exp) + narrow(&Value { exp: 0, ..*x }).log2() };
    product(log, y)
}

/// `log` times `y`, with the range of the wide format.
fn product(log: f64, y: &Value) -> Answer {
    if log.is_nan() || log == 0.0 && y.is_infinity() || log.is_infinite() && y.is_zero() {
        return invalid();
    }
    let mut env = super::Fpu::default().env();
    let v = fp::mul(fp::unpack64(log.to_bits()), *y, &fp::F80, &mut env);
    Answer { first: F80::pack(v), flags: env.flags, rounded_up: env.rounded_up, ..Answer::default() }
}

//! Sines, tangents, logarithms: the stack's side of them.

use super::{F80, Fpu, sw};
use crate::simd::fp::Env;

#[cfg(target_arch = "x86_64")]
use super::native_x86::evaluate;
#[cfg(not(target_arch = "x86_64"))]
use super::portable::evaluate;

/// The instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    /// F2XM1.
    PowerOfTwoLessOne,
    /// FSIN.
    Sine,
    /// FCOS.
    Cosine,
    /// FSINCOS.
    SineCosine,
    /// FPTAN.
    Tangent,
    /// FPATAN.
    ArcTangent,
    /// FYL2X.
    Logarithm,
    /// FYL2XP1.
    LogarithmOfMore,
}

/// What an evaluation gives.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Answer {
    /// ST(0) afterwards.
    pub(crate) first: F80,
    /// ST(1) afterwards, where there are two results.
    pub(crate) second: F80,
    /// Exception flags.
    pub(crate) flags: u32,
    /// C1.
    pub(crate) rounded_up: bool,
    /// C2: the operand is too big, nothing was done.
    pub(crate) out_of_range: bool,
}

impl Fpu {
    /// Any of the transcendental instructions.
    pub(crate) fn transcendental(&mut self, function: Function) {
        self.sw &= !(sw::C1 | sw::C2);
        match function {
            Function::PowerOfTwoLessOne | Function::Sine | Function::Cosine => self.in_place(function),
            Function::SineCosine | Function::Tangent => self.two_results(function),
            Function::ArcTangent | Function::Logarithm | Function::LogarithmOfMore => self.two_operands(function),
        }
    }

    /// Reports an answer's flags; gives whether its results are withheld.
    fn note(&mut self, a: &Answer) -> bool {
        if a.out_of_range {
            self.sw |= sw::C2;
            return true;
        }
        let env = Env { flags: a.flags, rounded_up: a.rounded_up, ..self.env() };
        self.report(&env, false)
    }

    fn in_place(&mut self, function: Function) {
        if self.is_empty(0) {
            self.deliver_indefinite(0);
            return;
        }
        let a = evaluate(function, self.st(0), F80::default(), self.cw);
        if !self.note(&a) {
            self.set_st(0, a.first);
        }
    }

    fn two_results(&mut self, function: Function) {
        if self.is_empty(0) || !self.is_empty(7) {
            let masked = if self.is_empty(0) { self.underflow() } else { self.overflow() };
            if masked {
                self.set_st(0, F80::INDEFINITE);
                self.push(F80::INDEFINITE);
            }
            return;
        }
        let a = evaluate(function, self.st(0), F80::default(), self.cw);
        if !self.note(&a) {
            self.set_st(0, a.second);
            self.push(a.first);
        }
    }

    fn two_operands(&mut self, function: Function) {
        if self.is_empty(0) || self.is_empty(1) {
            if self.deliver_indefinite(1) {
                self.pop();
            }
            return;
        }
        let a = evaluate(function, self.st(0), self.st(1), self.cw);
        if !self.note(&a) {
            self.set_st(1, a.first);
            self.pop();
        }
    }
}

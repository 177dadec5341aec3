//! Comparisons, FXAM, FTST, conditional moves.

use core::cmp::Ordering;

use super::{F80, Fpu, sw};
use crate::simd::fp::{self, Class, Value};

/// Condition codes for an order.
fn codes(order: Option<Ordering>) -> u16 {
    match order {
        Some(Ordering::Greater) => 0,
        Some(Ordering::Less) => sw::C0,
        Some(Ordering::Equal) => sw::C3,
        None => sw::C0 | sw::C2 | sw::C3,
    }
}

impl Fpu {
    /// FCOM and, with `quiet`, FUCOM of ST(0) with `other`, then `pops` pops.
    pub(crate) fn compare(&mut self, other: Option<Value>, quiet: bool, pops: u8) {
        self.clear_c1();
        let (order, through) = self.order(other, quiet);
        self.set_cc(codes(order));
        if through {
            self.pops(pops);
        }
    }

    /// FCOMI and, with `quiet`, FUCOMI: ZF, PF and CF.
    pub(crate) fn compare_flags(&mut self, other: Option<Value>, quiet: bool, pops: u8) -> (bool, bool, bool) {
        let (order, through) = self.order(other, quiet);
        if through {
            self.pops(pops);
        }
        match order {
            None => (true, true, true),
            Some(o) => (o.is_eq(), false, o.is_lt()),
        }
    }

    /// The order of ST(0) and `other`, and whether pops may follow.
    fn order(&mut self, other: Option<Value>, quiet: bool) -> (Option<Ordering>, bool) {
        let (Some(a), Some(b)) = (self.value(0), other) else {
            return (None, self.underflow());
        };
        let mut env = self.env();
        let order = fp::compare(a, b, !quiet, &mut env);
        let withheld = self.report(&env, false);
        (order, !withheld)
    }

    /// FXAM.
    pub(crate) fn examine(&mut self) {
        let v = self.st(0).unpack();
        let class = match v.class {
            _ if self.is_empty(0) => sw::C3 | sw::C0,
            Class::Unsupported => 0,
            Class::QuietNan | Class::SignalingNan => sw::C0,
            Class::Normal => sw::C2,
            Class::Infinity => sw::C2 | sw::C0,
            Class::Zero => sw::C3,
            Class::Denormal => sw::C3 | sw::C2,
        };
        self.set_cc(class | if v.sign { sw::C1 } else { 0 });
    }

    /// FCMOVcc: ST(i) to ST(0) where `condition`.
    pub(crate) fn conditional_move(&mut self, i: usize, condition: bool) {
        if self.is_empty(0) || self.is_empty(i) {
            self.deliver_indefinite(0);
        } else if condition {
            self.set_st(0, self.st(i));
        }
    }

    /// FXCH.
    pub(crate) fn exchange(&mut self, i: usize) {
        self.clear_c1();
        if (self.is_empty(0) || self.is_empty(i)) && !self.underflow() {
            return;
        }
        let read = |f: &Fpu, i| if f.is_empty(i) { F80::INDEFINITE } else { f.st(i) };
        let (a, b) = (read(self, 0), read(self, i));
        self.set_st(0, b);
        self.set_st(i, a);
    }

    /// FCHS, FABS: replaces the sign bit by `sign(old)`.
    pub(crate) fn set_sign(&mut self, sign: fn(bool) -> bool) {
        self.clear_c1();
        if self.is_empty(0) {
            self.deliver_indefinite(0);
            return;
        }
        let mut v = self.st(0);
        v.se = v.se & 0x7fff | u16::from(sign(v.se >> 15 != 0)) << 15;
        self.set_st(0, v);
    }
}

//! Loads and stores.

use super::{F80, Fpu};
use crate::simd::fp::{self, IE, Rounding, Value};

impl Fpu {
    /// Pushes bits as they are (FLD m80, FLD1 …).
    pub(crate) fn load(&mut self, v: F80) {
        self.clear_c1();
        if self.is_empty(7) {
            self.push(v);
        } else if self.overflow() {
            self.push(F80::INDEFINITE);
        }
    }

    /// FLD ST(i).
    pub(crate) fn load_st(&mut self, i: usize) {
        self.clear_c1();
        if self.is_empty(i) {
            if self.underflow() {
                self.push(F80::INDEFINITE);
            }
            return;
        }
        self.load(self.st(i));
    }

    /// FLD m32 and m64: a value of a shorter format.
    pub(crate) fn load_short(&mut self, v: Value) {
        self.clear_c1();
        if !self.is_empty(7) {
            self.load(F80::INDEFINITE);
            return;
        }
        let mut env = self.env();
        let v = if v.is_nan() {
            fp::propagate(&v, &v, &mut env)
        } else {
            let v = fp::operand(v, &mut env);
            fp::narrow(v, &fp::F80, &mut env)
        };
        // A denormal is loaded even where that exception is unmasked; it is exact.
        if !self.report(&env, false) || env.flags & IE == 0 {
            self.push(F80::pack(v));
        }
    }

    /// FST ST(i), FSTP ST(i). Gives whether a pop may follow.
    pub(crate) fn store_st(&mut self, i: usize) -> bool {
        self.clear_c1();
        if self.is_empty(0) {
            return self.deliver_indefinite(i);
        }
        self.set_st(i, self.st(0));
        true
    }

    /// FSTPNCE: as FSTP ST(i), but an empty ST(0) raises nothing and is not copied.
    pub(crate) fn store_unchecked(&mut self, i: usize) {
        self.clear_c1();
        if !self.is_empty(0) {
            self.set_st(i, self.st(0));
        }
        self.pop();
    }

    /// FST m32 and m64: ST(0) in a shorter format, `None` where nothing is to be stored.
    pub(crate) fn store_short(&mut self, format: &fp::Format) -> Option<Value> {
        self.clear_c1();
        let Some(v) = self.value(0) else {
            return self.underflow().then_some(Value::DEFAULT_NAN);
        };
        let mut env = self.env();
        let v = if v.is_nan() { fp::propagate(&v, &v, &mut env) } else { fp::narrow(v, format, &mut env) };
        if self.report(&env, true) { None } else { Some(v) }
    }

    /// FSTP m80: ST(0) as it is.
    pub(crate) fn store_whole(&mut self) -> Option<F80> {
        self.clear_c1();
        if self.is_empty(0) {
            return self.underflow().then_some(F80::INDEFINITE);
        }
        Some(self.st(0))
    }

    /// FIST, FISTP, FISTTP: ST(0) as an integer of `bits` bits.
    pub(crate) fn store_int(&mut self, bits: u32, truncate: bool) -> Option<i64> {
        self.clear_c1();
        let Some(v) = self.value(0) else {
            return self.underflow().then_some(i64::MIN >> (64 - bits));
        };
        let mut env = self.env();
        let rounding = if truncate { Rounding::Zero } else { env.rounding };
        let i = fp::to_int(v, bits, rounding, &mut env);
        if self.report(&env, true) { None } else { Some(i) }
    }
}

//! Loads and stores.

use super::{F80, Fpu};
use crate::simd::fp::{self, Rounding, Value};

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
        match (self.is_empty(7), self.is_empty(i)) {
            (true, false) => self.push(self.st(i)),
            (true, true) => {
                if self.underflow() {
                    self.push(F80::INDEFINITE);
                }
            }
            (false, _) => {
                if self.overflow() {
                    self.push(F80::INDEFINITE);
                }
            }
        }
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
        if !self.report(&env, false) {
            self.push(F80::pack(v));
        }
    }

    /// FILD.
    pub(crate) fn load_int(&mut self, i: i64) {
        self.load(F80::pack(fp::from_i64(i)));
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

//! Packed decimal: FBLD and FBSTP.

use super::Fpu;
use crate::simd::fp::{self, IE};

/// What an invalid FBSTP stores.
const INDEFINITE: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff];
/// The largest magnitude of eighteen digits.
const MAX: u64 = 999_999_999_999_999_999;

impl Fpu {
    /// FBLD: eighteen digits, two in a byte, and the sign in the last byte.
    pub(crate) fn load_bcd(&mut self, b: [u8; 10]) {
        let digits = |x: u8| u64::from(x >> 4) * 10 + u64::from(x & 15);
        let magnitude = b[..9].iter().rev().fold(0u64, |n, &x| n.wrapping_mul(100).wrapping_add(digits(x)));
        let v = fp::from_i64(magnitude as i64);
        self.load(super::F80::pack(v.with_sign(b[9] >> 7 != 0)));
    }

    /// FBSTP: the ten bytes, `None` where nothing is to be stored.
    pub(crate) fn store_bcd(&mut self) -> Option<[u8; 10]> {
        self.clear_c1();
        let Some(v) = self.value(0) else {
            return self.underflow().then_some(INDEFINITE);
        };
        let mut env = self.env();
        let i = fp::to_int(v, 64, env.rounding, &mut env);
        if i.unsigned_abs() > MAX {
            env.flags = IE;
        }
        if self.report(&env, true) {
            return None;
        }
        Some(if env.flags & IE != 0 { INDEFINITE } else { decimal(i.unsigned_abs(), v.sign) })
    }
}

/// Eighteen digits and a sign.
fn decimal(mut magnitude: u64, sign: bool) -> [u8; 10] {
    let mut b = [0; 10];
    for x in &mut b[..9] {
        let two = (magnitude % 100) as u8;
        *x = (two / 10) << 4 | (two % 10);
        magnitude /= 100;
    }
    b[9] = u8::from(sign) << 7;
    b
}

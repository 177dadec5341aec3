//! Packed shifts. The count is a whole 64-bit number; lanes are cleared, or filled with the sign, when it is too big.

use super::lanes::*;

macro_rules! shifts {
    ($($name:ident: $split:ident, $join:ident, $bits:literal, |$a:ident, $n:ident| $e:expr, $over:expr;)*) => {$(
        #[doc = concat!("`", stringify!($name), "`: each lane of `a` by `count`.")]
        #[inline]
        pub(crate) fn $name(a: u128, count: u64) -> u128 {
            let x = $split(a);
            if count >= $bits {
                return $join(x.map(|v| ($over)(v)));
            }
            let $n = count as u32;
            $join(x.map(|$a| $e))
        }
    )*};
}

shifts! {
    psllw: u16s, from_u16s, 16, |a, n| a << n, |_| 0u16;
    pslld: u32s, from_u32s, 32, |a, n| a << n, |_| 0u32;
    psllq: u64s, from_u64s, 64, |a, n| a << n, |_| 0u64;
    psrlw: u16s, from_u16s, 16, |a, n| a >> n, |_| 0u16;
    psrld: u32s, from_u32s, 32, |a, n| a >> n, |_| 0u32;
    psrlq: u64s, from_u64s, 64, |a, n| a >> n, |_| 0u64;
    psraw: i16s, from_i16s, 16, |a, n| a >> n, |v: i16| v >> 15;
    psrad: i32s, from_i32s, 32, |a, n| a >> n, |v: i32| v >> 31;
}

/// The whole register left by bytes.
#[inline]
pub(crate) fn pslldq(a: u128, bytes: u64) -> u128 {
    if bytes > 15 { 0 } else { a << (8 * bytes) }
}

/// The whole register right by bytes.
#[inline]
pub(crate) fn psrldq(a: u128, bytes: u64) -> u128 {
    if bytes > 15 { 0 } else { a >> (8 * bytes) }
}

//! Packed integer arithmetic and comparison.
//!
//! Every function works on 128 bits. Those that treat lanes alone serve MMX too, on operands that are zero above bit 63
//! (the caller drops what is above it); the few where the width matters have a twin that ends in `_mmx`.

use super::lanes::*;

macro_rules! lanewise {
    ($($name:ident: $split:ident, $join:ident, |$a:ident, $b:ident| $e:expr;)*) => {$(
        #[doc = concat!("`", stringify!($name), "` of `b` onto `a`.")]
        #[inline]
        pub(crate) fn $name(a: u128, b: u128) -> u128 {
            let (x, y) = ($split(a), $split(b));
            $join(core::array::from_fn(|i| { let ($a, $b) = (x[i], y[i]); $e }))
        }
    )*};
}

lanewise! {
    paddb: u8s, from_u8s, |a, b| a.wrapping_add(b);
    paddw: u16s, from_u16s, |a, b| a.wrapping_add(b);
    paddd: u32s, from_u32s, |a, b| a.wrapping_add(b);
    paddq: u64s, from_u64s, |a, b| a.wrapping_add(b);
    psubb: u8s, from_u8s, |a, b| a.wrapping_sub(b);
    psubw: u16s, from_u16s, |a, b| a.wrapping_sub(b);
    psubd: u32s, from_u32s, |a, b| a.wrapping_sub(b);
    psubq: u64s, from_u64s, |a, b| a.wrapping_sub(b);
    paddsb: i8s, from_i8s, |a, b| a.saturating_add(b);
    paddsw: i16s, from_i16s, |a, b| a.saturating_add(b);
    paddusb: u8s, from_u8s, |a, b| a.saturating_add(b);
    paddusw: u16s, from_u16s, |a, b| a.saturating_add(b);
    psubsb: i8s, from_i8s, |a, b| a.saturating_sub(b);
    psubsw: i16s, from_i16s, |a, b| a.saturating_sub(b);
    psubusb: u8s, from_u8s, |a, b| a.saturating_sub(b);
    psubusw: u16s, from_u16s, |a, b| a.saturating_sub(b);
    pcmpeqb: u8s, from_u8s, |a, b| if a == b { 0xff } else { 0 };
    pcmpeqw: u16s, from_u16s, |a, b| if a == b { 0xffff } else { 0 };
    pcmpeqd: u32s, from_u32s, |a, b| if a == b { u32::MAX } else { 0 };
    pcmpeqq: u64s, from_u64s, |a, b| if a == b { u64::MAX } else { 0 };
    pcmpgtb: i8s, from_i8s, |a, b| if a > b { -1 } else { 0 };
    pcmpgtw: i16s, from_i16s, |a, b| if a > b { -1 } else { 0 };
    pcmpgtd: i32s, from_i32s, |a, b| if a > b { -1 } else { 0 };
    pcmpgtq: i64s, from_i64s, |a, b| if a > b { -1 } else { 0 };
    pminub: u8s, from_u8s, |a, b| a.min(b);
    pminuw: u16s, from_u16s, |a, b| a.min(b);
    pminud: u32s, from_u32s, |a, b| a.min(b);
    pminsb: i8s, from_i8s, |a, b| a.min(b);
    pminsw: i16s, from_i16s, |a, b| a.min(b);
    pminsd: i32s, from_i32s, |a, b| a.min(b);
    pmaxub: u8s, from_u8s, |a, b| a.max(b);
    pmaxuw: u16s, from_u16s, |a, b| a.max(b);
    pmaxud: u32s, from_u32s, |a, b| a.max(b);
    pmaxsb: i8s, from_i8s, |a, b| a.max(b);
    pmaxsw: i16s, from_i16s, |a, b| a.max(b);
    pmaxsd: i32s, from_i32s, |a, b| a.max(b);
    pavgb: u8s, from_u8s, |a, b| ((u16::from(a) + u16::from(b) + 1) >> 1) as u8;
    pavgw: u16s, from_u16s, |a, b| ((u32::from(a) + u32::from(b) + 1) >> 1) as u16;
    pmullw: u16s, from_u16s, |a, b| a.wrapping_mul(b);
    pmulld: u32s, from_u32s, |a, b| a.wrapping_mul(b);
    pmulhw: i16s, from_i16s, |a, b| ((i32::from(a) * i32::from(b)) >> 16) as i16;
    pmulhuw: u16s, from_u16s, |a, b| ((u32::from(a) * u32::from(b)) >> 16) as u16;
    pmulhrsw: i16s, from_i16s, |a, b| ((((i32::from(a) * i32::from(b)) >> 14) + 1) >> 1) as i16;
    pmuludq: u64s, from_u64s, |a, b| (a & 0xffff_ffff) * (b & 0xffff_ffff);
    pmuldq: i64s, from_i64s, |a, b| i64::from(a as i32) * i64::from(b as i32);
    psignb: i8s, from_i8s, |a, b| sign_by(a, b);
    psignw: i16s, from_i16s, |a, b| sign_by(a, b);
    psignd: i32s, from_i32s, |a, b| sign_by(a, b);
    pabsb: i8s, from_u8s, |_a, b| b.unsigned_abs();
    pabsw: i16s, from_u16s, |_a, b| b.unsigned_abs();
    pabsd: i32s, from_u32s, |_a, b| b.unsigned_abs();
}

/// The signed lanes that the `psign` family negates.
trait SignLane: Copy + Ord + Default {
    fn negated(self) -> Self;
}

macro_rules! sign_lane {
    ($($t:ty)*) => {$(impl SignLane for $t {
        #[inline(always)]
        fn negated(self) -> Self {
            self.wrapping_neg()
        }
    })*};
}
sign_lane!(i8 i16 i32);

/// `a` with the sign of `b` applied: negated, zeroed or kept.
#[inline(always)]
fn sign_by<T: SignLane>(a: T, b: T) -> T {
    match b.cmp(&T::default()) {
        core::cmp::Ordering::Less => a.negated(),
        core::cmp::Ordering::Equal => T::default(),
        core::cmp::Ordering::Greater => a,
    }
}

/// Bitwise AND.
#[inline]
pub(crate) fn pand(a: u128, b: u128) -> u128 {
    a & b
}

/// Bitwise AND of `b` with the complement of `a`.
#[inline]
pub(crate) fn pandn(a: u128, b: u128) -> u128 {
    !a & b
}

/// Bitwise OR.
#[inline]
pub(crate) fn por(a: u128, b: u128) -> u128 {
    a | b
}

/// Bitwise exclusive OR.
#[inline]
pub(crate) fn pxor(a: u128, b: u128) -> u128 {
    a ^ b
}

/// Signed words multiplied and added in pairs into double words.
#[inline]
pub(crate) fn pmaddwd(a: u128, b: u128) -> u128 {
    let (x, y) = (i16s(a), i16s(b));
    let mul = |i: usize| i32::from(x[i]) * i32::from(y[i]);
    from_i32s(core::array::from_fn(|i| mul(2 * i).wrapping_add(mul(2 * i + 1))))
}

/// Unsigned bytes of `a` times signed bytes of `b`, added in pairs with saturation.
#[inline]
pub(crate) fn pmaddubsw(a: u128, b: u128) -> u128 {
    let (x, y) = (u8s(a), i8s(b));
    let mul = |i: usize| i32::from(x[i]) * i32::from(y[i]);
    from_i16s(core::array::from_fn(|i| saturate_i16(mul(2 * i) + mul(2 * i + 1))))
}

/// Sums of absolute byte differences, one for each half.
#[inline]
pub(crate) fn psadbw(a: u128, b: u128) -> u128 {
    let (x, y) = (u8s(a), u8s(b));
    let sum = |h: usize| (8 * h..8 * h + 8).map(|i| u64::from(x[i].abs_diff(y[i]))).sum();
    from_u64s([sum(0), sum(1)])
}

/// Clamps to a signed word.
#[inline(always)]
pub(crate) fn saturate_i16(v: i32) -> i16 {
    v.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16
}

macro_rules! horizontal {
    ($($name:ident, $mmx:ident: $split:ident, $join:ident, $n:literal, |$a:ident, $b:ident| $e:expr;)*) => {$(
        #[doc = concat!("`", stringify!($name), "`: neighbours of `a` in the low half, of `b` in the high half.")]
        #[inline]
        pub(crate) fn $name(a: u128, b: u128) -> u128 {
            let (x, y) = ($split(a), $split(b));
            $join(core::array::from_fn(|i| {
                let (s, k) = if i < $n / 2 { (&x, i) } else { (&y, i - $n / 2) };
                let ($a, $b) = (s[2 * k], s[2 * k + 1]);
                $e
            }))
        }

        #[doc = concat!("`", stringify!($name), "` on 64-bit registers.")]
        #[inline]
        pub(crate) fn $mmx(a: u128, b: u128) -> u128 {
            $name(pair(lo(a), lo(b)), 0)
        }
    )*};
}

horizontal! {
    phaddw, phaddw_mmx: i16s, from_i16s, 8, |a, b| a.wrapping_add(b);
    phaddd, phaddd_mmx: i32s, from_i32s, 4, |a, b| a.wrapping_add(b);
    phaddsw, phaddsw_mmx: i16s, from_i16s, 8, |a, b| a.saturating_add(b);
    phsubw, phsubw_mmx: i16s, from_i16s, 8, |a, b| a.wrapping_sub(b);
    phsubd, phsubd_mmx: i32s, from_i32s, 4, |a, b| a.wrapping_sub(b);
    phsubsw, phsubsw_mmx: i16s, from_i16s, 8, |a, b| a.saturating_sub(b);
}

/// Eight sums of four absolute byte differences; `imm` chooses the blocks.
pub(crate) fn mpsadbw(a: u128, b: u128, imm: u8) -> u128 {
    let (x, y) = (u8s(a), u8s(b));
    let from_a = usize::from(imm >> 2 & 1) * 4;
    let from_b = usize::from(imm & 3) * 4;
    from_u16s(core::array::from_fn(|i| (0..4).map(|k| u16::from(x[from_a + i + k].abs_diff(y[from_b + k]))).sum()))
}

/// The smallest unsigned word of `b` and, above it, its position.
pub(crate) fn phminposuw(_a: u128, b: u128) -> u128 {
    let words = u16s(b);
    let mut best = 0;
    for i in 1..8 {
        if words[i] < words[best] {
            best = i;
        }
    }
    u128::from(words[best]) | (best as u128) << 16
}

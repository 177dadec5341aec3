//! Moves of lanes within and between registers: shuffles, unpacks, packs, blends, extensions, masks.

use super::int::saturate_i16;
use super::lanes::*;

/// Bytes of `a` chosen by the bytes of `b`; a byte with bit 7 set gives zero.
#[inline]
pub(crate) fn pshufb(a: u128, b: u128) -> u128 {
    let (x, y) = (u8s(a), u8s(b));
    from_u8s(y.map(|s| if s & 0x80 != 0 { 0 } else { x[usize::from(s & 15)] }))
}

/// `pshufb` on 64-bit registers.
#[inline]
pub(crate) fn pshufb_mmx(a: u128, b: u128) -> u128 {
    let (x, y) = (u8s(a), u8s(b));
    from_u8s(y.map(|s| if s & 0x80 != 0 { 0 } else { x[usize::from(s & 7)] }))
}

/// Two bits of `imm` for lane `i`.
#[inline(always)]
fn sel4(imm: u8, i: usize) -> usize {
    usize::from(imm >> (2 * i) & 3)
}

/// Double words of `b` chosen by `imm`.
#[inline]
pub(crate) fn pshufd(_a: u128, b: u128, imm: u8) -> u128 {
    let y = u32s(b);
    from_u32s(core::array::from_fn(|i| y[sel4(imm, i)]))
}

/// Words of the low half of `b` chosen by `imm`, the high half copied.
#[inline]
pub(crate) fn pshuflw(_a: u128, b: u128, imm: u8) -> u128 {
    let y = u16s(b);
    from_u16s(core::array::from_fn(|i| if i < 4 { y[sel4(imm, i)] } else { y[i] }))
}

/// Words of the high half of `b` chosen by `imm`, the low half copied.
#[inline]
pub(crate) fn pshufhw(_a: u128, b: u128, imm: u8) -> u128 {
    let y = u16s(b);
    from_u16s(core::array::from_fn(|i| if i < 4 { y[i] } else { y[4 + sel4(imm, i - 4)] }))
}

/// Two single-precision lanes of `a`, then two of `b`.
#[inline]
pub(crate) fn shufps(a: u128, b: u128, imm: u8) -> u128 {
    let (x, y) = (u32s(a), u32s(b));
    from_u32s([x[sel4(imm, 0)], x[sel4(imm, 1)], y[sel4(imm, 2)], y[sel4(imm, 3)]])
}

/// One double-precision lane of `a`, then one of `b`.
#[inline]
pub(crate) fn shufpd(a: u128, b: u128, imm: u8) -> u128 {
    pair(if imm & 1 != 0 { hi(a) } else { lo(a) }, if imm & 2 != 0 { hi(b) } else { lo(b) })
}

macro_rules! unpacks {
    ($($low:ident, $high:ident: $split:ident, $join:ident, $n:literal;)*) => {$(
        #[doc = concat!("`", stringify!($low), "`: the low lanes of both, interleaved.")]
        #[inline]
        pub(crate) fn $low(a: u128, b: u128) -> u128 {
            let (x, y) = ($split(a), $split(b));
            $join(core::array::from_fn(|i| if i % 2 == 0 { x[i / 2] } else { y[i / 2] }))
        }

        #[doc = concat!("`", stringify!($high), "`: the high lanes of both, interleaved.")]
        #[inline]
        pub(crate) fn $high(a: u128, b: u128) -> u128 {
            let (x, y) = ($split(a), $split(b));
            $join(core::array::from_fn(|i| if i % 2 == 0 { x[$n / 2 + i / 2] } else { y[$n / 2 + i / 2] }))
        }
    )*};
}

unpacks! {
    punpcklbw, punpckhbw: u8s, from_u8s, 16;
    punpcklwd, punpckhwd: u16s, from_u16s, 8;
    punpckldq, punpckhdq: u32s, from_u32s, 4;
    punpcklqdq, punpckhqdq: u64s, from_u64s, 2;
}

macro_rules! unpacks_high_mmx {
    ($($name:ident: $low:ident;)*) => {$(
        #[doc = concat!("`", stringify!($name), "` on 64-bit registers: the upper half of what the low form gives.")]
        #[inline]
        pub(crate) fn $name(a: u128, b: u128) -> u128 {
            $low(a, b) >> 64
        }
    )*};
}

unpacks_high_mmx! {
    punpckhbw_mmx: punpcklbw;
    punpckhwd_mmx: punpcklwd;
    punpckhdq_mmx: punpckldq;
}

macro_rules! packs {
    ($($name:ident, $mmx:ident: $split:ident, $join:ident, $half:literal, |$v:ident| $e:expr;)*) => {$(
        #[doc = concat!("`", stringify!($name), "`: both registers narrowed with saturation, `a` low.")]
        #[inline]
        pub(crate) fn $name(a: u128, b: u128) -> u128 {
            let (x, y) = ($split(a), $split(b));
            $join(core::array::from_fn(|i| {
                let $v = if i < $half { x[i] } else { y[i - $half] };
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

packs! {
    packsswb, packsswb_mmx: i16s, from_i8s, 8, |v| v.clamp(-128, 127) as i8;
    packuswb, packuswb_mmx: i16s, from_u8s, 8, |v| v.clamp(0, 255) as u8;
    packssdw, packssdw_mmx: i32s, from_i16s, 4, |v| saturate_i16(v);
}

/// `packusdw`: double words of both registers narrowed to words with unsigned saturation.
#[inline]
pub(crate) fn packusdw(a: u128, b: u128) -> u128 {
    let (x, y) = (i32s(a), i32s(b));
    from_u16s(core::array::from_fn(|i| (if i < 4 { x[i] } else { y[i - 4] }).clamp(0, 65535) as u16))
}

/// `a` above `b`, shifted right by bytes, the low 128 bits.
#[inline]
pub(crate) fn palignr(a: u128, b: u128, imm: u8) -> u128 {
    match u32::from(imm) {
        0 => b,
        n @ 1..=15 => b >> (8 * n) | a << (128 - 8 * n),
        n @ 16..=31 => a >> (8 * (n - 16)),
        _ => 0,
    }
}

/// `palignr` on 64-bit registers.
#[inline]
pub(crate) fn palignr_mmx(a: u128, b: u128, imm: u8) -> u128 {
    if imm > 15 { 0 } else { pair(lo(b), lo(a)) >> (8 * u32::from(imm)) }
}

/// Words from `b` where `imm` has a bit, else from `a`.
#[inline]
pub(crate) fn pblendw(a: u128, b: u128, imm: u8) -> u128 {
    let (x, y) = (u16s(a), u16s(b));
    from_u16s(core::array::from_fn(|i| if imm >> i & 1 != 0 { y[i] } else { x[i] }))
}

/// Single-precision lanes from `b` where `imm` has a bit.
#[inline]
pub(crate) fn blendps(a: u128, b: u128, imm: u8) -> u128 {
    let (x, y) = (u32s(a), u32s(b));
    from_u32s(core::array::from_fn(|i| if imm >> i & 1 != 0 { y[i] } else { x[i] }))
}

/// Double-precision lanes from `b` where `imm` has a bit.
#[inline]
pub(crate) fn blendpd(a: u128, b: u128, imm: u8) -> u128 {
    let (x, y) = (u64s(a), u64s(b));
    from_u64s(core::array::from_fn(|i| if imm >> i & 1 != 0 { y[i] } else { x[i] }))
}

/// Bytes from `b` where `mask` has its top bit, else from `a`.
#[inline]
pub(crate) fn pblendvb(a: u128, b: u128, mask: u128) -> u128 {
    let (x, y, m) = (u8s(a), u8s(b), u8s(mask));
    from_u8s(core::array::from_fn(|i| if m[i] & 0x80 != 0 { y[i] } else { x[i] }))
}

/// Single-precision lanes from `b` where `mask` has its top bit.
#[inline]
pub(crate) fn blendvps(a: u128, b: u128, mask: u128) -> u128 {
    let (x, y, m) = (u32s(a), u32s(b), i32s(mask));
    from_u32s(core::array::from_fn(|i| if m[i] < 0 { y[i] } else { x[i] }))
}

/// Double-precision lanes from `b` where `mask` has its top bit.
#[inline]
pub(crate) fn blendvpd(a: u128, b: u128, mask: u128) -> u128 {
    let (x, y, m) = (u64s(a), u64s(b), i64s(mask));
    from_u64s(core::array::from_fn(|i| if m[i] < 0 { y[i] } else { x[i] }))
}

macro_rules! extends {
    ($($name:ident: $split:ident, $join:ident, $to:ty;)*) => {$(
        #[doc = concat!("`", stringify!($name), "`: the low lanes of `b` widened.")]
        #[inline]
        pub(crate) fn $name(_a: u128, b: u128) -> u128 {
            let y = $split(b);
            $join(core::array::from_fn(|i| <$to>::from(y[i])))
        }
    )*};
}

extends! {
    pmovsxbw: i8s, from_i16s, i16;
    pmovsxbd: i8s, from_i32s, i32;
    pmovsxbq: i8s, from_i64s, i64;
    pmovsxwd: i16s, from_i32s, i32;
    pmovsxwq: i16s, from_i64s, i64;
    pmovsxdq: i32s, from_i64s, i64;
    pmovzxbw: u8s, from_u16s, u16;
    pmovzxbd: u8s, from_u32s, u32;
    pmovzxbq: u8s, from_u64s, u64;
    pmovzxwd: u16s, from_u32s, u32;
    pmovzxwq: u16s, from_u64s, u64;
    pmovzxdq: u32s, from_u64s, u64;
}

/// Top bit of each byte.
#[inline]
pub(crate) fn pmovmskb(a: u128) -> u32 {
    // The multiplication gathers bit 7 of each byte at the top byte; the partial products do not meet.
    let gather = |half: u64| ((half & 0x8080_8080_8080_8080) >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    (gather(lo(a)) | gather(hi(a)) << 8) as u32
}

/// Top bit of each single-precision lane.
#[inline]
pub(crate) fn movmskps(a: u128) -> u32 {
    u32s(a).iter().enumerate().fold(0, |m, (i, v)| m | (v >> 31) << i)
}

/// Top bit of each double-precision lane.
#[inline]
pub(crate) fn movmskpd(a: u128) -> u32 {
    (lo(a) >> 63 | hi(a) >> 63 << 1) as u32
}

/// `a` with lane `index` of `8 * size` bits replaced by the low bits of `value`.
#[inline]
pub(crate) fn insert(a: u128, value: u64, index: u32, size: u32) -> u128 {
    let shift = index * size * 8 % 128;
    let mask = (u128::MAX >> (128 - 8 * size)) << shift;
    a & !mask | u128::from(value) << shift & mask
}

/// Lane `index` of `8 * size` bits, zero-extended.
#[inline]
pub(crate) fn extract(a: u128, index: u32, size: u32) -> u64 {
    ((a >> (index * size * 8 % 128)) & (u128::MAX >> (128 - 8 * size))) as u64
}

/// Inserts the single-precision `value` at the lane in `imm` bits 4–5 and zeroes the lanes in bits 0–3.
#[inline]
pub(crate) fn insertps(a: u128, value: u32, imm: u8) -> u128 {
    let mut x = u32s(a);
    x[usize::from(imm >> 4 & 3)] = value;
    from_u32s(core::array::from_fn(|i| if imm >> i & 1 != 0 { 0 } else { x[i] }))
}

/// `movsldup`: even lanes doubled.
#[inline]
pub(crate) fn movsldup(_a: u128, b: u128) -> u128 {
    let y = u32s(b);
    from_u32s([y[0], y[0], y[2], y[2]])
}

/// `movshdup`: odd lanes doubled.
#[inline]
pub(crate) fn movshdup(_a: u128, b: u128) -> u128 {
    let y = u32s(b);
    from_u32s([y[1], y[1], y[3], y[3]])
}

/// `movddup`: the low half doubled.
#[inline]
pub(crate) fn movddup(_a: u128, b: u128) -> u128 {
    pair(lo(b), lo(b))
}

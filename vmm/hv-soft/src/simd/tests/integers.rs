//! Integer arithmetic, shifts and shuffles.

use super::super::{int, shift, shuffle};
use super::{Random, host, host_mmx};

const ROUNDS: usize = 400;

macro_rules! check {
    ($r:ident: $($module:ident::$name:ident)*) => {$(
        for _ in 0..ROUNDS {
            let (a, b) = ($r.bytes(), $r.bytes());
            let (got, want) = ($module::$name(a, b), host!(stringify!($name), a, b));
            assert_eq!(got, want, "{} {a:032x} {b:032x}: {got:032x} {want:032x}", stringify!($name));
        }
    )*};
}

macro_rules! check_mmx {
    ($r:ident: $($op:literal $module:ident::$name:ident)*) => {$(
        for _ in 0..ROUNDS {
            let (a, b) = ($r.bytes() as u64, $r.bytes() as u64);
            let got = $module::$name(u128::from(a), u128::from(b)) as u64;
            assert_eq!(got, host_mmx!($op, a, b), "{} {a:016x} {b:016x}", $op);
        }
    )*};
}

macro_rules! check_imm {
    ($r:ident: $($module:ident::$name:ident)*) => {$({
        fn all<const I: usize>(r: &mut Random) {
            for _ in 0..20 {
                let (a, b) = (r.bytes(), r.bytes());
                let got = $module::$name(a, b, I as u8);
                assert_eq!(got, host!(stringify!($name), a, b, I as i8), "{} {a:032x} {b:032x} {I}", stringify!($name));
            }
        }
        seq!(all, $r);
    })*};
}

macro_rules! check_imm_mmx {
    ($r:ident: $($op:literal $module:ident::$name:ident)*) => {$({
        fn all<const I: usize>(r: &mut Random) {
            for _ in 0..20 {
                let (a, b) = (r.bytes() as u64, r.bytes() as u64);
                let got = $module::$name(u128::from(a), u128::from(b), I as u8) as u64;
                assert_eq!(got, host_mmx!($op, a, b, I as i8), "{} {a:016x} {b:016x} {I}", $op);
            }
        }
        seq!(all, $r);
    })*};
}

/// Calls `all::<I>` for a spread of immediates.
macro_rules! seq {
    ($f:ident, $r:ident) => { seq!(@ $f $r 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 23 24 27 31 32 33 64 78 85 100 127 128 147 170 228 254 255) };
    (@ $f:ident $r:ident $($i:literal)*) => { $($f::<$i>($r);)* };
}

#[test]
fn lanewise() {
    let r = &mut Random::new(11);
    check!(r: int::paddb int::paddw int::paddd int::paddq int::psubb int::psubw int::psubd int::psubq int::paddsb
        int::paddsw int::paddusb int::paddusw int::psubsb int::psubsw int::psubusb int::psubusw int::pcmpeqb
        int::pcmpeqw int::pcmpeqd int::pcmpeqq int::pcmpgtb int::pcmpgtw int::pcmpgtd int::pcmpgtq int::pminub
        int::pminuw int::pminud int::pminsb int::pminsw int::pminsd int::pmaxub int::pmaxuw int::pmaxud int::pmaxsb
        int::pmaxsw int::pmaxsd int::pavgb int::pavgw int::pmullw int::pmulld int::pmulhw int::pmulhuw int::pmulhrsw
        int::pmuludq int::pmuldq int::psignb int::psignw int::psignd int::pabsb int::pabsw int::pabsd int::pand
        int::pandn int::por int::pxor int::pmaddwd int::pmaddubsw int::psadbw int::phaddw int::phaddd int::phaddsw
        int::phsubw int::phsubd int::phsubsw int::phminposuw);
}

#[test]
fn moves() {
    let r = &mut Random::new(12);
    check!(r: shuffle::pshufb shuffle::punpcklbw shuffle::punpckhbw shuffle::punpcklwd shuffle::punpckhwd
        shuffle::punpckldq shuffle::punpckhdq shuffle::punpcklqdq shuffle::punpckhqdq shuffle::packsswb
        shuffle::packuswb shuffle::packssdw shuffle::packusdw shuffle::pmovsxbw shuffle::pmovsxbd shuffle::pmovsxbq
        shuffle::pmovsxwd shuffle::pmovsxwq shuffle::pmovsxdq shuffle::pmovzxbw shuffle::pmovzxbd shuffle::pmovzxbq
        shuffle::pmovzxwd shuffle::pmovzxwq shuffle::pmovzxdq shuffle::movsldup shuffle::movshdup shuffle::movddup);
}

#[test]
fn immediates() {
    let r = &mut Random::new(13);
    check_imm!(r: shuffle::pshufd shuffle::pshuflw shuffle::pshufhw shuffle::shufps shuffle::shufpd
        shuffle::palignr shuffle::pblendw shuffle::blendps shuffle::blendpd int::mpsadbw);
}

#[test]
fn mmx() {
    let r = &mut Random::new(14);
    check_mmx!(r: "paddb" int::paddb "psubusw" int::psubusw "pmaddwd" int::pmaddwd "pmulhw" int::pmulhw
        "pmuludq" int::pmuludq "psadbw" int::psadbw "pavgb" int::pavgb "pshufb" shuffle::pshufb_mmx
        "phaddw" int::phaddw_mmx "phaddd" int::phaddd_mmx "phaddsw" int::phaddsw_mmx "phsubw" int::phsubw_mmx
        "phsubd" int::phsubd_mmx "phsubsw" int::phsubsw_mmx "pmaddubsw" int::pmaddubsw "pmulhrsw" int::pmulhrsw
        "psignw" int::psignw "pabsb" int::pabsb "packsswb" shuffle::packsswb_mmx "packuswb" shuffle::packuswb_mmx
        "packssdw" shuffle::packssdw_mmx "punpcklbw" shuffle::punpcklbw "punpckhbw" shuffle::punpckhbw_mmx
        "punpcklwd" shuffle::punpcklwd "punpckhwd" shuffle::punpckhwd_mmx "punpckldq" shuffle::punpckldq
        "punpckhdq" shuffle::punpckhdq_mmx);
    check_imm_mmx!(r: "palignr" shuffle::palignr_mmx "pshufw" shuffle::pshuflw);
}

#[test]
fn shifts() {
    let r = &mut Random::new(15);
    macro_rules! by_register {
        ($($name:ident)*) => {$(
            for count in (0..80).chain([128, 255, 256, 65536, 1 << 32, u64::MAX]) {
                let (a, b) = (r.bytes(), u128::from(count) | r.bytes() << 64);
                assert_eq!(shift::$name(a, b as u64), host!(stringify!($name), a, b), "{} {count}", stringify!($name));
                let got = shift::$name(a & u128::from(u64::MAX), count) as u64;
                assert_eq!(got, host_mmx!(stringify!($name), a as u64, count), "mmx {} {count}", stringify!($name));
            }
        )*};
    }
    by_register!(psllw pslld psllq psrlw psrld psrlq psraw psrad);
    let a = r.bytes();
    assert_eq!(shift::pslldq(a, 3), a << 24);
    assert_eq!(shift::psrldq(a, 15), a >> 120);
    assert_eq!((shift::psrldq(a, 16), shift::pslldq(a, 255)), (0, 0));
}

#[test]
fn masks_and_single_lanes() {
    let r = &mut Random::new(16);
    for _ in 0..ROUNDS {
        let a = r.bytes();
        let want = (0..16).fold(0, |m, i| m | (a >> (8 * i + 7) & 1) << i);
        assert_eq!(u128::from(shuffle::pmovmskb(a)), want);
        assert_eq!(shuffle::movmskps(a), (0..4).fold(0, |m, i| m | (a >> (32 * i + 31) as u32 & 1) << i) as u32);
        assert_eq!(shuffle::movmskpd(a), (0..2).fold(0, |m, i| m | (a >> (64 * i + 63) as u32 & 1) << i) as u32);
        let v = r.u64();
        for i in 0..8 {
            let b = shuffle::insert(a, v, i, 2);
            assert_eq!(shuffle::extract(b, i, 2), v & 0xffff);
            assert_eq!(shuffle::insert(b, shuffle::extract(a, i, 2), i, 2), a);
        }
        assert_eq!(shuffle::extract(a, 1, 8), (a >> 64) as u64);
        assert_eq!(shuffle::insertps(a, v as u32, 0x1c), host!("insertps", a, u128::from(v as u32), 0x1c));
        assert_eq!(shuffle::insertps(a, v as u32, 0x31), host!("insertps", a, u128::from(v as u32), 0x31));
    }
}

#[test]
fn blends_by_mask() {
    let r = &mut Random::new(17);
    for _ in 0..ROUNDS {
        let (a, b, m) = (r.bytes(), r.bytes(), r.bytes());
        assert_eq!(shuffle::pblendvb(a, b, m), masked(a, b, m, 8));
        assert_eq!(shuffle::blendvps(a, b, m), masked(a, b, m, 32));
        assert_eq!(shuffle::blendvpd(a, b, m), masked(a, b, m, 64));
    }
}

/// Lanes of `bits` from `b` where the mask's lane has its top bit.
fn masked(a: u128, b: u128, m: u128, bits: u32) -> u128 {
    let lane = u128::MAX >> (128 - bits);
    (0..128 / bits).fold(0, |out, i| {
        let at = i * bits;
        let from = if m >> (at + bits - 1) & 1 != 0 { b } else { a };
        out | from & lane << at
    })
}

//! Floating point: results and MXCSR under every rounding mode, DAZ and FTZ, everything masked.

use super::super::mxcsr::Sse;
use super::super::{convert, float};
use super::{Random, host_float, intel};

const ROUNDS: usize = 20_000;

/// A masked MXCSR, often the plain one.
fn control(r: &mut Random) -> u32 {
    let sticky = [0, 0x20, 0x3f][r.below(3)];
    match r.below(3) {
        0 => 0x1f80 | sticky,
        _ => 0x1f80 | sticky | (r.u64() as u32 & 0xe040),
    }
}

macro_rules! check {
    ($r:ident, $operand:ident: $($module:ident::$name:ident)*) => {$(
        for _ in 0..ROUNDS {
            let (a, b, m) = ($r.$operand(), $r.$operand(), control($r));
            let mut sse = Sse::new(m);
            let got = $module::$name(a, b, &mut sse);
            let (want, after) = host_float!(m, a, b, stringify!($name), " xmm0, xmm1");
            same(stringify!($name), (a, b, m), (got, sse.finish().mxcsr), (want, after));
        }
    )*};
}

macro_rules! check_imm {
    ($r:ident, $operand:ident, $rounds:literal, $imms:tt: $($module:ident::$name:ident)*) => {$(
        check_imm!(@one $r $operand $rounds $imms $module $name);
    )*};
    (@one $r:ident $operand:ident $rounds:literal ($($imm:literal)*) $module:ident $name:ident) => {$(
        for _ in 0..$rounds {
            let (a, b, m) = ($r.$operand(), $r.$operand(), control($r));
            let mut sse = Sse::new(m);
            let got = $module::$name(a, b, $imm, &mut sse);
            let (want, after) = host_float!(m, a, b, stringify!($name), " xmm0, xmm1, {i}"; $imm as i32 as i8);
            same(concat!(stringify!($name), " ", $imm), (a, b, m), (got, sse.finish().mxcsr), (want, after));
        }
    )*};
}

fn same(name: &str, (a, b, m): (u128, u128, u32), got: (u128, u32), want: (u128, u32)) {
    let got = match name.split(' ').next() {
        // Intel adds the products in another order than AMD, which tells where several are NaNs.
        Some("dpps") if intel() => {
            (with_nans_of(want.0, got.0, 32, |lane| f32::from_bits(lane as u32).is_nan()), got.1)
        }
        Some("dppd") if intel() => {
            (with_nans_of(want.0, got.0, 64, |lane| f64::from_bits(lane as u64).is_nan()), got.1)
        }
        _ => got,
    };
    assert!(
        got == want,
        "{name} a={a:032x} b={b:032x} mxcsr={m:04x}\n got {:032x} {:04x}\nwant {:032x} {:04x}",
        got.0,
        got.1,
        want.0,
        want.1
    );
}

/// `got`, but with the lanes of `want` where both have a NaN.
fn with_nans_of(want: u128, got: u128, bits: usize, nan: fn(u128) -> bool) -> u128 {
    (0..128).step_by(bits).fold(0, |sum, at| {
        let lane = |of: u128| of >> at & (u128::MAX >> (128 - bits));
        let both = nan(lane(got)) && nan(lane(want));
        sum | lane(if both { want } else { got }) << at
    })
}

#[test]
fn single() {
    let r = &mut Random::new(21);
    check!(r, ps: float::addps float::subps float::mulps float::divps float::sqrtps float::minps float::maxps float::addss
        float::subss float::mulss float::divss float::sqrtss float::minss float::maxss);
}

#[test]
fn double() {
    let r = &mut Random::new(22);
    check!(r, pd: float::addpd float::subpd float::mulpd float::divpd float::sqrtpd float::minpd float::maxpd float::addsd
        float::subsd float::mulsd float::divsd float::sqrtsd float::minsd float::maxsd);
}

#[test]
fn horizontal() {
    let r = &mut Random::new(23);
    check!(r, ps: float::addsubps float::haddps float::hsubps);
    check!(r, pd: float::addsubpd float::haddpd float::hsubpd);
}

#[test]
fn comparisons() {
    let r = &mut Random::new(24);
    check_imm!(r, ps, 2000, (0 1 2 3 4 5 6 7): float::cmpps float::cmpss);
    check_imm!(r, pd, 2000, (0 1 2 3 4 5 6 7): float::cmppd float::cmpsd);
}

#[test]
fn rounding() {
    let r = &mut Random::new(25);
    check_imm!(r, ps, 2000, (0 1 2 3 4 8 9 10 11 12): float::roundps float::roundss);
    check_imm!(r, pd, 2000, (0 1 2 3 4 8 9 10 11 12): float::roundpd float::roundsd);
}

#[test]
fn dot_products() {
    let r = &mut Random::new(26);
    check_imm!(r, ps, 4000, (0xff 0x71 0xf1 0x3f 0x55 0xaf 0x0f): float::dpps);
    check_imm!(r, pd, 4000, (0x33 0x31 0x12 0x23 0x03): float::dppd);
}

#[test]
fn conversions() {
    let r = &mut Random::new(27);
    check!(r, ps: convert::cvtps2pd convert::cvtps2dq convert::cvttps2dq convert::cvtss2sd);
    check!(r, pd: convert::cvtpd2ps convert::cvtpd2dq convert::cvttpd2dq convert::cvtsd2ss);
    check!(r, bytes: convert::cvtdq2ps convert::cvtdq2pd);
}

macro_rules! to_register {
    ($r:ident, $operand:ident: $($op:literal $reg:literal $bits:literal $truncate:literal)*) => {$(
        for _ in 0..ROUNDS {
            let (a, m) = ($r.$operand(), control($r));
            let mut sse = Sse::new(m);
            let got = convert::to_int(a, $bits, $truncate, &mut sse);
            let wide = u128::from(a);
            let want = host_float!(m, wide, wide, $op, " ", $reg, ", xmm1\n movq xmm0, rax");
            let got = if $bits == 32 { u64::from(got as u32) } else { got as u64 };
            same($op, (wide, 0, m), (u128::from(got), sse.finish().mxcsr), want);
        }
    )*};
}

#[test]
fn to_integers() {
    let r = &mut Random::new(28);
    to_register!(r, f32: "cvtss2si" "eax" 32 false "cvttss2si" "eax" 32 true "cvtss2si" "rax" 64 false
        "cvttss2si" "rax" 64 true);
    to_register!(r, f64: "cvtsd2si" "eax" 32 false "cvttsd2si" "eax" 32 true "cvtsd2si" "rax" 64 false
        "cvttsd2si" "rax" 64 true);
    for _ in 0..ROUNDS {
        let (a, m) = (r.f64(), control(r));
        let mut sse = Sse::new(m);
        let got = convert::truncate_f64(a, 64, &mut sse);
        let mut plain = Sse::new(m);
        assert_eq!(got, convert::to_int(a, 64, true, &mut plain));
        assert_eq!(sse.finish(), plain.finish());
    }
}

#[test]
fn from_integers() {
    let r = &mut Random::new(29);
    for _ in 0..ROUNDS {
        let i = r.u64() >> r.below(64);
        let i = if r.below(2) == 0 { i } else { i.wrapping_neg() };
        let m = control(r);
        let mut sse = Sse::new(m);
        let got = convert::from_int_f64(i as i64, &mut sse);
        let want = host_float!(m, 0, u128::from(i), "movq rax, xmm1\n cvtsi2sd xmm0, rax");
        same("cvtsi2sd", (u128::from(i), 0, m), (u128::from(got), sse.finish().mxcsr), want);
        let mut sse = Sse::new(m);
        let got: u32 = convert::from_int(i as i64, &mut sse);
        let want = host_float!(m, 0, u128::from(i), "movq rax, xmm1\n cvtsi2ss xmm0, rax");
        same("cvtsi2ss", (u128::from(i), 0, m), (u128::from(got), sse.finish().mxcsr), want);
    }
}

#[test]
fn ordered_comparison() {
    let r = &mut Random::new(30);
    for _ in 0..ROUNDS {
        let (a, b, m) = (r.f64(), r.f64(), control(r));
        for signal in [false, true] {
            let mut sse = Sse::new(m);
            let (zf, pf, cf) = float::comi(a, b, signal, &mut sse);
            let got = u128::from(zf) << 6 | u128::from(pf) << 2 | u128::from(cf);
            let (a, b) = (u128::from(a), u128::from(b));
            let (want, after) = if signal {
                host_float!(m, a, b, "comisd xmm0, xmm1\n pushfq\n pop rax\n movq xmm0, rax")
            } else {
                host_float!(m, a, b, "ucomisd xmm0, xmm1\n pushfq\n pop rax\n movq xmm0, rax")
            };
            same("comisd", (a, b, m), (got, sse.finish().mxcsr), (want & 0x45, after));
        }
    }
}

#[test]
fn approximations_of_both_kinds_agree_to_eleven_bits() {
    use super::super::approximate::{portable, rcpss, rsqrtss};
    let r = &mut Random::new(33);
    let close = |bits: u32, host: u32, ours: u32| {
        let (h, o) = (f32::from_bits(host), f32::from_bits(ours));
        let same = host == ours || (h - o).abs() <= h.abs() / 2048.0 || h.abs() < 2.0 * f32::MIN_POSITIVE;
        assert!(same, "{bits:08x}: {host:08x} {ours:08x}");
    };
    for _ in 0..ROUNDS {
        let b = r.f32();
        close(b, rcpss(0, u128::from(b)) as u32, portable::reciprocal(b));
        close(b, rsqrtss(0, u128::from(b)) as u32, portable::reciprocal_root(b));
    }
}

/// One operation on lanes, which goes through the soft arithmetic or the host's plain one, against the instruction.
macro_rules! check_lanes {
    ($r:ident, $operand:ident, $result:ty: $($op:literal |$a:ident, $b:ident, $sse:ident| $e:expr;)*) => {$(
        for _ in 0..ROUNDS {
            let ($a, $b, m) = ($r.$operand(), $r.$operand(), control($r));
            let mut sse = Sse::new(m);
            let $sse = &mut sse;
            let got: $result = $e;
            let (x, y) = (u128::from($a), u128::from($b));
            let (want, after) = host_float!(m, x, y, $op, " xmm0, xmm1");
            let want = u128::from(want as $result);
            same($op, (x, y, m), (u128::from(got), sse.finish().mxcsr), (want, after));
        }
    )*};
}

#[test]
fn single_lanes() {
    let r = &mut Random::new(34);
    check_lanes!(r, f32, u32:
        "addss" |a, b, s| float::add(a, b, s);
        "subss" |a, b, s| float::sub(a, b, s);
        "mulss" |a, b, s| float::mul(a, b, s);
        "divss" |a, b, s| float::div(a, b, s);
        "sqrtss" |a, b, s| float::sqrt(a, b, s);
        "minss" |a, b, s| float::min(a, b, s);
        "maxss" |a, b, s| float::max(a, b, s););
    check_lanes!(r, f32, u64: "cvtss2sd" |_a, b, s| convert::widen(b, s););
}

#[test]
fn double_lanes() {
    let r = &mut Random::new(35);
    check_lanes!(r, f64, u64:
        "addsd" |a, b, s| float::add(a, b, s);
        "subsd" |a, b, s| float::sub(a, b, s);
        "mulsd" |a, b, s| float::mul(a, b, s);
        "divsd" |a, b, s| float::div(a, b, s);
        "sqrtsd" |a, b, s| float::sqrt(a, b, s);
        "minsd" |a, b, s| float::min(a, b, s);
        "maxsd" |a, b, s| float::max(a, b, s););
    check_lanes!(r, f64, u32: "cvtsd2ss" |_a, b, s| convert::narrow(b, s););
}

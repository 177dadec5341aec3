//! Basic operations and transcendental functions against the host's x87 unit.
// UNSAFETY: the host's instructions are reached through inline assembly.
#![expect(unsafe_code, reason = "inline assembly is the oracle")]

use super::arith::Basic;
use super::transcendental::Function;
use super::{F80, Fpu, native_x86, portable};

/// A small fixed-seed generator (xorshift64*).
struct Random(u64);

impl Random {
    fn u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn f80(&mut self) -> F80 {
        let r = self.u64();
        let sig = match r & 7 {
            0 => 1 << 63,
            1 => u64::MAX,
            2 => 1 << 63 | self.u64() & 0xffff << 47,
            _ => 1 << 63 | self.u64(),
        };
        let exponent = match r >> 3 & 15 {
            0 => return F80 { se: r as u16, sig: self.u64() },
            1 => return F80 { se: r as u16 & 0x8000, sig: self.u64() >> 1 },
            2 => return F80 { se: r as u16 | 0x7fff, sig: [1 << 63, 3 << 62, 1 << 63 | 1][(r >> 20) as usize % 3] },
            3 => return F80 { se: r as u16 & 0x8000, sig: 0 },
            4 => (r >> 20) as u16 % 80,
            5 => 0x7ffe - (r >> 20) as u16 % 80,
            _ => 0x3fff - 70 + (r >> 20) as u16 % 140,
        };
        F80 { se: exponent | (r >> 48) as u16 & 0x8000, sig }
    }
}

/// Flags and C1 of a status word.
const REPORTED: u16 = 0x23f;

/// `op st, st(1)` on the host, under a masked control word: ST(0) and status.
macro_rules! host {
    ($op:literal, $a:expr, $b:expr, $cw:expr) => {{
        let (a, b, cw) = ($a.to_bytes(), $b.to_bytes(), $cw);
        let mut image = [0u8; 108];
        // SAFETY: reads the operands, writes the image; FNSAVE leaves the unit in its initial state.
        unsafe {
            core::arch::asm!(
                "fninit", "fldcw [{cw}]", "fld tbyte ptr [{b}]", "fld tbyte ptr [{a}]", $op, "fnsave [{image}]",
                cw = in(reg) &raw const cw, a = in(reg) a.as_ptr(), b = in(reg) b.as_ptr(),
                image = in(reg) image.as_mut_ptr(),
                out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
            );
        }
        let mut st = [0; 10];
        st.copy_from_slice(&image[28..38]);
        (F80::from_bytes(st), u16::from_le_bytes([image[4], image[5]]) & REPORTED)
    }};
}

/// A unit with two values on its stack.
fn loaded(a: F80, b: F80, cw: u16) -> Fpu {
    let mut f = Fpu { cw, ..Fpu::default() };
    f.push(b);
    f.push(a);
    f
}

macro_rules! check {
    ($r:ident: $($op:literal |$f:ident| $e:expr;)*) => {$(
        for _ in 0..20_000 {
            let (a, b) = ($r.f80(), $r.f80());
            let cw = 0x37f & !0xf00 | [0, 0x200, 0x300, 0x300][$r.u64() as usize & 3] | ($r.u64() as u16 & 0xc00);
            let mut $f = loaded(a, b, cw);
            $e;
            let want = host!($op, a, b, cw);
            let got = ($f.st(0), $f.status() & REPORTED);
            assert_eq!(got, want, "{} {a:x?} {b:x?} {cw:x}", $op);
        }
    )*};
}

#[test]
fn arithmetic() {
    let r = &mut Random(71);
    check!(r:
        "fadd st, st(1)" |f| f.basic(Basic::Add, 0, f.value(1));
        "fsub st, st(1)" |f| f.basic(Basic::Sub, 0, f.value(1));
        "fsubr st, st(1)" |f| f.basic(Basic::SubR, 0, f.value(1));
        "fmul st, st(1)" |f| f.basic(Basic::Mul, 0, f.value(1));
        "fdiv st, st(1)" |f| f.basic(Basic::Div, 0, f.value(1));
        "fdivr st, st(1)" |f| f.basic(Basic::DivR, 0, f.value(1));
        "fsqrt" |f| f.sqrt();
        "frndint" |f| f.round_to_integer();
        "fscale" |f| f.scale();
        "fxtract" |f| f.extract();
        "fprem" |f| f.remainder(false);
        "fprem1" |f| f.remainder(true););
}

#[test]
fn constants() {
    for rounding in 0..4 {
        let cw = 0x37f | rounding << 10;
        macro_rules! same {
            ($($op:literal $n:literal)*) => {$(
                let mut f = Fpu { cw, ..Fpu::default() };
                f.load_constant($n);
                assert_eq!(f.st(0), host!($op, F80::default(), F80::default(), cw).0, "{} {cw:x}", $op);
            )*};
        }
        same!("fld1" 0 "fldl2t" 1 "fldl2e" 2 "fldpi" 3 "fldlg2" 4 "fldln2" 5 "fldz" 6);
    }
}

#[test]
fn decimal_there_and_back() {
    let mut f = Fpu::default();
    f.load_bcd([0x21, 0x43, 0x65, 0x87, 0x09, 0, 0, 0, 0x99, 0x80]);
    assert_eq!(f.store_int(64, false), Some(-990_000_000_987_654_321));
    assert_eq!(f.store_bcd(), Some([0x21, 0x43, 0x65, 0x87, 0x09, 0, 0, 0, 0x99, 0x80]));
}

#[test]
fn portable_functions_are_near_the_host() {
    use Function::*;
    let r = &mut Random(72);
    for function in [PowerOfTwoLessOne, Sine, Cosine, SineCosine, Tangent, ArcTangent, Logarithm, LogarithmOfMore] {
        for _ in 0..2000 {
            let (mut x, y) = (r.f80(), r.f80());
            x.se = x.se & 0x8000 | (x.se % 8 + 0x3fff - 9);
            x.sig |= 1 << 63;
            if function == Logarithm {
                x.se &= 0x7fff;
            }
            let (host, ours) = (native_x86::evaluate(function, x, y, 0x37f), portable::evaluate(function, x, y, 0x37f));
            assert_eq!(host.flags & 0xd, ours.flags & 0xd, "{function:?} {x:x?} {y:x?} {host:x?} {ours:x?}");
            assert!(near(host.first, ours.first), "{function:?} {x:x?} {y:x?} {host:x?} {ours:x?}");
        }
    }
}

/// Equal to some forty bits; results out of the reach of double precision are not compared.
fn near(a: F80, b: F80) -> bool {
    let exponent = i32::from(a.se & 0x7fff) - 0x3fff;
    if !(-1000..=1000).contains(&exponent) {
        return true;
    }
    let wide = |v: F80| u128::from(v.sig) << (i32::from(v.se & 0x7fff) - 0x3fff - exponent + 1).clamp(0, 2);
    a.se >> 15 == b.se >> 15 && wide(a).abs_diff(wide(b)) >> 25 == 0
}

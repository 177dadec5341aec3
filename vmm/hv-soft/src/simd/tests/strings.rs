//! String comparison.

use super::super::string;
use super::Random;

/// The host's index, mask register and flags (bits as in RFLAGS).
struct Host {
    index: u64,
    mask: u128,
    flags: u64,
}

macro_rules! native {
    ($i:literal, $m:literal, $a:ident, $b:ident, $ra:ident, $rd:ident, $imm:expr) => {{
        let (index, flags): (u64, u64);
        let mut mask = 0u128;
        // SAFETY: reads the two values, writes `mask` and the named registers; the stack use is balanced.
        unsafe {
            core::arch::asm!(
                "movdqu xmm1, [{a}]", "movdqu xmm2, [{b}]", concat!($m, "{i}"), "movdqu [{m}], xmm0",
                concat!($i, "{i}"), "pushfq", "pop {f}",
                a = in(reg) &raw const $a, b = in(reg) &raw const $b, m = in(reg) &raw mut mask, f = lateout(reg) flags,
                i = const $imm, in("rax") $ra, in("rdx") $rd, out("rcx") index,
                out("xmm0") _, out("xmm1") _, out("xmm2") _,
            );
        }
        Host { index, mask, flags }
    }};
}

fn check<const I: usize>(r: &mut Random) {
    for _ in 0..200 {
        let (a, b) = (text(r), text(r));
        let (ra, rd) = (length(r), length(r));
        let got = string::compare(a, b, I as u8, Some((ra, rd)), false);
        same(I as u8, got, &native!("pcmpestri xmm1, xmm2, ", "pcmpestrm xmm1, xmm2, ", a, b, ra, rd, I as i8));
        let got = string::compare(a, b, I as u8, Some((ra, rd)), true);
        same(
            I as u8,
            got,
            &native!(
                ".byte 0x66, 0x48, 0x0f, 0x3a, 0x61, 0xca, ",
                ".byte 0x66, 0x48, 0x0f, 0x3a, 0x60, 0xca, ",
                a,
                b,
                ra,
                rd,
                I as i8
            ),
        );
        let got = string::compare(a, b, I as u8, None, false);
        same(I as u8, got, &native!("pcmpistri xmm1, xmm2, ", "pcmpistrm xmm1, xmm2, ", a, b, ra, rd, I as i8));
    }
}

fn same(imm: u8, got: string::Compared, want: &Host) {
    assert_eq!(u64::from(string::index(got, imm)), want.index, "index {imm:#x}");
    assert_eq!(string::expand(got, imm), want.mask, "mask {imm:#x}");
    let bit = |n: u32| want.flags >> n & 1 != 0;
    assert_eq!((got.cf, got.zf, got.sf, got.of), (bit(0), bit(6), bit(7), bit(11)), "flags {imm:#x}");
    assert!(!bit(2) && !bit(4));
}

/// Few different characters, some NULs.
fn text(r: &mut Random) -> u128 {
    const LETTERS: [u8; 8] = [0, 1, b'a', b'a', b'b', b'b', 0x80, 0xff];
    let letters = if r.below(3) == 0 { 0 } else { 1 };
    let mut b = [0u8; 16];
    for x in &mut b {
        *x = LETTERS[letters + r.below(8 - letters)];
    }
    u128::from_le_bytes(b)
}

fn length(r: &mut Random) -> u64 {
    match r.below(8) {
        0 => r.u64(),
        1 => (r.below(20) as u64).wrapping_neg(),
        2 => (r.below(20) as u64) << 32,
        3 => [1 << 31, 1 << 63, u64::MAX, 1 << 32][r.below(4)],
        _ => r.below(20) as u64,
    }
}

#[test]
fn compare() {
    macro_rules! all {
        ($($i:literal)*) => { $(check::<$i>(&mut Random::new(31 + $i));)* };
    }
    all!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 36 40 44 48 49 50 51 52
        53 54 55 56 57 58 59 60 61 62 63 64 65 68 69 72 73 76 77 80 81 84 85 88 92 112 113 116 117 120 121 124 125 127 );
}

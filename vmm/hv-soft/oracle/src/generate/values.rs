//! Operand values that find mistakes: edges of every width, floating-point specials, and plain random ones.

use crate::forms::Lanes;
use crate::rng::Rng;
use crate::state::{BASE_FLAGS, CpuState, DF, STATUS_FLAGS};

/// A 64-bit integer, often at an edge of some width.
pub(crate) fn integer(rng: &mut Rng) -> u64 {
    const EDGES: [u64; 16] = [
        0,
        1,
        2,
        u64::MAX,
        0x7f,
        0x80,
        0xff,
        0x7fff,
        0x8000,
        0xffff,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        i64::MAX as u64,
        1 << 63,
        0x8000_0000_8000_8080,
    ];
    match rng.below(20) {
        0..=5 => rng.pick(&EDGES),
        6..=7 => 1 << rng.below(64),
        8..=9 => (1 << rng.below(64)) - 1,
        10..=11 => rng.below(64),
        12..=13 => rng.below(256).wrapping_neg(),
        14 => rng.next() as i32 as u64,
        _ => rng.next(),
    }
}

/// Bits of a single-precision number.
pub(crate) fn f32_bits(rng: &mut Rng) -> u32 {
    let sign = (rng.next() as u32) & 0x8000_0000;
    let fraction = rng.next() as u32 & 0x7f_ffff;
    sign | match rng.below(20) {
        0 | 1 => 0,
        2 => 0x7f80_0000,
        3 => 0x7fc0_0000 | fraction,
        4 => 0x7f80_0001 | (fraction & 0x3f_ffff),
        5 => 1,
        6 => fraction,
        7 => 0x7f_ffff,
        8 => 0x0080_0000 | rng.below(3) as u32,
        9 => 0x7f7f_ffff,
        10 => 0x3f80_0000,
        11 => (rng.below(1000) as f32).to_bits(),
        12 => (rng.between(-1 << 32, 1 << 32) as f32 * 0.5).to_bits() & 0x7fff_ffff,
        13 => 0x4f00_0000 - 1 + rng.below(3) as u32, // around 2^31
        14 => 0x5f00_0000 - 1 + rng.below(3) as u32, // around 2^63
        15 | 16 => 0x3f80_0000 | fraction,
        17 => (100 + rng.below(56) as u32) << 23 | fraction,
        18 => 0x3f00_0000 - 2 + rng.below(4) as u32, // around one half
        _ => rng.next() as u32 & 0x7fff_ffff,
    }
}

/// Bits of a double-precision number.
pub(crate) fn f64_bits(rng: &mut Rng) -> u64 {
    let sign = rng.next() & 1 << 63;
    let fraction = rng.next() & 0xf_ffff_ffff_ffff;
    sign | match rng.below(20) {
        0 | 1 => 0,
        2 => 0x7ff << 52,
        3 => 0x7ff8 << 48 | fraction,
        4 => 0x7ff << 52 | 1 | (fraction & 0x7_ffff_ffff_ffff),
        5 => 1,
        6 => fraction,
        7 => 0xf_ffff_ffff_ffff,
        8 => 1 << 52 | rng.below(3),
        9 => 0x7fef_ffff_ffff_ffff,
        10 => 0x3ff << 52,
        11 => (rng.below(1000) as f64).to_bits(),
        12 => (rng.between(-1 << 40, 1 << 40) as f64 * 0.5).to_bits() & !(1 << 63),
        13 => (0x41e0 << 48) - 1 + rng.below(3), // around 2^31
        14 => (0x43e0 << 48) - 1 + rng.below(3), // around 2^63
        15 | 16 => 0x3ff << 52 | fraction,
        17 => (1023 - 70 + rng.below(140)) << 52 | fraction,
        18 => (874 + rng.below(300)) << 52 | fraction, // around the range of single precision
        _ => rng.next() & !(1 << 63),
    }
}

/// Mantissa and sign-and-exponent of an 80-bit number.
pub(crate) fn f80_parts(rng: &mut Rng) -> (u64, u16) {
    let sign = (rng.next() as u16) & 0x8000;
    let mantissa = rng.next() | 1 << 63;
    let (mantissa, exponent) = match rng.below(20) {
        0 | 1 => (0, 0),
        2 => (1 << 63, 0x7fff),
        3 => (mantissa | 1 << 62, 0x7fff),
        4 => ((mantissa & !(1 << 62)) | 1, 0x7fff),
        5 => (mantissa & !(1 << 63), 0),
        6 => (mantissa, 0),
        7 => (rng.next(), rng.next() as u16 & 0x7fff),
        8 => (1 << 63, 0x3fff),
        9 => (u64::MAX, 0x7ffe),
        10 | 11 => integer_as_f80(rng.below(1 << 20)),
        12 => integer_as_f80(rng.next()),
        13 | 14 => (mantissa & !0x7ff, 16383 - 40 + rng.below(80) as u16),
        15 => (mantissa & !0xff_ffff_ffff, 16383 - 40 + rng.below(80) as u16),
        16 => (mantissa, 16383 + 62 + rng.below(3) as u16),
        _ => (mantissa, 16383 - 70 + rng.below(140) as u16),
    };
    (mantissa, exponent | sign)
}

fn integer_as_f80(value: u64) -> (u64, u16) {
    match value.leading_zeros() {
        64 => (0, 0),
        zeros => (value << zeros, 16383 + 63 - zeros as u16),
    }
}

/// Sixteen bytes of lanes, of the instruction's own kind more often than not.
pub(crate) fn vector(rng: &mut Rng, lanes: Lanes) -> [u8; 16] {
    let style = match (lanes, rng.below(10)) {
        (Lanes::F32, 0..=7) => 0,
        (Lanes::F64, 0..=7) => 1,
        (Lanes::Integer, 0..=7) => 2 + rng.below(5),
        _ => rng.below(7),
    };
    let (low, high) = match style {
        0 => (pair(f32_bits, rng), pair(f32_bits, rng)),
        1 => (f64_bits(rng), f64_bits(rng)),
        2 => (integer(rng), integer(rng)),
        3 => (pair(narrow::<32>, rng), pair(narrow::<32>, rng)),
        4 => (quad(rng, 16), quad(rng, 16)),
        5 => (quad(rng, 8), quad(rng, 8)),
        _ => (rng.next(), rng.next()),
    };
    (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
}

fn pair(one: fn(&mut Rng) -> u32, rng: &mut Rng) -> u64 {
    u64::from(one(rng)) << 32 | u64::from(one(rng))
}

fn narrow<const BITS: u32>(rng: &mut Rng) -> u32 {
    match rng.below(8) {
        0 => 0,
        1 => 1,
        2 => u32::MAX,
        3 => 1 << (BITS - 1),
        4 => (1 << (BITS - 1)) - 1,
        5 => rng.below(40) as u32,
        _ => rng.next() as u32,
    }
}

fn quad(rng: &mut Rng, bits: u32) -> u64 {
    let one = if bits == 16 { narrow::<16> } else { narrow::<8> };
    let mask = (1u64 << bits) - 1;
    (0..64 / bits).fold(0, |sum, lane| sum | (u64::from(one(rng)) & mask) << (lane * bits))
}

/// Fills everything with something that loads without a fault.
pub(crate) fn state(rng: &mut Rng, state: &mut CpuState, x87: bool) {
    for register in &mut state.gpr {
        *register = integer(rng);
    }
    let direction = if rng.chance(20) { DF } else { 0 };
    state.rflags = BASE_FLAGS | (rng.next() & STATUS_FLAGS) | direction;
    for word in state.fx[160..416].chunks_exact_mut(8) {
        word.copy_from_slice(&rng.next().to_le_bytes());
    }
    state.set_mxcsr(mxcsr(rng));
    x87_header(rng, state, x87);
    for index in 0..8 {
        let (mantissa, exponent) = if x87 { f80_parts(rng) } else { (rng.next(), 0xffff) };
        state.fx[32 + 16 * index..40 + 16 * index].copy_from_slice(&mantissa.to_le_bytes());
        state.set_fx16(40 + 16 * index, exponent);
    }
}

fn x87_header(rng: &mut Rng, state: &mut CpuState, x87: bool) {
    let (control, status, tags) = if x87 { x87_words(rng) } else { (0x37f, 0, 0) };
    state.set_fx16(0, control);
    state.set_fx16(2, status);
    state.fx[4] = tags;
}

/// Control word, status word and abridged tags that agree with each other.
pub(crate) fn x87_words(rng: &mut Rng) -> (u16, u16, u8) {
    let mut control = 0x37f;
    if rng.chance(50) {
        control = 0x40 | (rng.next() as u16 & 0xf00) | 0x3f;
    }
    if rng.chance(15) {
        control &= !(rng.next() as u16 & 0x3f);
    }
    let mut status = rng.next() as u16 & 0x7f00; // top of stack and C0 to C3
    if rng.chance(30) {
        status |= rng.next() as u16 & 0x7f;
    }
    let pending = status & !control & 0x3f;
    if pending != 0 && rng.chance(75) {
        status &= !0x3f; // an error that waits hides everything else: seldom
    } else if pending != 0 {
        status |= 0x8080;
    }
    let tags = if rng.chance(75) { 0xff } else { rng.next() as u8 };
    (control, status, tags)
}

/// An MXCSR without reserved bits.
pub(crate) fn mxcsr(rng: &mut Rng) -> u32 {
    let mut value = 0x1f80;
    if rng.chance(50) {
        value |= rng.next() as u32 & 0x6000;
    }
    if rng.chance(15) {
        value |= 0x8000;
    }
    if rng.chance(15) {
        value |= 0x40;
    }
    if rng.chance(20) {
        value &= !(rng.next() as u32 & 0x1f80);
    }
    if rng.chance(30) {
        value |= rng.next() as u32 & 0x3f;
    }
    value
}

//! SSE4.2 string comparison (Intel SDM vol. 2, section 4.1).

use super::lanes::*;

/// What a string comparison gives: the result mask and the flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Compared {
    /// `IntRes2`: one bit for each element.
    pub(crate) mask: u32,
    /// Elements in a register: 16 bytes or 8 words.
    pub(crate) count: u32,
    /// Carry: the mask is not zero.
    pub(crate) cf: bool,
    /// Zero: the second string ends within the register.
    pub(crate) zf: bool,
    /// Sign: the first string ends within the register.
    pub(crate) sf: bool,
    /// Overflow: bit 0 of the mask.
    pub(crate) of: bool,
}

/// Lengths of both strings as given in registers (`PCMPESTRx`), clipped later; `None` for NUL-terminated strings.
pub(crate) type Lengths = Option<(u64, u64)>;

/// Elements as signed or unsigned numbers wide enough for all four formats.
fn elements(x: u128, imm: u8) -> [i32; 16] {
    match imm & 3 {
        0 => u8s(x).map(i32::from),
        2 => i8s(x).map(i32::from),
        1 => widen(u16s(x).map(i32::from)),
        _ => widen(i16s(x).map(i32::from)),
    }
}

/// Eight elements in an array for sixteen.
fn widen(v: [i32; 8]) -> [i32; 16] {
    core::array::from_fn(|i| if i < 8 { v[i] } else { 0 })
}

/// Length of a NUL-terminated string.
fn implicit_length(e: &[i32; 16], count: usize) -> usize {
    e[..count].iter().position(|&v| v == 0).unwrap_or(count)
}

/// Length from a register: the magnitude, at most `count`.
fn explicit_length(reg: u64, wide: bool, count: usize) -> usize {
    let magnitude = if wide { (reg as i64).unsigned_abs() } else { u64::from((reg as i32).unsigned_abs()) };
    magnitude.min(count as u64) as usize
}

/// Compares the strings in `a` (first operand) and `b` as `imm` says. `wide` = the lengths are 64-bit (REX.W).
pub(crate) fn compare(a: u128, b: u128, imm: u8, lengths: Lengths, wide: bool) -> Compared {
    let count = if imm & 1 == 0 { 16 } else { 8 };
    let (x, y) = (elements(a, imm), elements(b, imm));
    let (len_a, len_b) = match lengths {
        None => (implicit_length(&x, count), implicit_length(&y, count)),
        Some((ra, rb)) => (explicit_length(ra, wide, count), explicit_length(rb, wide, count)),
    };
    let raw = match imm >> 2 & 3 {
        0 => equal_any(&x, &y, len_a, len_b),
        1 => ranges(&x, &y, len_a, len_b),
        2 => equal_each(&x, &y, len_a, len_b, count),
        _ => equal_ordered(&x, &y, len_a, len_b, count),
    };
    let all = if count == 16 { 0xffff } else { 0xff };
    let mask = match imm >> 4 & 3 {
        1 => raw ^ all,
        3 => raw ^ ((1 << len_b) - 1),
        _ => raw,
    };
    Compared { mask, count: count as u32, cf: mask != 0, zf: len_b < count, sf: len_a < count, of: mask & 1 != 0 }
}

/// Bit `j`: element `j` of `b` is one of `a`'s.
fn equal_any(a: &[i32; 16], b: &[i32; 16], len_a: usize, len_b: usize) -> u32 {
    (0..len_b).filter(|&j| a[..len_a].contains(&b[j])).fold(0, |m, j| m | 1 << j)
}

/// Bit `j`: element `j` of `b` lies in one of the ranges that `a`'s pairs give.
fn ranges(a: &[i32; 16], b: &[i32; 16], len_a: usize, len_b: usize) -> u32 {
    let within = |v: i32| a[..len_a & !1].chunks_exact(2).any(|r| r[0] <= v && v <= r[1]);
    (0..len_b).filter(|&j| within(b[j])).fold(0, |m, j| m | 1 << j)
}

/// Bit `j`: the elements at `j` are the same, or both strings have ended.
fn equal_each(a: &[i32; 16], b: &[i32; 16], len_a: usize, len_b: usize, count: usize) -> u32 {
    let same = |&j: &usize| match (j < len_a, j < len_b) {
        (true, true) => a[j] == b[j],
        (false, false) => true,
        _ => false,
    };
    (0..count).filter(same).fold(0, |m, j| m | 1 << j)
}

/// Bit `j`: `a` as a whole begins at element `j` of `b`, as far as the register shows.
fn equal_ordered(a: &[i32; 16], b: &[i32; 16], len_a: usize, len_b: usize, count: usize) -> u32 {
    let begins = |&j: &usize| (0..len_a.min(count - j)).all(|i| j + i < len_b && a[i] == b[j + i]);
    (0..count).filter(begins).fold(0, |m, j| m | 1 << j)
}

/// `PCMPxSTRI`: index of the lowest or highest set bit, or the element count.
pub(crate) fn index(c: Compared, imm: u8) -> u32 {
    match (c.mask, imm & 0x40 != 0) {
        (0, _) => c.count,
        (m, false) => m.trailing_zeros(),
        (m, true) => 31 - m.leading_zeros(),
    }
}

/// `PCMPxSTRM`: the mask as bits or blown up to elements.
pub(crate) fn expand(c: Compared, imm: u8) -> u128 {
    match (imm & 0x40 != 0, imm & 1 != 0) {
        (false, _) => u128::from(c.mask),
        (true, false) => from_u8s(core::array::from_fn(|i| if c.mask >> i & 1 != 0 { 0xff } else { 0 })),
        (true, true) => from_u16s(core::array::from_fn(|i| if c.mask >> i & 1 != 0 { 0xffff } else { 0 })),
    }
}

//! RCPPS and RSQRTPS: approximations whose exact bits are each processor's own. On x86-64 the host's instruction
//! answers; elsewhere the true value cut to twelve bits, which is within the architecture's bound.

use super::lanes::*;

#[cfg(target_arch = "x86_64")]
use super::native::{reciprocal, reciprocal_root};

/// `1 / x`, no flags.
#[cfg(any(test, not(target_arch = "x86_64")))]
pub(crate) mod portable {
    /// Cuts to twelve significant bits, rounding; tiny results become zeros.
    fn short(v: f32) -> u32 {
        let bits = v.to_bits();
        if !v.is_normal() {
            return if v.is_nan() { bits | 0x40_0000 } else { bits & 0xff80_0000 };
        }
        bits.wrapping_add(0x800) & !0xfff
    }

    /// Denormals as zeros, as these instructions take them.
    fn flushed(bits: u32) -> f32 {
        f32::from_bits(if bits & 0x7f80_0000 == 0 { bits & 0x8000_0000 } else { bits })
    }

    pub(crate) fn reciprocal(bits: u32) -> u32 {
        let v = flushed(bits);
        if v.is_nan() { bits | 0x40_0000 } else { short(1.0 / v) }
    }

    pub(crate) fn reciprocal_root(bits: u32) -> u32 {
        let v = flushed(bits);
        match v {
            _ if v.is_nan() => bits | 0x40_0000,
            _ if v < 0.0 => 0xffc0_0000,
            _ => short(1.0 / v.sqrt()),
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
use portable::{reciprocal, reciprocal_root};

/// `RCPPS`.
pub(crate) fn rcpps(_a: u128, b: u128) -> u128 {
    from_u32s(u32s(b).map(reciprocal))
}

/// `RCPSS`.
pub(crate) fn rcpss(a: u128, b: u128) -> u128 {
    a & !u128::from(u32::MAX) | u128::from(reciprocal(b as u32))
}

/// `RSQRTPS`.
pub(crate) fn rsqrtps(_a: u128, b: u128) -> u128 {
    from_u32s(u32s(b).map(reciprocal_root))
}

/// `RSQRTSS`.
pub(crate) fn rsqrtss(a: u128, b: u128) -> u128 {
    a & !u128::from(u32::MAX) | u128::from(reciprocal_root(b as u32))
}

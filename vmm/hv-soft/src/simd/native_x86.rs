//! What only the host processor can say on x86-64: the bits of its approximations.
// UNSAFETY: SSE intrinsics.
#![expect(unsafe_code, reason = "SSE intrinsics; every x86-64 processor has SSE")]

use core::arch::x86_64::{_mm_cvtss_f32, _mm_rcp_ss, _mm_rsqrt_ss, _mm_set_ss};

/// The host's RCPSS.
pub(crate) fn reciprocal(bits: u32) -> u32 {
    // SAFETY: registers only, on any operand; SSE is part of x86-64.
    unsafe { _mm_cvtss_f32(_mm_rcp_ss(_mm_set_ss(f32::from_bits(bits)))) }.to_bits()
}

/// The host's RSQRTSS.
pub(crate) fn reciprocal_root(bits: u32) -> u32 {
    // SAFETY: as above.
    unsafe { _mm_cvtss_f32(_mm_rsqrt_ss(_mm_set_ss(f32::from_bits(bits)))) }.to_bits()
}

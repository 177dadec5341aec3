//! SSE2 on a host that has it: the packed operations that programs use most, and the approximations, whose bits only
//! a processor can say.
// UNSAFETY: SSE intrinsics and inline assembly on values in registers.
#![expect(unsafe_code, reason = "SSE2 is part of x86-64; SSSE3 is asked for")]

use core::arch::asm;
use core::arch::x86_64::*;
use core::mem::transmute;

use super::mxcsr::{MXCSR_RESET, Sse};

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

macro_rules! packed {
    ($($name:ident $intrinsic:ident;)*) => {$(
        #[doc = concat!("`", stringify!($name), "`.")]
        #[inline(always)]
        pub(crate) fn $name(a: u128, b: u128) -> u128 {
            // SAFETY: SSE2 is part of x86-64; both types are 16 bytes of which every pattern is valid.
            unsafe { transmute($intrinsic(transmute::<u128, __m128i>(a), transmute::<u128, __m128i>(b))) }
        }
    )*};
}

packed! {
    paddb _mm_add_epi8;
    paddw _mm_add_epi16;
    paddd _mm_add_epi32;
    psubb _mm_sub_epi8;
    psubw _mm_sub_epi16;
    psubd _mm_sub_epi32;
    paddsb _mm_adds_epi8;
    paddsw _mm_adds_epi16;
    paddusb _mm_adds_epu8;
    paddusw _mm_adds_epu16;
    psubsb _mm_subs_epi8;
    psubsw _mm_subs_epi16;
    psubusb _mm_subs_epu8;
    psubusw _mm_subs_epu16;
    pcmpeqb _mm_cmpeq_epi8;
    pcmpeqw _mm_cmpeq_epi16;
    pcmpeqd _mm_cmpeq_epi32;
    pcmpgtb _mm_cmpgt_epi8;
    pcmpgtw _mm_cmpgt_epi16;
    pcmpgtd _mm_cmpgt_epi32;
    pminub _mm_min_epu8;
    pmaxub _mm_max_epu8;
    pminsw _mm_min_epi16;
    pmaxsw _mm_max_epi16;
    pavgb _mm_avg_epu8;
    pavgw _mm_avg_epu16;
    pmullw _mm_mullo_epi16;
    pmulhw _mm_mulhi_epi16;
    pmulhuw _mm_mulhi_epu16;
    pmaddwd _mm_madd_epi16;
    psadbw _mm_sad_epu8;
    packsswb _mm_packs_epi16;
    packuswb _mm_packus_epi16;
    packssdw _mm_packs_epi32;
    punpcklbw _mm_unpacklo_epi8;
    punpcklwd _mm_unpacklo_epi16;
    punpckldq _mm_unpacklo_epi32;
    punpckhbw _mm_unpackhi_epi8;
    punpckhwd _mm_unpackhi_epi16;
    punpckhdq _mm_unpackhi_epi32;
}

/// `pshufb`, by the host where it has SSSE3.
#[inline(always)]
pub(crate) fn pshufb(a: u128, b: u128) -> u128 {
    if std::arch::is_x86_feature_detected!("ssse3") {
        // SAFETY: the processor has SSSE3.
        return unsafe { host_pshufb(a, b) };
    }
    super::shuffle::pshufb(a, b)
}

/// # Safety
/// The processor must have SSSE3.
#[target_feature(enable = "ssse3")]
unsafe fn host_pshufb(a: u128, b: u128) -> u128 {
    // SAFETY: the caller's promise, and types of 16 bytes of which every pattern is valid.
    unsafe { transmute(_mm_shuffle_epi8(transmute::<u128, __m128i>(a), transmute::<u128, __m128i>(b))) }
}

/// Floating point under the guest's own MXCSR; `None` where an exception is unmasked.
macro_rules! arithmetic {
    ($($name:ident)*) => {$(
        #[doc = concat!("`", stringify!($name), "`.")]
        #[inline]
        pub(crate) fn $name(a: u128, b: u128, sse: &mut Sse) -> Option<u128> {
            let (mut mxcsr, host) = (sse.masked_control()?, MXCSR_RESET);
            // SAFETY: both types are 16 bytes of which every pattern is valid.
            let (mut x, y) = unsafe { (transmute::<u128, __m128i>(a), transmute::<u128, __m128i>(b)) };
            // SAFETY: everything is masked, so nothing traps whatever the operands; MXCSR is put back to what Rust
            // code expects before the block ends. Memory is touched only at the two named places.
            unsafe {
                asm!(
                    "ldmxcsr [{m}]", concat!(stringify!($name), " {x}, {y}"), "stmxcsr [{m}]", "ldmxcsr [{h}]",
                    m = in(reg) &raw mut mxcsr, h = in(reg) &raw const host,
                    x = inout(xmm_reg) x, y = in(xmm_reg) y, options(nostack),
                );
            }
            sse.raise(mxcsr);
            // SAFETY: as above.
            Some(unsafe { transmute::<__m128i, u128>(x) })
        }
    )*};
}

arithmetic! {
    addps addpd addss addsd subps subpd subss subsd mulps mulpd mulss mulsd divps divpd divss divsd
    sqrtps sqrtpd sqrtss sqrtsd minps minpd minss minsd maxps maxpd maxss maxsd cvtps2pd cvtpd2ps
    cvtss2sd cvtsd2ss cvtdq2ps cvtps2dq cvttps2dq cvtpd2dq cvttpd2dq
}

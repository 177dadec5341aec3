//! Moves.

use iced_x86::{Code, Instruction};

use crate::decode::by_ea;
use crate::op::{Handler, Op};
use crate::simd::run::moves::*;

/// Chooses a handler for a move.
pub(super) fn lower(insn: &Instruction, op: &Op) -> Option<Handler> {
    whole(insn, op).or_else(|| partial(insn, op)).or_else(|| mmx(insn.code()))
}

/// Whole XMM registers.
fn whole(insn: &Instruction, op: &Op) -> Option<Handler> {
    use Code::*;
    let memory_first = insn.op_kind(0) == iced_x86::OpKind::Memory;
    let memory_second = insn.op_count() > 1 && insn.op_kind(1) == iced_x86::OpKind::Memory;
    Some(match insn.code() {
        Movups_xmm_xmmm128 | Movupd_xmm_xmmm128 | Movdqu_xmm_xmmm128 | Lddqu_xmm_m128 if memory_second => {
            by_ea!(op, E => load_unaligned::<E> as Handler)
        }
        Movaps_xmm_xmmm128 | Movapd_xmm_xmmm128 | Movdqa_xmm_xmmm128 | Movntdqa_xmm_m128 if memory_second => {
            by_ea!(op, E => load_zero::<E, 16> as Handler)
        }
        Movups_xmmm128_xmm | Movupd_xmmm128_xmm | Movdqu_xmmm128_xmm if memory_first => {
            by_ea!(op, E => store_unaligned::<E> as Handler)
        }
        Movaps_xmmm128_xmm | Movapd_xmmm128_xmm | Movdqa_xmmm128_xmm | Movntps_m128_xmm | Movntpd_m128_xmm
        | Movntdq_m128_xmm
            if memory_first =>
        {
            by_ea!(op, E => store_aligned::<E> as Handler)
        }
        Movups_xmm_xmmm128 | Movupd_xmm_xmmm128 | Movdqu_xmm_xmmm128 | Movaps_xmm_xmmm128 | Movapd_xmm_xmmm128
        | Movdqa_xmm_xmmm128 | Movups_xmmm128_xmm | Movupd_xmmm128_xmm | Movdqu_xmmm128_xmm | Movaps_xmmm128_xmm
        | Movapd_xmmm128_xmm | Movdqa_xmmm128_xmm => mov_rr,
        _ => return None,
    })
}

/// Parts of XMM registers.
fn partial(insn: &Instruction, op: &Op) -> Option<Handler> {
    use Code::*;
    let memory = (0..insn.op_count()).any(|n| insn.op_kind(n) == iced_x86::OpKind::Memory);
    Some(match insn.code() {
        Movss_xmm_xmmm32 | Movd_xmm_rm32 if memory => by_ea!(op, E => load_zero::<E, 4> as Handler),
        Movsd_xmm_xmmm64 | Movq_xmm_xmmm64 | Movq_xmm_rm64 if memory => {
            by_ea!(op, E => load_zero::<E, 8> as Handler)
        }
        Movss_xmmm32_xmm | Movd_rm32_xmm if memory => by_ea!(op, E => store_low::<u32, E> as Handler),
        Movsd_xmmm64_xmm | Movq_xmmm64_xmm | Movq_rm64_xmm | Movlps_m64_xmm | Movlpd_m64_xmm if memory => {
            by_ea!(op, E => store_low::<u64, E> as Handler)
        }
        Movss_xmm_xmmm32 | Movss_xmmm32_xmm => merge_single,
        Movsd_xmm_xmmm64 | Movsd_xmmm64_xmm => merge_double,
        Movq_xmm_xmmm64 | Movq_xmmm64_xmm => low_half,
        Movd_xmm_rm32 => from_gpr::<u32>,
        Movq_xmm_rm64 => from_gpr::<u64>,
        Movd_rm32_xmm => to_gpr::<u32>,
        Movq_rm64_xmm => to_gpr::<u64>,
        Movlps_xmm_m64 | Movlpd_xmm_m64 => load_low,
        Movhps_xmm_m64 | Movhpd_xmm_m64 => load_high,
        Movhps_m64_xmm | Movhpd_m64_xmm => store_high,
        Movhlps_xmm_xmm => high_to_low,
        Movlhps_xmm_xmm => low_to_high,
        Movd_mm_rm32 if memory => mm_load::<u32>,
        Movq_mm_mmm64 | Movq_mm_rm64 if memory => mm_load::<u64>,
        Movd_rm32_mm if memory => mm_store::<u32>,
        Movq_mmm64_mm | Movq_rm64_mm | Movntq_m64_mm if memory => mm_store::<u64>,
        _ => return None,
    })
}

/// MMX registers.
fn mmx(code: Code) -> Option<Handler> {
    use Code::*;
    Some(match code {
        Movd_mm_rm32 => mm_from_gpr::<u32>,
        Movq_mm_rm64 => mm_from_gpr::<u64>,
        Movd_rm32_mm => mm_to_gpr::<u32>,
        Movq_rm64_mm => mm_to_gpr::<u64>,
        Movq_mm_mmm64 | Movq_mmm64_mm => mm_rr,
        Movq2dq_xmm_mm => mm_to_xmm,
        Movdq2q_mm_xmm => xmm_to_mm,
        Emms => emms,
        _ => return None,
    })
}

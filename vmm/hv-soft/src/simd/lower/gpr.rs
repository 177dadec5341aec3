//! Instructions between vector and general registers or flags, and those with implicit operands.

use iced_x86::{Code, Instruction, Mnemonic, Register};

use crate::decode::memory_operand;
use crate::op::{Handler, Op, mode, slot};
use crate::simd::run::gpr::*;
use crate::simd::run::special::*;
use crate::simd::shuffle;

/// Chooses a handler for an instruction that is not of the table's shape.
pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    inserts(insn)
        .or_else(|| conversions(insn))
        .or_else(|| comparisons(insn))
        .or_else(|| strings(insn, op))
        .or_else(|| masked(insn, op))
}

/// One of two handlers by whether operand `n` is in memory.
macro_rules! by_memory {
    ($insn:expr, $n:literal, $memory:expr, $register:expr) => {
        if memory_operand($insn, $n) { $memory as Handler } else { $register as Handler }
    };
}

fn inserts(insn: &Instruction) -> Option<Handler> {
    use Code::*;
    Some(match insn.code() {
        Pinsrb_xmm_r32m8_imm8 | Pinsrb_xmm_r64m8_imm8 => by_memory!(insn, 1, insert_m::<u8>, insert_r::<u8>),
        Pinsrw_xmm_r32m16_imm8 | Pinsrw_xmm_r64m16_imm8 => by_memory!(insn, 1, insert_m::<u16>, insert_r::<u16>),
        Pinsrd_xmm_rm32_imm8 => by_memory!(insn, 1, insert_m::<u32>, insert_r::<u32>),
        Pinsrq_xmm_rm64_imm8 => by_memory!(insn, 1, insert_m::<u64>, insert_r::<u64>),
        Pinsrw_mm_r32m16_imm8 | Pinsrw_mm_r64m16_imm8 => by_memory!(insn, 1, mm_insert_m, mm_insert_r),
        Pextrb_r32m8_xmm_imm8 | Pextrb_r64m8_xmm_imm8 => by_memory!(insn, 0, extract_m::<u8>, extract_r::<u8>),
        Pextrw_r32m16_xmm_imm8 | Pextrw_r64m16_xmm_imm8 | Pextrw_r32_xmm_imm8 | Pextrw_r64_xmm_imm8 => {
            by_memory!(insn, 0, extract_m::<u16>, extract_r::<u16>)
        }
        Pextrd_rm32_xmm_imm8 | Extractps_rm32_xmm_imm8 | Extractps_r64m32_xmm_imm8 => {
            by_memory!(insn, 0, extract_m::<u32>, extract_r::<u32>)
        }
        Pextrq_rm64_xmm_imm8 => by_memory!(insn, 0, extract_m::<u64>, extract_r::<u64>),
        Pextrw_r32_mm_imm8 | Pextrw_r64_mm_imm8 => mm_extract,
        Insertps_xmm_xmmm32_imm8 => by_memory!(insn, 1, insertps_m, insertps_r),
        Pmovmskb_r32_xmm | Pmovmskb_r64_xmm => byte_mask,
        Pmovmskb_r32_mm | Pmovmskb_r64_mm => mm_byte_mask,
        Movmskps_r32_xmm | Movmskps_r64_xmm => single_mask,
        Movmskpd_r32_xmm | Movmskpd_r64_xmm => double_mask,
        _ => return None,
    })
}

fn conversions(insn: &Instruction) -> Option<Handler> {
    use Code::*;
    macro_rules! pick {
        ($f:ident, $l:ty, $t:ty) => {
            by_memory!(insn, 1, $f::<$l, $t, true>, $f::<$l, $t, false>)
        };
    }
    Some(match insn.code() {
        Cvttss2si_r32_xmmm32 => pick!(truncate, u32, u32),
        Cvttss2si_r64_xmmm32 => pick!(truncate, u32, u64),
        Cvttsd2si_r32_xmmm64 => pick!(truncate, u64, u32),
        Cvttsd2si_r64_xmmm64 => pick!(truncate, u64, u64),
        Cvtss2si_r32_xmmm32 => pick!(round, u32, u32),
        Cvtss2si_r64_xmmm32 => pick!(round, u32, u64),
        Cvtsd2si_r32_xmmm64 => pick!(round, u64, u32),
        Cvtsd2si_r64_xmmm64 => pick!(round, u64, u64),
        Cvtsi2ss_xmm_rm32 => pick!(from_integer, u32, u32),
        Cvtsi2ss_xmm_rm64 => pick!(from_integer, u32, u64),
        Cvtsi2sd_xmm_rm32 => pick!(from_integer, u64, u32),
        Cvtsi2sd_xmm_rm64 => pick!(from_integer, u64, u64),
        _ => return None,
    })
}

fn comparisons(insn: &Instruction) -> Option<Handler> {
    use Code::*;
    macro_rules! pick {
        ($l:ty, $signal:literal) => {
            by_memory!(insn, 1, compare::<$l, $signal, true>, compare::<$l, $signal, false>)
        };
    }
    Some(match insn.code() {
        Comiss_xmm_xmmm32 => pick!(u32, true),
        Comisd_xmm_xmmm64 => pick!(u64, true),
        Ucomiss_xmm_xmmm32 => pick!(u32, false),
        Ucomisd_xmm_xmmm64 => pick!(u64, false),
        Ptest_xmm_xmmm128 => by_memory!(insn, 1, ptest::<true>, ptest::<false>),
        Pblendvb_xmm_xmmm128 => by_memory!(insn, 1, blend::<Bytes, true>, blend::<Bytes, false>),
        Blendvps_xmm_xmmm128 => by_memory!(insn, 1, blend::<Singles, true>, blend::<Singles, false>),
        Blendvpd_xmm_xmmm128 => by_memory!(insn, 1, blend::<Doubles, true>, blend::<Doubles, false>),
        _ => return None,
    })
}

macro_rules! blends {
    ($($name:ident: $f:path;)*) => {$(
        struct $name;
        impl Blend for $name {
            fn f(a: u128, b: u128, mask: u128) -> u128 {
                $f(a, b, mask)
            }
        }
    )*};
}

blends! {
    Bytes: shuffle::pblendvb;
    Singles: shuffle::blendvps;
    Doubles: shuffle::blendvpd;
}

fn strings(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    use Code::*;
    let wide = matches!(insn.code(), Pcmpestri64_xmm_xmmm128_imm8 | Pcmpestrm64_xmm_xmmm128_imm8);
    let handler = match insn.mnemonic() {
        Mnemonic::Pcmpestri | Mnemonic::Pcmpestri64 => {
            by_memory!(insn, 1, string_index::<true, true>, string_index::<true, false>)
        }
        Mnemonic::Pcmpestrm | Mnemonic::Pcmpestrm64 => {
            by_memory!(insn, 1, string_mask::<true, true>, string_mask::<true, false>)
        }
        Mnemonic::Pcmpistri => by_memory!(insn, 1, string_index::<false, true>, string_index::<false, false>),
        Mnemonic::Pcmpistrm => by_memory!(insn, 1, string_mask::<false, true>, string_mask::<false, false>),
        _ => return None,
    };
    op.aux = u32::from(wide);
    Some(handler)
}

/// MASKMOVDQU and MASKMOVQ: operand 0 is the implicit memory operand, so both registers are one further on.
fn masked(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    let handler: Handler = match insn.code() {
        Code::Maskmovdqu_rDI_xmm_xmm => masked_store,
        Code::Maskmovq_rDI_mm_mm => mm_masked_store,
        _ => return None,
    };
    op.dst = insn.op_register(1).number() as u8;
    op.src = insn.op_register(2).number() as u8;
    op.base = Register::RDI.number() as u8;
    op.index = slot::ZERO;
    op.disp = 0;
    if insn.op_kind(0) != iced_x86::OpKind::MemorySegRDI {
        op.mode |= mode::ADDR32;
    }
    Some(handler)
}

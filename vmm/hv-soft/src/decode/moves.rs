//! Handlers for moves.

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};

use super::{by_form, by_size, memory_operand, operand_size};
use crate::access::{Fast, Whole};
use crate::code::thread::{Choice, flow};
use crate::exec::moves::*;
use crate::op::Op;

/// Picks one of sixteen handlers by condition code.
macro_rules! by_cc {
    ($cc:expr, $c:ident => $e:expr) => {
        by_cc!(@ $cc, $c => $e, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    };
    (@ $cc:expr, $c:ident => $e:expr, $($n:literal)*) => {
        match $cc {
            $($n => { const $c: u8 = $n; $e })*
            _ => { const $c: u8 = 15; $e }
        }
    };
}
pub(super) use by_cc;

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<Choice> {
    let size = operand_size(insn, 0);
    Some(match insn.mnemonic() {
        Mnemonic::Mov => return mov(insn, op),
        Mnemonic::Lea if op.simple() => by_size!(size, T => flow(lea_simple::<T>, lea_simple::<T>)),
        Mnemonic::Lea if op.indexed() => by_size!(size, T => flow(lea_indexed::<T>, lea_indexed::<T>)),
        Mnemonic::Lea => by_size!(size, T => flow(lea::<T>, lea::<T>)),
        Mnemonic::Movzx if operand_size(insn, 1) == 1 => by_size!(size, T => if memory_operand(insn, 1) {
            by_form!(op, E => flow(zx_m::<Fast, u8, T, E>, zx_m::<Whole, u8, T, E>))
        } else {
            flow(zx_r::<u8, T>, zx_r::<u8, T>)
        }),
        Mnemonic::Movzx => by_size!(size, T => if memory_operand(insn, 1) {
            by_form!(op, E => flow(zx_m::<Fast, u16, T, E>, zx_m::<Whole, u16, T, E>))
        } else {
            flow(zx_r::<u16, T>, zx_r::<u16, T>)
        }),
        Mnemonic::Movsx | Mnemonic::Movsxd => sign_extend(insn, op),
        Mnemonic::Bswap => by_size!(size, T => flow(bswap::<T>, bswap::<T>)),
        Mnemonic::Cbw => flow(extend_acc::<u8, u16>, extend_acc::<u8, u16>),
        Mnemonic::Cwde => flow(extend_acc::<u16, u32>, extend_acc::<u16, u32>),
        Mnemonic::Cdqe => flow(extend_acc::<u32, u64>, extend_acc::<u32, u64>),
        Mnemonic::Cwd => flow(sign_to_dx::<u16>, sign_to_dx::<u16>),
        Mnemonic::Cdq => flow(sign_to_dx::<u32>, sign_to_dx::<u32>),
        Mnemonic::Cqo => flow(sign_to_dx::<u64>, sign_to_dx::<u64>),
        Mnemonic::Movnti => by_size!(size, T => by_form!(op, E => flow(mov_mr::<Fast, T, E>, mov_mr::<Whole, T, E>))),
        _ => return conditional(insn, op),
    })
}

fn conditional(insn: &Instruction, op: &mut Op) -> Option<Choice> {
    use iced_x86::ConditionCode;
    let cc = condition(insn)?;
    // LOOPE and LOOPNE have a condition code too.
    if insn.condition_code() == ConditionCode::None || insn.is_jcc_short_or_near() || insn.is_loop() || insn.is_loopcc()
    {
        return None;
    }
    let memory = memory_operand(insn, 0) || insn.op_count() > 1 && memory_operand(insn, 1);
    op.mode &= !0;
    Some(match (insn.op_count(), memory) {
        (1, false) => by_cc!(cc, CC => flow(setcc_r::<CC>, setcc_r::<CC>)),
        (1, true) => by_cc!(cc, CC => flow(setcc_m::<Fast, CC>, setcc_m::<Whole, CC>)),
        (_, false) => match operand_size(insn, 0) {
            2 => by_cc!(cc, CC => flow(cmov_r::<u16, CC>, cmov_r::<u16, CC>)),
            4 => by_cc!(cc, CC => flow(cmov_r::<u32, CC>, cmov_r::<u32, CC>)),
            _ => by_cc!(cc, CC => flow(cmov_r::<u64, CC>, cmov_r::<u64, CC>)),
        },
        (_, true) => match operand_size(insn, 0) {
            2 => by_cc!(cc, CC => flow(cmov_m::<Fast, u16, CC>, cmov_m::<Whole, u16, CC>)),
            4 => by_cc!(cc, CC => flow(cmov_m::<Fast, u32, CC>, cmov_m::<Whole, u32, CC>)),
            _ => by_cc!(cc, CC => flow(cmov_m::<Fast, u64, CC>, cmov_m::<Whole, u64, CC>)),
        },
    })
}

/// The low four bits of the opcode of a Jcc, SETcc or CMOVcc.
pub(super) fn condition(insn: &Instruction) -> Option<u8> {
    use iced_x86::ConditionCode as C;
    Some(match insn.condition_code() {
        C::o => 0,
        C::no => 1,
        C::b => 2,
        C::ae => 3,
        C::e => 4,
        C::ne => 5,
        C::be => 6,
        C::a => 7,
        C::s => 8,
        C::ns => 9,
        C::p => 10,
        C::np => 11,
        C::l => 12,
        C::ge => 13,
        C::le => 14,
        C::g => 15,
        _ => return None,
    })
}

fn sign_extend(insn: &Instruction, op: &mut Op) -> Choice {
    macro_rules! from {
        ($s:ty) => {
            by_size!(operand_size(insn, 0), T => if memory_operand(insn, 1) {
                by_form!(op, E => flow(sx_m::<Fast, $s, T, E>, sx_m::<Whole, $s, T, E>))
            } else {
                flow(sx_r::<$s, T>, sx_r::<$s, T>)
            })
        };
    }
    match operand_size(insn, 1) {
        1 => from!(u8),
        2 => from!(u16),
        _ => from!(u32),
    }
}

fn mov(insn: &Instruction, op: &mut Op) -> Option<Choice> {
    let special = |r: Register| r.is_segment_register() || r.is_cr() || r.is_dr();
    if special(insn.op0_register()) || special(insn.op1_register()) {
        return None;
    }
    let size = operand_size(insn, 0);
    let absolute = matches!(
        insn.code(),
        Code::Mov_AL_moffs8 | Code::Mov_AX_moffs16 | Code::Mov_EAX_moffs32 | Code::Mov_RAX_moffs64
    );
    let absolute_store = matches!(
        insn.code(),
        Code::Mov_moffs8_AL | Code::Mov_moffs16_AX | Code::Mov_moffs32_EAX | Code::Mov_moffs64_RAX
    );
    if absolute || absolute_store {
        op.imm = insn.memory_displacement64();
        return Some(
            by_size!(size, T => if absolute { flow(load_absolute::<Fast, T>, load_absolute::<Whole, T>) } else { flow(store_absolute::<Fast, T>, store_absolute::<Whole, T>) }),
        );
    }
    let immediate = !matches!(insn.op1_kind(), OpKind::Register | OpKind::Memory);
    Some(by_size!(size, T => match (memory_operand(insn, 0), memory_operand(insn, 1), immediate) {
        (true, _, true) => by_form!(op, E => flow(mov_mi::<Fast, T, E>, mov_mi::<Whole, T, E>)),
        (true, _, false) => by_form!(op, E => flow(mov_mr::<Fast, T, E>, mov_mr::<Whole, T, E>)),
        (false, true, _) => by_form!(op, E => flow(mov_rm::<Fast, T, E>, mov_rm::<Whole, T, E>)),
        (false, false, true) => flow(mov_ri::<T>, mov_ri::<T>),
        (false, false, false) => flow(mov_rr::<T>, mov_rr::<T>),
    }))
}

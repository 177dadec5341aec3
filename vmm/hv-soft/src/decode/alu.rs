//! Handlers for arithmetic and logic.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::{by_ea, by_size, memory_operand, operand_size};
use crate::exec::alu::*;
use crate::op::{Handler, Op};

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    Some(match insn.mnemonic() {
        Mnemonic::Add => binary::<Add>(insn, op),
        Mnemonic::Or => binary::<Or>(insn, op),
        Mnemonic::Adc => binary::<Adc>(insn, op),
        Mnemonic::Sbb => binary::<Sbb>(insn, op),
        Mnemonic::And => binary::<And>(insn, op),
        Mnemonic::Sub => binary::<Sub>(insn, op),
        Mnemonic::Xor => binary::<Xor>(insn, op),
        Mnemonic::Cmp => binary::<Cmp>(insn, op),
        Mnemonic::Test => binary::<Test>(insn, op),
        Mnemonic::Inc => unary::<Inc>(insn, op),
        Mnemonic::Dec => unary::<Dec>(insn, op),
        Mnemonic::Neg => unary::<Neg>(insn, op),
        Mnemonic::Not => unary::<Not>(insn, op),
        Mnemonic::Xadd => exchange::<Xadd>(insn, op),
        Mnemonic::Xchg => exchange::<Xchg>(insn, op),
        Mnemonic::Cmpxchg => by_size!(operand_size(insn, 0), T => if memory_operand(insn, 0) {
            by_ea!(op, E => cmpxchg_m::<T, E> as Handler)
        } else {
            cmpxchg_r::<T>
        }),
        _ => return None,
    })
}

fn binary<A: Alu>(insn: &Instruction, op: &mut Op) -> Handler {
    let immediate = !matches!(insn.op1_kind(), OpKind::Register | OpKind::Memory);
    by_size!(operand_size(insn, 0), T => match (memory_operand(insn, 0), memory_operand(insn, 1), immediate) {
        (true, _, true) => by_ea!(op, E => mi::<A, T, E> as Handler),
        (true, _, false) => by_ea!(op, E => mr::<A, T, E>),
        (false, true, _) => by_ea!(op, E => rm::<A, T, E>),
        (false, false, true) => ri::<A, T>,
        (false, false, false) => rr::<A, T>,
    })
}

fn unary<U: Unary>(insn: &Instruction, op: &mut Op) -> Handler {
    by_size!(operand_size(insn, 0), T => if memory_operand(insn, 0) {
        by_ea!(op, E => unary_m::<U, T, E> as Handler)
    } else {
        unary_r::<U, T>
    })
}

fn exchange<X: Exchange>(insn: &Instruction, op: &mut Op) -> Handler {
    if memory_operand(insn, 1) {
        // XCHG is symmetric; the register is the first operand here.
        op.src = op.dst;
    }
    by_size!(operand_size(insn, 0), T => if memory_operand(insn, 0) || memory_operand(insn, 1) {
        by_ea!(op, E => exchange_m::<X, T, E> as Handler)
    } else {
        exchange_r::<X, T>
    })
}

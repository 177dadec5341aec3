//! Handlers for arithmetic and logic.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::{by_ea, by_form, by_size, memory_operand, operand_size};
use crate::access::{Fast, Whole};
use crate::code::thread::{Choice, flow};
use crate::exec::alu::*;
use crate::op::Op;

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<Choice> {
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
            by_ea!(op, E => flow(cmpxchg_m::<Fast, T, E>, cmpxchg_m::<Whole, T, E>))
        } else {
            flow(cmpxchg_r::<T>, cmpxchg_r::<T>)
        }),
        _ => return None,
    })
}

fn binary<A: Alu>(insn: &Instruction, op: &mut Op) -> Choice {
    let immediate = !matches!(insn.op1_kind(), OpKind::Register | OpKind::Memory);
    by_size!(operand_size(insn, 0), T => match (memory_operand(insn, 0), memory_operand(insn, 1), immediate) {
        (true, _, true) => by_form!(op, E => flow(mi::<Fast, A, T, E>, mi::<Whole, A, T, E>)),
        (true, _, false) => by_form!(op, E => flow(mr::<Fast, A, T, E>, mr::<Whole, A, T, E>)),
        (false, true, _) => by_form!(op, E => flow(rm::<Fast, A, T, E>, rm::<Whole, A, T, E>)),
        (false, false, true) => flow(ri::<A, T>, ri::<A, T>),
        (false, false, false) => flow(rr::<A, T>, rr::<A, T>),
    })
}

fn unary<U: Unary>(insn: &Instruction, op: &mut Op) -> Choice {
    by_size!(operand_size(insn, 0), T => if memory_operand(insn, 0) {
        by_form!(op, E => flow(unary_m::<Fast, U, T, E>, unary_m::<Whole, U, T, E>))
    } else {
        flow(unary_r::<U, T>, unary_r::<U, T>)
    })
}

fn exchange<X: Exchange>(insn: &Instruction, op: &mut Op) -> Choice {
    if memory_operand(insn, 1) {
        // XCHG is symmetric; the register is the first operand here.
        op.src = op.dst;
    }
    by_size!(operand_size(insn, 0), T => if memory_operand(insn, 0) || memory_operand(insn, 1) {
        by_ea!(op, E => flow(exchange_m::<Fast, X, T, E>, exchange_m::<Whole, X, T, E>))
    } else {
        flow(exchange_r::<X, T>, exchange_r::<X, T>)
    })
}

//! Handlers for shifts and rotates.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::{by_size, memory_operand, operand_size};
use crate::access::{Fast, Whole};
use crate::code::thread::{Choice, flow};
use crate::exec::shifts::*;
use crate::op::Op;

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<Choice> {
    Some(match insn.mnemonic() {
        Mnemonic::Shl | Mnemonic::Sal => single::<Shl>(insn),
        Mnemonic::Shr => single::<Shr>(insn),
        Mnemonic::Sar => single::<Sar>(insn),
        Mnemonic::Rol => single::<Rol>(insn),
        Mnemonic::Ror => single::<Ror>(insn),
        Mnemonic::Rcl => single::<Rcl>(insn),
        Mnemonic::Rcr => single::<Rcr>(insn),
        Mnemonic::Shld => double::<true>(insn, op),
        Mnemonic::Shrd => double::<false>(insn, op),
        _ => return None,
    })
}

fn single<S: Shift>(insn: &Instruction) -> Choice {
    let by_cl = insn.op1_kind() == OpKind::Register && insn.op1_register() == Register::CL;
    by_size!(operand_size(insn, 0), T => match (memory_operand(insn, 0), by_cl) {
        (false, false) if insn.immediate(1) & 31 != 0 => flow(counted::<S, T>, counted::<S, T>),
        (false, false) => flow(ri::<S, T>, ri::<S, T>),
        (false, true) => flow(rc::<S, T>, rc::<S, T>),
        (true, false) => flow(mi::<Fast, S, T>, mi::<Whole, S, T>),
        (true, true) => flow(mc::<Fast, S, T>, mc::<Whole, S, T>),
    })
}

fn double<const LEFT: bool>(insn: &Instruction, op: &mut Op) -> Choice {
    op.aux = u32::from(insn.op2_kind() == OpKind::Register);
    by_size!(operand_size(insn, 0), T => if memory_operand(insn, 0) {
        flow(double_m::<T, LEFT>, double_m::<T, LEFT>)
    } else {
        flow(double_r::<T, LEFT>, double_r::<T, LEFT>)
    })
}

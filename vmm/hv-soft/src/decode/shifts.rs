//! Handlers for shifts and rotates.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::{by_size, memory_operand, operand_size};
use crate::exec::shifts::*;
use crate::op::{Handler, Op};

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<Handler> {
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

fn single<S: Shift>(insn: &Instruction) -> Handler {
    let by_cl = insn.op1_kind() == OpKind::Register && insn.op1_register() == Register::CL;
    by_size!(operand_size(insn, 0), T => match (memory_operand(insn, 0), by_cl) {
        (false, false) => ri::<S, T> as Handler,
        (false, true) => rc::<S, T>,
        (true, false) => mi::<S, T>,
        (true, true) => mc::<S, T>,
    })
}

fn double<const LEFT: bool>(insn: &Instruction, op: &mut Op) -> Handler {
    op.aux = u32::from(insn.op2_kind() == OpKind::Register);
    by_size!(operand_size(insn, 0), T => if memory_operand(insn, 0) {
        double_m::<T, LEFT> as Handler
    } else {
        double_r::<T, LEFT>
    })
}

//! Handlers for jumps, calls and the stack.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::moves::{by_cc, condition};
use super::{Flow, Lowered, memory_operand, operand_size};
use crate::exec::control::*;
use crate::op::{Handler, Op, mode};

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Lowered {
    if let Some(h) = stack(insn) {
        return Some((h, Flow::Next));
    }
    let direct = Flow::End(Some(insn.near_branch64()));
    let indirect = Flow::End(None);
    if insn.is_jcc_short_or_near() {
        let cc = condition(insn)?;
        return Some((by_cc!(cc, CC => jcc::<CC> as Handler), direct));
    }
    let count32 = |short: bool| if short { mode::ADDR32 } else { 0 };
    Some(match insn.mnemonic() {
        Mnemonic::Jmp if near(insn) => (jmp as Handler, direct),
        Mnemonic::Jmp if insn.is_jmp_near_indirect() && memory_operand(insn, 0) => (jmp_m, indirect),
        Mnemonic::Jmp if insn.is_jmp_near_indirect() => (jmp_r, indirect),
        Mnemonic::Call if near(insn) => (call, direct),
        Mnemonic::Call if insn.is_call_near_indirect() && memory_operand(insn, 0) => (call_m, indirect),
        Mnemonic::Call if insn.is_call_near_indirect() => (call_r, indirect),
        Mnemonic::Ret => (ret, indirect),
        Mnemonic::Jrcxz => (jcxz, direct),
        Mnemonic::Jecxz => {
            op.mode |= count32(true);
            (jcxz, direct)
        }
        Mnemonic::Loop | Mnemonic::Loope | Mnemonic::Loopne => {
            op.imm = match insn.mnemonic() {
                Mnemonic::Loop => 0,
                Mnemonic::Loope => 1,
                _ => 2,
            };
            op.mode |= count32(format!("{:?}", insn.code()).ends_with("ECX"));
            (looping, direct)
        }
        _ => return None,
    })
}

fn near(insn: &Instruction) -> bool {
    matches!(insn.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64)
}

fn stack(insn: &Instruction) -> Option<Handler> {
    let segment = insn.op0_kind() == OpKind::Register && insn.op0_register().is_segment_register();
    if segment {
        return None;
    }
    let narrow = |n: u32| operand_size(insn, n) == 2;
    Some(match insn.mnemonic() {
        Mnemonic::Push => match insn.op0_kind() {
            OpKind::Register if narrow(0) => push_r::<u16>,
            OpKind::Register => push_r::<u64>,
            OpKind::Memory if narrow(0) => push_m::<u16>,
            OpKind::Memory => push_m::<u64>,
            OpKind::Immediate8to16 | OpKind::Immediate16 => push_i::<u16>,
            _ => push_i::<u64>,
        },
        Mnemonic::Pop => match (insn.op0_kind(), narrow(0)) {
            (OpKind::Register, true) => pop_r::<u16>,
            (OpKind::Register, false) => pop_r::<u64>,
            (_, true) => pop_m::<u16>,
            (_, false) => pop_m::<u64>,
        },
        Mnemonic::Leave if insn.code() == iced_x86::Code::Leavew => leave16,
        Mnemonic::Leave => leave,
        Mnemonic::Enter if insn.code() == iced_x86::Code::Enterw_imm16_imm8 => enter::<u16>,
        Mnemonic::Enter => enter::<u64>,
        _ => return None,
    })
}

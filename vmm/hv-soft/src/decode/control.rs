//! Handlers for jumps, calls and the stack.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::moves::{by_cc, condition};
use super::{Flow, Lowered, memory_operand, operand_size};
use crate::access::{Fast, Whole};
use crate::code::thread::{self, Choice, branch, call_indirect, flow, jump};
use crate::exec::control::*;
use crate::op::{Op, mode};

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Lowered {
    if let Some(h) = stack(insn) {
        return Some((h, Flow::Next));
    }
    let direct = Flow::End(Some(insn.near_branch64()));
    let indirect = Flow::End(None);
    if insn.is_jcc_short_or_near() {
        let cc = condition(insn)?;
        return Some((by_cc!(cc, CC => branch(jcc::<CC>, jcc::<CC>)), direct));
    }
    let count32 = |short: bool| if short { mode::ADDR32 } else { 0 };
    Some(match insn.mnemonic() {
        Mnemonic::Jmp if near(insn) => (branch(jmp, jmp), direct),
        Mnemonic::Jmp if insn.is_jmp_near_indirect() && memory_operand(insn, 0) => {
            (jump(jmp_m::<Fast>, jmp_m::<Whole>), indirect)
        }
        Mnemonic::Jmp if insn.is_jmp_near_indirect() => (jump(jmp_r, jmp_r), indirect),
        Mnemonic::Call if near(insn) => (thread::call(call::<Fast>, call::<Whole>), direct),
        Mnemonic::Call if insn.is_call_near_indirect() && memory_operand(insn, 0) => {
            (call_indirect(call_m::<Fast>, call_m::<Whole>), indirect)
        }
        Mnemonic::Call if insn.is_call_near_indirect() => (call_indirect(call_r::<Fast>, call_r::<Whole>), indirect),
        Mnemonic::Ret => (thread::ret(ret::<Fast>, ret::<Whole>), indirect),
        Mnemonic::Jrcxz => (branch(jcxz, jcxz), direct),
        Mnemonic::Jecxz => {
            op.mode |= count32(true);
            (branch(jcxz, jcxz), direct)
        }
        Mnemonic::Loop | Mnemonic::Loope | Mnemonic::Loopne => {
            op.imm = match insn.mnemonic() {
                Mnemonic::Loop => 0,
                Mnemonic::Loope => 1,
                _ => 2,
            };
            op.mode |= count32(format!("{:?}", insn.code()).ends_with("ECX"));
            (branch(looping, looping), direct)
        }
        _ => return None,
    })
}

fn near(insn: &Instruction) -> bool {
    matches!(insn.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64)
}

fn stack(insn: &Instruction) -> Option<Choice> {
    let segment = insn.op0_kind() == OpKind::Register && insn.op0_register().is_segment_register();
    if segment {
        return None;
    }
    let narrow = |n: u32| operand_size(insn, n) == 2;
    Some(match insn.mnemonic() {
        Mnemonic::Push => match insn.op0_kind() {
            OpKind::Register if narrow(0) => flow(push_r::<Fast, u16>, push_r::<Whole, u16>),
            OpKind::Register => flow(push_r::<Fast, u64>, push_r::<Whole, u64>),
            OpKind::Memory if narrow(0) => flow(push_m::<Fast, u16>, push_m::<Whole, u16>),
            OpKind::Memory => flow(push_m::<Fast, u64>, push_m::<Whole, u64>),
            OpKind::Immediate8to16 | OpKind::Immediate16 => flow(push_i::<Fast, u16>, push_i::<Whole, u16>),
            _ => flow(push_i::<Fast, u64>, push_i::<Whole, u64>),
        },
        Mnemonic::Pop => match (insn.op0_kind(), narrow(0)) {
            (OpKind::Register, true) => flow(pop_r::<Fast, u16>, pop_r::<Whole, u16>),
            (OpKind::Register, false) => flow(pop_r::<Fast, u64>, pop_r::<Whole, u64>),
            (_, true) => flow(pop_m::<Fast, u16>, pop_m::<Whole, u16>),
            (_, false) => flow(pop_m::<Fast, u64>, pop_m::<Whole, u64>),
        },
        Mnemonic::Leave if insn.code() == iced_x86::Code::Leavew => flow(leave16, leave16),
        Mnemonic::Leave => flow(leave::<Fast>, leave::<Whole>),
        Mnemonic::Enter if insn.code() == iced_x86::Code::Enterw_imm16_imm8 => flow(enter::<u16>, enter::<u16>),
        Mnemonic::Enter => flow(enter::<u64>, enter::<u64>),
        _ => return None,
    })
}

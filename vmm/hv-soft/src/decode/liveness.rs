//! Flags that nobody reads: an instruction whose flags are all replaced before anything can see them gets a handler
//! that does not compute them.
//!
//! Flags are seen by instructions that read them, by whatever can fault or leave the block, and at the block's end.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::{by_form, operand_size};
use crate::access::{Fast, Whole};
use crate::code::Listing;
use crate::code::thread::{Choice, flow};
use crate::exec::alu::{self, Add, And, Dec, Inc, Neg, Or, Quiet, Sub, Xor};
use crate::exec::muldiv::{imul2_quiet, imul3_quiet};
use crate::exec::shifts::{self, Rol, Ror, Sar, Shl, Shr};
use crate::exec::{alu::Alu, alu::Unary, shifts::Shift};
use crate::op::Op;

/// What an instruction does with the flags that others left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Replaces all of them and cannot fault.
    Replaces,
    /// Replaces some, keeps the others, and cannot fault.
    Changes,
    /// Leaves them alone and cannot fault.
    Ignores,
    /// Replaces all or some of them after a memory access that may fault.
    ReplacesLate,
    /// Anything else.
    Shows,
}

/// Instructions whose flags nobody has seen yet, with the numbers of their ops.
pub(crate) type Unseen = Vec<(usize, Instruction)>;

/// Takes the next instruction into account, which became the last op of the list.
pub(super) fn next(insn: &Instruction, list: &mut Listing) {
    let effect = effect(insn);
    match effect {
        Effect::Ignores | Effect::Changes => {}
        Effect::Replaces => {
            while let Some((number, insn)) = list.unseen.pop() {
                let choice = list.op(number).and_then(|op| quiet(&insn, op));
                choice.into_iter().for_each(|choice| list.replace(number, choice));
            }
        }
        Effect::ReplacesLate | Effect::Shows => list.unseen.clear(),
    }
    if !matches!(effect, Effect::Ignores | Effect::Shows) {
        list.unseen.push((list.ops.len().wrapping_sub(1), *insn));
    }
}

/// General register of 4 or 8 bytes.
fn wide(r: Register) -> bool {
    r.is_gpr32() || r.is_gpr64()
}

fn effect(insn: &Instruction) -> Effect {
    let register = |n: u32| insn.op_kind(n) == OpKind::Register && insn.op_register(n).is_gpr();
    let memory = (0..insn.op_count()).any(|n| is_memory(insn.op_kind(n)));
    if insn.op_count() == 0 || !register(0) {
        return Effect::Shows;
    }
    match insn.mnemonic() {
        Mnemonic::Add | Mnemonic::Sub | Mnemonic::And | Mnemonic::Or | Mnemonic::Xor if memory => Effect::ReplacesLate,
        Mnemonic::Imul if memory && insn.op_count() > 1 => Effect::ReplacesLate,
        _ if memory && insn.mnemonic() != Mnemonic::Lea => Effect::Shows,
        Mnemonic::Add | Mnemonic::Sub | Mnemonic::And | Mnemonic::Or | Mnemonic::Xor => Effect::Replaces,
        Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Neg => Effect::Replaces,
        Mnemonic::Shl | Mnemonic::Shr | Mnemonic::Sar if counted(insn) => Effect::Replaces,
        Mnemonic::Shl | Mnemonic::Shr | Mnemonic::Sar | Mnemonic::Rol | Mnemonic::Ror => Effect::Changes,
        Mnemonic::Inc | Mnemonic::Dec => Effect::Changes,
        Mnemonic::Imul if insn.op_count() > 1 => Effect::Changes,
        Mnemonic::Lea | Mnemonic::Movzx | Mnemonic::Movsx | Mnemonic::Movsxd | Mnemonic::Bswap | Mnemonic::Not => {
            Effect::Ignores
        }
        Mnemonic::Mov if insn.op1_kind() != OpKind::Register || register(1) => Effect::Ignores,
        _ => Effect::Shows,
    }
}

fn is_memory(kind: OpKind) -> bool {
    !matches!(
        kind,
        OpKind::Register
            | OpKind::Immediate8
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate64
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64
    )
}

/// Whether a shift's count is an immediate that is not zero.
fn counted(insn: &Instruction) -> bool {
    let mask = if operand_size(insn, 0) == 8 { 63 } else { 31 };
    insn.op1_kind() == OpKind::Immediate8 && insn.immediate(1) & mask != 0
}

/// The handler of an instruction that leaves the flags as they are, where there is one.
fn quiet(insn: &Instruction, op: &Op) -> Option<Choice> {
    if !wide(insn.op0_register()) {
        return None;
    }
    match insn.mnemonic() {
        Mnemonic::Add => binary::<Add>(insn, op),
        Mnemonic::Sub => binary::<Sub>(insn, op),
        Mnemonic::And => binary::<And>(insn, op),
        Mnemonic::Or => binary::<Or>(insn, op),
        Mnemonic::Xor => binary::<Xor>(insn, op),
        Mnemonic::Inc => Some(unary::<Inc>(insn)),
        Mnemonic::Dec => Some(unary::<Dec>(insn)),
        Mnemonic::Neg => Some(unary::<Neg>(insn)),
        Mnemonic::Shl => shift::<Shl>(insn),
        Mnemonic::Shr => shift::<Shr>(insn),
        Mnemonic::Sar => shift::<Sar>(insn),
        Mnemonic::Rol => shift::<Rol>(insn),
        Mnemonic::Ror => shift::<Ror>(insn),
        Mnemonic::Imul => Some(multiply(insn)),
        _ => None,
    }
}

/// Runs an expression with a type alias for 4 or 8 bytes.
macro_rules! by_width {
    ($insn:expr, $t:ident => $e:expr) => {
        if $insn.op0_register().is_gpr32() {
            type $t = u32;
            $e
        } else {
            type $t = u64;
            $e
        }
    };
}

fn binary<A: Alu>(insn: &Instruction, op: &Op) -> Option<Choice> {
    Some(by_width!(insn, T => match insn.op1_kind() {
        OpKind::Register => flow(alu::rr::<Quiet<A>, T>, alu::rr::<Quiet<A>, T>),
        OpKind::Memory => by_form!(op, E => flow(alu::rm::<Fast, Quiet<A>, T, E>, alu::rm::<Whole, Quiet<A>, T, E>)),
        _ => flow(alu::ri::<Quiet<A>, T>, alu::ri::<Quiet<A>, T>),
    }))
}

fn unary<U: Unary>(insn: &Instruction) -> Choice {
    by_width!(insn, T => flow(alu::unary_r::<Quiet<U>, T>, alu::unary_r::<Quiet<U>, T>))
}

fn shift<S: Shift>(insn: &Instruction) -> Option<Choice> {
    if !counted(insn) {
        return None;
    }
    Some(by_width!(insn, T => flow(shifts::counted::<Quiet<S>, T>, shifts::counted::<Quiet<S>, T>)))
}

fn multiply(insn: &Instruction) -> Choice {
    let memory = insn.op1_kind() == OpKind::Memory;
    by_width!(insn, T => match (insn.op_count(), memory) {
        (2, false) => flow(imul2_quiet::<Fast, T, false>, imul2_quiet::<Whole, T, false>),
        (2, true) => flow(imul2_quiet::<Fast, T, true>, imul2_quiet::<Whole, T, true>),
        (_, false) => flow(imul3_quiet::<Fast, T, false>, imul3_quiet::<Whole, T, false>),
        (_, true) => flow(imul3_quiet::<Fast, T, true>, imul3_quiet::<Whole, T, true>),
    })
}

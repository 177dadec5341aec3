//! Which compares go together with the conditional jump after them.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::moves::{by_cc, condition};
use super::{by_size, memory_operand, operand_size};
use crate::access::{Fast, Whole};
use crate::code::thread::{Choice, branch};
use crate::ea::{Ea, Indexed, Simple};
use crate::exec::alu::{Add, And, Cmp, Sub, Test};
use crate::exec::fused::*;
use crate::op::Op;

/// The handler for `first` (already lowered to `op`) and the Jcc `jump` as one op.
pub(super) fn pair(first: &Instruction, op: &Op, jump: &Instruction) -> Option<Choice> {
    if !jump.is_jcc_short_or_near() {
        return None;
    }
    let cc = condition(jump)?;
    let size = operand_size(first, 0);
    let immediate = first.op_count() == 2 && !matches!(first.op1_kind(), OpKind::Register | OpKind::Memory);
    let memory = memory_operand(first, 0) || first.op_count() == 2 && memory_operand(first, 1);
    match (first.mnemonic(), memory) {
        (Mnemonic::Cmp, false) if immediate => {
            Some(by_cc!(cc, CC => by_size!(size, T => branch(ri::<Cmp, T, CC>, ri::<Cmp, T, CC>))))
        }
        (Mnemonic::Cmp, false) => {
            Some(by_cc!(cc, CC => by_size!(size, T => branch(rr::<Cmp, T, CC>, rr::<Cmp, T, CC>))))
        }
        (Mnemonic::Test, false) if immediate => {
            Some(by_cc!(cc, CC => by_size!(size, T => branch(ri::<Test, T, CC>, ri::<Test, T, CC>))))
        }
        (Mnemonic::Test, false) => {
            Some(by_cc!(cc, CC => by_size!(size, T => branch(rr::<Test, T, CC>, rr::<Test, T, CC>))))
        }
        (Mnemonic::Cmp | Mnemonic::Test, true) if op.simple() => with_memory::<Simple>(first, size, cc, immediate),
        (Mnemonic::Cmp | Mnemonic::Test, true) if op.indexed() => with_memory::<Indexed>(first, size, cc, immediate),
        (Mnemonic::Sub | Mnemonic::Add | Mnemonic::And | Mnemonic::Dec, false) => changing(first, size, cc, immediate),
        _ => None,
    }
}

fn with_memory<E: Ea>(first: &Instruction, size: usize, cc: u8, immediate: bool) -> Option<Choice> {
    Some(match (first.mnemonic(), memory_operand(first, 0), immediate) {
        (Mnemonic::Cmp, true, true) => {
            by_cc!(cc, CC => by_size!(size, T => branch(mi::<Fast, Cmp, T, E, CC>, mi::<Whole, Cmp, T, E, CC>)))
        }
        (Mnemonic::Cmp, true, false) => {
            by_cc!(cc, CC => by_size!(size, T => branch(mr::<Fast, Cmp, T, E, CC>, mr::<Whole, Cmp, T, E, CC>)))
        }
        (Mnemonic::Cmp, false, _) => {
            by_cc!(cc, CC => by_size!(size, T => branch(rm::<Fast, Cmp, T, E, CC>, rm::<Whole, Cmp, T, E, CC>)))
        }
        (_, _, true) => {
            by_cc!(cc, CC => by_size!(size, T => branch(mi::<Fast, Test, T, E, CC>, mi::<Whole, Test, T, E, CC>)))
        }
        (_, _, false) => {
            by_cc!(cc, CC => by_size!(size, T => branch(mr::<Fast, Test, T, E, CC>, mr::<Whole, Test, T, E, CC>)))
        }
    })
}

/// Those that also write their register, for 32 and 64 bits.
fn changing(first: &Instruction, size: usize, cc: u8, immediate: bool) -> Option<Choice> {
    macro_rules! wide {
        ($t:ty) => {
            match (first.mnemonic(), immediate) {
                (Mnemonic::Dec, _) => by_cc!(cc, CC => branch(dec::<$t, CC>, dec::<$t, CC>)),
                (Mnemonic::Sub, true) => by_cc!(cc, CC => branch(ri::<Sub, $t, CC>, ri::<Sub, $t, CC>)),
                (Mnemonic::Sub, false) => by_cc!(cc, CC => branch(rr::<Sub, $t, CC>, rr::<Sub, $t, CC>)),
                (Mnemonic::Add, true) => by_cc!(cc, CC => branch(ri::<Add, $t, CC>, ri::<Add, $t, CC>)),
                (Mnemonic::Add, false) => by_cc!(cc, CC => branch(rr::<Add, $t, CC>, rr::<Add, $t, CC>)),
                (_, true) => by_cc!(cc, CC => branch(ri::<And, $t, CC>, ri::<And, $t, CC>)),
                (_, false) => by_cc!(cc, CC => branch(rr::<And, $t, CC>, rr::<And, $t, CC>)),
            }
        };
    }
    match size {
        4 => Some(wide!(u32)),
        8 => Some(wide!(u64)),
        _ => None,
    }
}

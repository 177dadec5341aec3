//! Which compares go together with the conditional jump after them.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::moves::{by_cc, condition};
use super::{by_size, memory_operand, operand_size};
use crate::exec::alu::{Add, And, Cmp, Sub, Test};
use crate::exec::fused::*;
use crate::op::{Handler, Op};

/// The handler for `first` (already lowered to `op`) and the Jcc `jump` as one op.
pub(super) fn pair(first: &Instruction, op: &Op, jump: &Instruction) -> Option<Handler> {
    if !jump.is_jcc_short_or_near() {
        return None;
    }
    let cc = condition(jump)?;
    let size = operand_size(first, 0);
    let immediate = first.op_count() == 2 && !matches!(first.op1_kind(), OpKind::Register | OpKind::Memory);
    let memory = memory_operand(first, 0) || first.op_count() == 2 && memory_operand(first, 1);
    match (first.mnemonic(), memory) {
        (Mnemonic::Cmp, false) if immediate => Some(by_cc!(cc, CC => by_size!(size, T => ri::<Cmp, T, CC> as Handler))),
        (Mnemonic::Cmp, false) => Some(by_cc!(cc, CC => by_size!(size, T => rr::<Cmp, T, CC> as Handler))),
        (Mnemonic::Test, false) if immediate => {
            Some(by_cc!(cc, CC => by_size!(size, T => ri::<Test, T, CC> as Handler)))
        }
        (Mnemonic::Test, false) => Some(by_cc!(cc, CC => by_size!(size, T => rr::<Test, T, CC> as Handler))),
        (Mnemonic::Cmp | Mnemonic::Test, true) if op.simple() => with_memory(first, size, cc, immediate),
        (Mnemonic::Sub | Mnemonic::Add | Mnemonic::And | Mnemonic::Dec, false) => changing(first, size, cc, immediate),
        _ => None,
    }
}

fn with_memory(first: &Instruction, size: usize, cc: u8, immediate: bool) -> Option<Handler> {
    Some(match (first.mnemonic(), memory_operand(first, 0), immediate) {
        (Mnemonic::Cmp, true, true) => by_cc!(cc, CC => by_size!(size, T => mi::<Cmp, T, CC> as Handler)),
        (Mnemonic::Cmp, true, false) => by_cc!(cc, CC => by_size!(size, T => mr::<Cmp, T, CC> as Handler)),
        (Mnemonic::Cmp, false, _) => by_cc!(cc, CC => by_size!(size, T => rm::<Cmp, T, CC> as Handler)),
        (_, _, true) => by_cc!(cc, CC => by_size!(size, T => mi::<Test, T, CC> as Handler)),
        (_, _, false) => by_cc!(cc, CC => by_size!(size, T => mr::<Test, T, CC> as Handler)),
    })
}

/// Those that also write their register, for 32 and 64 bits.
fn changing(first: &Instruction, size: usize, cc: u8, immediate: bool) -> Option<Handler> {
    macro_rules! wide {
        ($t:ty) => {
            match (first.mnemonic(), immediate) {
                (Mnemonic::Dec, _) => by_cc!(cc, CC => dec::<$t, CC> as Handler),
                (Mnemonic::Sub, true) => by_cc!(cc, CC => ri::<Sub, $t, CC> as Handler),
                (Mnemonic::Sub, false) => by_cc!(cc, CC => rr::<Sub, $t, CC> as Handler),
                (Mnemonic::Add, true) => by_cc!(cc, CC => ri::<Add, $t, CC> as Handler),
                (Mnemonic::Add, false) => by_cc!(cc, CC => rr::<Add, $t, CC> as Handler),
                (_, true) => by_cc!(cc, CC => ri::<And, $t, CC> as Handler),
                (_, false) => by_cc!(cc, CC => rr::<And, $t, CC> as Handler),
            }
        };
    }
    match size {
        4 => Some(wide!(u32)),
        8 => Some(wide!(u64)),
        _ => None,
    }
}

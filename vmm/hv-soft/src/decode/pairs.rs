//! Neighbours that are carried out together: most of what a kernel or a compiler's function prologue is made of. Each
//! keeps its own op; the first one's handler carries out both, so that one jump less is to be predicted.

use iced_x86::{Code, Instruction, OpKind};

use crate::access::{Fast, Whole};
use crate::code::thread::{Quick, two};
use crate::ea::Simple;
use crate::exec::control::{pop_r, push_r};
use crate::exec::moves::{lea_simple, mov_mr, mov_ri, mov_rm, mov_rr};
use crate::op::Op;

/// Instructions that pairs are made of. None of them has to do with flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// MOV between 64-bit registers.
    Move,
    /// MOV between 32-bit registers.
    Move32,
    /// MOV of an immediate to a 32-bit register.
    Constant,
    /// MOV of 32 bits from `base + disp`.
    Load32,
    /// MOV of 64 bits from `base + disp`.
    Load,
    /// MOV of 64 bits to `base + disp`.
    Store,
    /// LEA of `base + disp` into 64 bits.
    Lea,
    /// PUSH of a 64-bit register.
    Push,
    /// POP of a 64-bit register.
    Pop,
}

/// What an instruction is that became this op. What `lower` chooses for each kind is what [`quick`] uses.
pub(super) fn kind(insn: &Instruction, op: &Op) -> Option<Kind> {
    let memory = |n: u32| insn.op_kind(n) == OpKind::Memory;
    Some(match insn.code() {
        Code::Mov_r64_rm64 | Code::Mov_rm64_r64 if !memory(0) && !memory(1) => Kind::Move,
        Code::Mov_r32_rm32 | Code::Mov_rm32_r32 if !memory(0) && !memory(1) => Kind::Move32,
        Code::Mov_r32_imm32 => Kind::Constant,
        Code::Mov_r32_rm32 if op.simple() => Kind::Load32,
        Code::Mov_r64_rm64 if op.simple() => Kind::Load,
        Code::Mov_rm64_r64 if op.simple() => Kind::Store,
        Code::Lea_r64_m if op.simple() => Kind::Lea,
        Code::Push_r64 => Kind::Push,
        Code::Pop_r64 => Kind::Pop,
        _ => return None,
    })
}

macro_rules! with_first {
    ($first:expr, $whole:expr, $second:expr) => {
        match $second {
            Kind::Move => two($first, $whole, mov_rr::<u64>),
            Kind::Move32 => two($first, $whole, mov_rr::<u32>),
            Kind::Constant => two($first, $whole, mov_ri::<u32>),
            Kind::Load32 => two($first, $whole, mov_rm::<Fast, u32, Simple>),
            Kind::Load => two($first, $whole, mov_rm::<Fast, u64, Simple>),
            Kind::Store => two($first, $whole, mov_mr::<Fast, u64, Simple>),
            Kind::Lea => two($first, $whole, lea_simple::<u64>),
            Kind::Push => two($first, $whole, push_r::<Fast, u64>),
            Kind::Pop => two($first, $whole, pop_r::<Fast, u64>),
        }
    };
}

/// The handler of the first of two ops that carries out both.
pub(super) fn quick(first: Kind, second: Kind) -> Quick {
    match first {
        Kind::Move => with_first!(mov_rr::<u64>, mov_rr::<u64>, second),
        Kind::Move32 => with_first!(mov_rr::<u32>, mov_rr::<u32>, second),
        Kind::Constant => with_first!(mov_ri::<u32>, mov_ri::<u32>, second),
        Kind::Load32 => with_first!(mov_rm::<Fast, u32, Simple>, mov_rm::<Whole, u32, Simple>, second),
        Kind::Load => with_first!(mov_rm::<Fast, u64, Simple>, mov_rm::<Whole, u64, Simple>, second),
        Kind::Store => with_first!(mov_mr::<Fast, u64, Simple>, mov_mr::<Whole, u64, Simple>, second),
        Kind::Lea => with_first!(lea_simple::<u64>, lea_simple::<u64>, second),
        Kind::Push => with_first!(push_r::<Fast, u64>, push_r::<Whole, u64>, second),
        Kind::Pop => with_first!(pop_r::<Fast, u64>, pop_r::<Whole, u64>, second),
    }
}

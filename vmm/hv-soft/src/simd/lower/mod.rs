//! From decoded MMX and SSE instructions to handlers.

mod gpr;
mod moves;
mod tables;

use iced_x86::Instruction;

use crate::op::{Handler, Op};

/// Chooses a handler for an SSE or MMX instruction.
pub(crate) fn lower(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    moves::lower(insn, op).or_else(|| tables::lower(insn, op)).or_else(|| gpr::lower(insn, op))
}

//! MMX and SSE to SSE4.2: what the instructions do, and the handlers that bring operands to it.

use iced_x86::Instruction;

use crate::op::{Handler, Op};

pub(crate) mod convert;
pub(crate) mod float;
pub(crate) mod fp;
pub(crate) mod int;
pub(crate) mod lanes;
pub(crate) mod mxcsr;
pub(crate) mod shift;
pub(crate) mod shuffle;
pub(crate) mod string;

#[cfg(all(test, target_arch = "x86_64"))]
mod tests;

/// Chooses a handler for an SSE or MMX instruction.
pub(crate) fn lower(_insn: &Instruction, _op: &mut Op) -> Option<Handler> {
    None
}

//! From bytes to ops: iced-x86 decodes, the `lower` functions choose a handler specialised by size and operand form.

use iced_x86::{CpuidFeature, Decoder, DecoderError, DecoderOptions, Instruction, Mnemonic};

use crate::code::block::near;
use crate::code::thread::{Choice, rare};
use crate::code::{Listing, MAX_BLOCK};
use crate::op::{Handler, Op};

mod alu;
mod control;
mod fuse;
pub(crate) mod liveness;
mod misc;
mod moves;
mod operands;
mod pairs;
mod shifts;
mod strings;
mod system;

pub(crate) use operands::{by_ea, by_form, by_size, memory_operand, operand_size};

/// Longest instruction in bytes.
pub(crate) const MAX_INSTRUCTION: usize = 15;

/// Without BMI1 and LZCNT, F3 0F BC and F3 0F BD are BSF and BSR; without CET and MPX their encodings are NOPs.
const OPTIONS: u32 = DecoderOptions::NO_MPFX_0FBC | DecoderOptions::NO_MPFX_0FBD | DecoderOptions::FORCE_RESERVED_NOP;

/// Modes that decoded code depends on; when one changes, all code is decoded again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Modes {
    /// CR0.EM or CR0.TS: x87, MMX and SSE instructions trap.
    pub(crate) no_fpu: bool,
    /// CR0.TS with CR0.MP: WAIT traps too.
    pub(crate) no_wait: bool,
    /// CR0.EM is set, or CR4.OSFXSR is clear: SSE instructions are undefined.
    pub(crate) no_sse: bool,
    /// The CPU model has nothing beyond x86-64-v1; constant for the life of a CPU.
    pub(crate) no_v2: bool,
}

/// What follows an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// The next instruction.
    Next,
    /// The block ends here; the target of its direct branch, relative to the page, if it has one.
    End(Option<u64>),
    /// The block ends after the next instruction (STI).
    EndAfterNext,
}

/// One instruction, ready to run.
pub(crate) struct Decoded {
    pub(crate) op: Op,
    /// Its handler as a plain function.
    pub(crate) plain: Handler,
    pub(crate) flow: Flow,
}

/// What became of a block.
pub(crate) struct DecodedBlock {
    /// Bytes of code covered.
    pub(crate) bytes: u64,
    /// Guest instructions.
    pub(crate) instructions: u32,
    /// Offset in the page after the last instruction.
    pub(crate) end: u64,
    /// Target of the branch at the end, relative to the page.
    pub(crate) target: Option<u64>,
}

/// A handler and what follows it: what the `lower` functions give.
pub(crate) type Lowered = Option<(Choice, Flow)>;

/// Decodes one instruction at `offset` of its page; `bytes` may go on into the next page.
pub(crate) fn one(bytes: &[u8], offset: u64, modes: Modes) -> Decoded {
    let mut decoder = Decoder::with_ip(64, bytes, offset, OPTIONS);
    let insn = decoder.decode();
    lower(&insn, offset, modes)
}

/// Whether `bytes` are the beginning of a longer instruction.
pub(crate) fn needs_more(bytes: &[u8]) -> bool {
    let mut decoder = Decoder::new(64, bytes, OPTIONS);
    let insn = decoder.decode();
    insn.is_invalid() && decoder.last_error() == DecoderError::NoMoreBytes
}

/// Decodes a block from the bytes of a page (all of it, or enough for a block), starting at `offset`. Gives no ops
/// where the first instruction crosses the end of these bytes or jumps too far.
pub(crate) fn block(page: &[u8], offset: u64, modes: Modes, list: &mut Listing) -> DecodedBlock {
    list.clear();
    let mut decoder = Decoder::with_ip(64, page.get(offset as usize..).unwrap_or(&[]), offset, OPTIONS);
    let (mut insn, mut previous) = (Instruction::default(), Instruction::default());
    let mut out = DecodedBlock { bytes: 0, instructions: 0, end: offset, target: None };
    let (mut left, mut first) = (MAX_BLOCK, None);
    let available = page.len() as u64;
    while left > 0 && out.end < available {
        decoder.decode_out(&mut insn);
        if insn.is_invalid() && available - out.end < MAX_INSTRUCTION as u64 {
            break;
        }
        let d = lower(&insn, out.end, modes);
        if matches!(d.flow, Flow::End(Some(target)) if !near(target)) {
            break;
        }
        if list.ops.is_empty() || !does_nothing(&insn) {
            add(list, &d, &previous, &insn, &mut first);
            liveness::next(&insn, list);
            previous = insn;
        }
        out.instructions += 1;
        out.end += insn.len() as u64;
        left -= 1;
        match d.flow {
            Flow::Next => {}
            Flow::EndAfterNext => left = left.min(1),
            Flow::End(target) => {
                out.target = target;
                break;
            }
        }
    }
    out.bytes = out.end - offset;
    out
}

/// Adds an instruction to a block: alone, as one op with the one before it, or as the second of a pair whose first is
/// of the kind `first`.
fn add(list: &mut Listing, d: &Decoded, previous: &Instruction, insn: &Instruction, first: &mut Option<pairs::Kind>) {
    let choice = Choice { plain: d.plain, quick: d.op.quick };
    if let Some(fused) = list.ops.last().and_then(|last| fuse::pair(previous, last, insn)) {
        list.fuse(fused);
        *first = None;
        return;
    }
    let kind = pairs::kind(insn, &d.op);
    match (first.take(), kind) {
        (Some(first), Some(second)) => list.push_second(d.op, choice, pairs::quick(first, second)),
        _ => {
            list.push(d.op, choice);
            *first = kind;
        }
    }
}

/// Whether an instruction needs no op unless a block begins with it.
fn does_nothing(insn: &Instruction) -> bool {
    insn.mnemonic() == Mnemonic::Nop && !insn.has_lock_prefix()
}

fn lower(insn: &Instruction, offset: u64, modes: Modes) -> Decoded {
    let len = insn.len() as u8;
    let undefined = rare(crate::exec::undefined);
    let mut op = Op::new(undefined.quick, offset as u16, len);
    if insn.is_invalid() {
        return Decoded { op, plain: undefined.plain, flow: Flow::End(None) };
    }
    operands::fill(insn, &mut op);
    let (choice, flow) = dispatch(insn, &mut op, modes).unwrap_or_else(|| {
        operands::report_missing(insn);
        (undefined, Flow::End(None))
    });
    op.quick = choice.quick;
    Decoded { op, plain: choice.plain, flow }
}

/// Whether an instruction came with x86-64-v2 (System V ABI for x86-64, "Micro-Architecture Levels").
fn needs_v2(insn: &Instruction) -> bool {
    use CpuidFeature::{CMPXCHG16B, POPCNT, SSE3, SSE4_1, SSE4_2, SSSE3};
    matches!(insn.mnemonic(), Mnemonic::Lahf | Mnemonic::Sahf)
        || insn.cpuid_features().iter().any(|f| matches!(*f, CMPXCHG16B | POPCNT | SSE3 | SSE4_1 | SSE4_2 | SSSE3))
}

/// Asks each topic in turn.
fn dispatch(insn: &Instruction, op: &mut Op, modes: Modes) -> Lowered {
    if modes.no_v2 && needs_v2(insn) {
        return Some((rare(crate::exec::undefined), Flow::End(None)));
    }
    if let Some(trap) = crate::exec::fp_trap(insn, modes) {
        return Some((rare(trap), Flow::End(None)));
    }
    let next = |c: Choice| (c, Flow::Next);
    let plain = |h: Handler| (rare(h), Flow::Next);
    alu::lower(insn, op)
        .or_else(|| moves::lower(insn, op))
        .map(next)
        .or_else(|| control::lower(insn, op))
        .or_else(|| shifts::lower(insn, op).map(next))
        .or_else(|| misc::lower(insn, op).map(next))
        .or_else(|| strings::lower(insn, op).map(next))
        .or_else(|| crate::simd::lower(insn, op).map(plain))
        .or_else(|| crate::x87::lower(insn, op).map(plain))
        .or_else(|| system::lower(insn, op).map(|(h, flow)| (rare(h), flow)))
}

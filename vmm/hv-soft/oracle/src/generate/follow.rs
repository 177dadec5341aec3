//! Simple instructions after the one under test, so that what the decoder makes of neighbours is tried.

use iced_x86::{Code, Encoder, FlowControl, Instruction, Register};

use super::{Case, special};
use crate::layout::Place;
use crate::mask;
use crate::rng::Rng;

/// Most bytes of a sequence; a slot has 26.
const MOST_BYTES: usize = 26;

/// Puts one or two instructions behind the case's own, which neither fault nor touch memory nor depend on flags that
/// are undefined by then.
pub(super) fn append(rng: &mut Rng, case: &mut Case, encoder: &mut Encoder) {
    let next = case.instruction.flow_control() == FlowControl::Next;
    if !next || !matches!(case.place, Place::Slot(_)) || special::takes_no_noise(case.instruction.code()) {
        return;
    }
    let undefined = mask::after(case).flags;
    for _ in 0..1 + rng.below(2) {
        let instruction = if rng.chance(60) { jump(rng, case) } else { plain(rng) };
        let reads = mask::rflags(instruction.rflags_read());
        if reads & undefined != 0 {
            continue;
        }
        encoder.set_buffer(Vec::with_capacity(16));
        let encoded = encoder.encode(&instruction, case.state.rip + case.len as u64);
        let code = encoder.take_buffer();
        if encoded.is_err() || case.len + code.len() > MOST_BYTES {
            return;
        }
        case.bytes[case.len..case.len + code.len()].copy_from_slice(&code);
        case.len += code.len();
        if instruction.flow_control() != FlowControl::Next {
            return;
        }
    }
}

fn jump(rng: &mut Rng, case: &Case) -> Instruction {
    let site = case.place.site();
    let mut instruction = Instruction::default();
    let first = Code::Jo_rel8_64 as usize;
    // O, NO, B, AE … each in three sizes.
    let code = Code::try_from(first + 3 * rng.below(16) as usize).unwrap_or(Code::Je_rel8_64);
    instruction.set_code(code);
    instruction.set_op0_kind(iced_x86::OpKind::NearBranch64);
    instruction.set_near_branch64(if rng.chance(50) { site.back } else { site.forward });
    instruction
}

fn plain(rng: &mut Rng) -> Instruction {
    let register = |rng: &mut Rng, first: Register| first + rng.below(16) as u32;
    let (a, b) = (register(rng, Register::RAX), register(rng, Register::RAX));
    let (c, d) = (register(rng, Register::EAX), register(rng, Register::EAX));
    let pick = |rng: &mut Rng, first: Code, step: usize| {
        Code::try_from(first as usize + step * rng.below(16) as usize).unwrap_or(Code::Nopd)
    };
    let made = match rng.below(8) {
        0 | 1 => Instruction::with1(pick(rng, Code::Seto_rm8, 1), Register::AL + rng.below(4) as u32),
        2 | 3 => Instruction::with2(pick(rng, Code::Cmovo_r64_rm64, 3), a, b),
        4 => Instruction::with2(Code::Adc_rm64_r64, a, b),
        5 => Instruction::with2(Code::Sbb_r32_rm32, c, d),
        6 => Instruction::with2(Code::Mov_r64_rm64, a, b),
        _ => Instruction::with2(Code::Test_rm32_r32, c, d),
    };
    made.unwrap_or_default()
}

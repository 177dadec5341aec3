//! Instructions whose operands must have something to do with each other, or random ones would only fault.

use iced_x86::{Code, MemorySize, Mnemonic, OpKind};

use super::{Draft, SCRUBS, Scrub, address, values};
use crate::forms::{Form, Lanes};
use crate::layout::{CODE_BASE, CODE_LEN, WINDOW_BASE, WINDOW_LEN};
use crate::rng::Rng;
use crate::state::{RAX, RBP, RCX, RDX, RSP, TF};

/// MXCSR.MM, which AMD processors may have and the model has not.
const MISALIGNED: u32 = 1 << 17;

/// What the memory operand holds.
pub(super) fn data(rng: &mut Rng, form: &Form, size: MemorySize) -> Vec<u8> {
    use MemorySize::*;
    match size {
        Fxsave_512Byte | Fxsave64_512Byte => fx_image(rng),
        FpuEnv14 | FpuState94 => environment(rng, 2),
        FpuEnv28 | FpuState108 => environment(rng, 4),
        Bcd => packed_decimal(rng),
        Float80 => f80(rng).to_vec(),
        Float64 if form.x87 => values::f64_bits(rng).to_le_bytes().to_vec(),
        Float32 if form.x87 => values::f32_bits(rng).to_le_bytes().to_vec(),
        _ => match form.code.mnemonic() {
            Mnemonic::Ldmxcsr if rng.chance(20) => (values::integer(rng) as u32 & !MISALIGNED).to_le_bytes().to_vec(),
            Mnemonic::Ldmxcsr => values::mxcsr(rng).to_le_bytes().to_vec(),
            Mnemonic::Fldcw => values::x87_words(rng).0.to_le_bytes().to_vec(),
            _ if form.lanes == Lanes::Integer && size.size() <= 8 => values::integer(rng).to_le_bytes().to_vec(),
            _ => values::vector(rng, form.lanes).to_vec(),
        },
    }
}

fn f80(rng: &mut Rng) -> [u8; 10] {
    let (mantissa, exponent) = values::f80_parts(rng);
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&mantissa.to_le_bytes());
    bytes[8..].copy_from_slice(&exponent.to_le_bytes());
    bytes
}

fn fx_image(rng: &mut Rng) -> Vec<u8> {
    let mut image = crate::state::CpuState::RESET;
    values::state(rng, &mut image, true);
    if rng.chance(10) {
        image.set_mxcsr(rng.next() as u32 & !MISALIGNED);
    }
    image.fx.to_vec()
}

/// FSTENV's and FSAVE's layout with fields of `width` bytes.
fn environment(rng: &mut Rng, width: usize) -> Vec<u8> {
    let (control, status, _) = values::x87_words(rng);
    let mut bytes = vec![0; 7 * width];
    for (index, value) in [control, status, rng.next() as u16].into_iter().enumerate() {
        bytes[index * width..index * width + 2].copy_from_slice(&value.to_le_bytes());
    }
    for _ in 0..8 {
        bytes.extend_from_slice(&f80(rng));
    }
    bytes
}

fn packed_decimal(rng: &mut Rng) -> Vec<u8> {
    let mut digits = |_| (rng.below(10) as u8) << 4 | rng.below(10) as u8;
    let mut bytes: Vec<u8> = (0..9).map(&mut digits).collect();
    bytes.push(if rng.chance(50) { 0x80 } else { 0 });
    if rng.chance(20) {
        bytes[rng.below(10) as usize] = rng.next() as u8;
    }
    bytes
}

/// Whether it is the processor's choice if a fault is taken for bytes that are not written.
pub(super) fn must_be_inside(code: Code) -> bool {
    matches!(code.mnemonic(), Mnemonic::Maskmovq | Mnemonic::Maskmovdqu)
}

/// Whether RBP is a pointer to the stack.
pub(super) fn uses_frame(code: Code) -> bool {
    matches!(code.mnemonic(), Mnemonic::Leave | Mnemonic::Enter)
}

/// What processors fill in differently: addresses of the last x87 instruction, reserved bytes.
pub(super) fn scrubs(code: Code, target: u64) -> [Scrub; SCRUBS] {
    use Mnemonic::*;
    let ranges: [(u64, u64); SCRUBS] = match (code.mnemonic(), code) {
        (Fxsave | Fxsave64, _) => [(6, 18), (28, 4), (416, 96)],
        (_, Code::Fnstenv_m14byte | Code::Fnsave_m94byte) => [(6, 8), (0, 0), (0, 0)],
        (Fnstenv | Fnsave, _) => [(12, 16), (0, 0), (0, 0)],
        _ => return [Scrub::default(); SCRUBS],
    };
    ranges.map(|(offset, len)| {
        let start = address::in_window(target).map_or(WINDOW_LEN, |base| base + offset as usize).min(WINDOW_LEN);
        Scrub { offset: start as u32, len: (len as usize).min(WINDOW_LEN - start) as u32 }
    })
}

/// Whether a prefix thrown in would give something that is undefined or that processors disagree about.
pub(super) fn takes_no_noise(code: Code) -> bool {
    use Mnemonic::*;
    // A 66 makes the count too high; F3 before XCHG r8, rAX is PAUSE to some decoders; LOCK makes CR0 CR8 on AMD.
    matches!(code.mnemonic(), Shld | Shrd | Xchg | Maskmovq | Maskmovdqu) || code.op_code().amd_lock_reg_bit()
}

/// Makes registers and data fit the instruction.
pub(super) fn prepare(draft: &mut Draft<'_>) {
    use Mnemonic::*;
    if draft.chosen.source || draft.chosen.destination {
        let count = draft.rng.below(12);
        draft.state.gpr[RCX] = if draft.rng.chance(85) { count } else { values::integer(draft.rng) };
    }
    match draft.form.code.mnemonic() {
        Div | Idiv => division(draft),
        Cmpxchg | Cmpxchg8b | Cmpxchg16b => compare_exchange(draft),
        Loop | Loope | Loopne | Jrcxz | Jecxz => {
            let garbage = if draft.rng.chance(50) { draft.rng.next() << 32 } else { 0 };
            draft.state.gpr[RCX] = draft.rng.below(3) | garbage;
        }
        Shld | Shrd => double_shift(draft),
        Bt | Bts | Btr | Btc => bit_string(draft),
        Jmp | Call | Ret => branch(draft),
        Popf | Popfq => {
            let flags = u64::from_le_bytes(draft.stack) & !TF;
            draft.stack = flags.to_le_bytes();
            // Only where all of it was chosen, or where none of it can be read: a stray TF would trap us.
            let inside = WINDOW_BASE + 64 + draft.rng.below(8000);
            let outside = WINDOW_BASE + WINDOW_LEN as u64 - 1 + draft.rng.below(16);
            draft.state.gpr[RSP] = if draft.rng.chance(90) { inside } else { outside };
        }
        Enter => enter(draft),
        Leave => draft.state.gpr[RBP] = address::usual_target(draft.rng, 16),
        Pcmpestri | Pcmpestrm | Pcmpestri64 | Pcmpestrm64 => {
            for register in [RAX, RDX] {
                if draft.rng.chance(70) {
                    draft.state.gpr[register] = draft.rng.between(-20, 20) as u64;
                }
            }
            draft.avoid = 1 << RAX | 1 << RDX;
        }
        _ => {}
    }
}

/// Its fault at the last write leaves earlier ones in memory on the host; so either all of it fits or none.
fn enter(draft: &mut Draft<'_>) {
    let size = draft.rng.below(2048) as u16;
    draft.instruction.set_immediate16(size);
    draft.state.gpr[RSP] = match draft.rng.below(10) {
        0 => draft.rng.next() | 1 << 62,
        _ => WINDOW_BASE + 4096 + 8 * draft.rng.below(500) + if draft.rng.chance(20) { draft.rng.below(8) } else { 0 },
    };
    draft.state.gpr[RBP] = WINDOW_BASE + 1024 + 8 * draft.rng.below(1000);
}

fn division(draft: &mut Draft<'_>) {
    let rax = draft.state.gpr[RAX];
    let rdx = match draft.rng.below(10) {
        0..=3 => 0,
        4..=5 => draft.rng.below(64),
        6..=7 if draft.size <= 4 => (rax as i32 >> 31) as u64,
        6..=7 => (rax as i64 >> 63) as u64,
        _ => draft.state.gpr[RDX],
    };
    draft.state.gpr[RDX] = rdx;
    if draft.rng.chance(30) {
        draft.state.gpr[RAX] &= 0xfff;
    }
    if draft.rng.chance(75) {
        draft.avoid = 1 << RAX | 1 << RDX;
    }
}

fn compare_exchange(draft: &mut Draft<'_>) {
    draft.avoid = 1 << RAX | 1 << RDX;
    if draft.rng.chance(50) {
        return;
    }
    draft.data.resize(16, 0);
    let word = |index: usize| draft.data[index..].iter().take(8).rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    let (low, high) = (word(0), word(8));
    (draft.state.gpr[RAX], draft.state.gpr[RDX]) = match (draft.form.code.mnemonic(), draft.chosen.general[0]) {
        (Mnemonic::Cmpxchg8b, _) => (low & 0xffff_ffff, low >> 32),
        (Mnemonic::Cmpxchg16b, _) => (low, high),
        (_, Some(register)) if draft.chosen.memory.is_none() => (draft.state.gpr[register], high),
        _ => (low, high),
    };
}

/// A count above the operand size is undefined for 16 bits, also in memory: it is not tried.
fn double_shift(draft: &mut Draft<'_>) {
    use Code::*;
    let allowed = draft.rng.below(17);
    match draft.form.code {
        Shld_rm16_r16_imm8 | Shrd_rm16_r16_imm8 => draft.instruction.set_immediate8(allowed as u8 | 0x20),
        Shld_rm16_r16_CL | Shrd_rm16_r16_CL => {
            draft.state.gpr[RCX] = (draft.state.gpr[RCX] & !0x1f) | allowed;
            draft.avoid = 1 << RCX;
        }
        _ => {}
    }
}

/// The register is an offset in bits from the operand; most stay near.
fn bit_string(draft: &mut Draft<'_>) {
    if draft.instruction.op1_kind() != OpKind::Register || draft.chosen.memory.is_none() || draft.rng.chance(10) {
        return;
    }
    if let Some(register) = draft.chosen.general[1] {
        let above = if draft.form.code.op_code().operand_size() < 64 { draft.rng.next() << 32 } else { 0 };
        let bits = draft.rng.between(-4096, 4096);
        draft.state.gpr[register] = if above == 0 { bits as u64 } else { above | (bits as u64 & 0xffff_ffff) };
        draft.avoid = 1 << register;
    }
}

fn branch(draft: &mut Draft<'_>) {
    let site = draft.site;
    let goal = match draft.rng.below(100) {
        0..=44 => site.back,
        45..=84 => site.forward,
        85..=89 => address::target(draft.rng, 1),
        90..=94 => site.forward + 10,
        _ => values::integer(draft.rng),
    };
    // To itself would not end, and others' landings look like its own.
    let own = [site.back, site.forward, site.forward + 10].contains(&goal);
    let in_code = goal.wrapping_sub(CODE_BASE) < CODE_LEN as u64;
    let goal = if in_code && !own { site.back } else { goal };
    draft.stack = goal.to_le_bytes();
    draft.data = goal.to_le_bytes().to_vec();
    if let Some(register) = draft.chosen.general[0] {
        draft.state.gpr[register] = goal;
    }
}

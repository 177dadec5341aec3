//! Operands of a form: which register, which immediate, which branch target.

use iced_x86::{Instruction, OpCodeOperandKind, OpKind, Register};

use crate::forms::Form;
use crate::layout::Site;
use crate::rng::Rng;

use super::values;

/// Numbers of the registers that were chosen, so that they can be given values.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Chosen {
    /// Operand index of the explicit memory operand.
    pub(crate) memory: Option<u32>,
    /// Full numbers of general registers, by operand.
    pub(crate) general: [Option<usize>; 3],
    /// XMM registers, by operand.
    pub(crate) xmm: [Option<usize>; 3],
    /// MMX registers, by operand.
    pub(crate) mm: [Option<usize>; 3],
    /// `RSI` is a pointer.
    pub(crate) source: bool,
    /// `RDI` is a pointer.
    pub(crate) destination: bool,
    /// `RBX` is a pointer.
    pub(crate) table: bool,
    /// It may go elsewhere.
    pub(crate) branch: bool,
    /// A choice of `moffs`: its address must be 64 bits wide.
    pub(crate) offset_only: bool,
}

/// Chooses all operands; the memory operand's address comes later.
pub(crate) fn choose(rng: &mut Rng, form: &Form, instruction: &mut Instruction, site: Site) -> Option<Chosen> {
    let mut chosen = Chosen::default();
    let memory_form = rng.chance(60);
    let high_bytes = rng.chance(30);
    for (index, &kind) in form.kinds.iter().enumerate() {
        one(rng, instruction, index as u32, kind, &mut chosen, Choices { memory_form, high_bytes, site })?;
    }
    Some(chosen)
}

#[derive(Clone, Copy)]
struct Choices {
    memory_form: bool,
    high_bytes: bool,
    site: Site,
}

fn one(
    rng: &mut Rng,
    instruction: &mut Instruction,
    index: u32,
    kind: OpCodeOperandKind,
    chosen: &mut Chosen,
    choices: Choices,
) -> Option<()> {
    use OpCodeOperandKind::*;
    let mut number = rng.below(16) as u32;
    if number >= 8 && rng.chance(30) {
        number -= 8; // low ones somewhat more often: they need no prefix
    }
    let either = matches!(kind, r8_or_mem | r16_or_mem | r32_or_mem | r64_or_mem | mm_or_mem | xmm_or_mem);
    if matches!(kind, mem) || (either && choices.memory_form) {
        instruction.set_op_kind(index, OpKind::Memory);
        chosen.memory = Some(index);
        return Some(());
    }
    let register = match kind {
        r8_or_mem | r8_reg | r8_opcode => byte_register(number, choices.high_bytes),
        r16_or_mem | r16_reg | r16_reg_mem | r16_rm | r16_opcode => Register::AX + number,
        r32_or_mem | r32_reg | r32_reg_mem | r32_rm | r32_opcode => Register::EAX + number,
        r64_or_mem | r64_reg | r64_reg_mem | r64_rm | r64_opcode => Register::RAX + number,
        mm_or_mem | mm_reg | mm_rm => Register::MM0 + number % 8,
        xmm_or_mem | xmm_reg | xmm_rm => Register::XMM0 + number,
        sti_opcode => Register::ST0 + number % 8,
        st0 => Register::ST0,
        seg_reg => Register::ES + number % 6,
        cr_reg => rng.pick(&[Register::CR0, Register::CR2, Register::CR3, Register::CR4, Register::CR8]),
        dr_reg => Register::DR0 + number % 8,
        es => Register::ES,
        cs => Register::CS,
        ss => Register::SS,
        ds => Register::DS,
        fs => Register::FS,
        gs => Register::GS,
        al => Register::AL,
        cl => Register::CL,
        ax => Register::AX,
        dx => Register::DX,
        eax => Register::EAX,
        rax => Register::RAX,
        _ => return other(rng, instruction, index, kind, chosen, choices.site),
    };
    note(chosen, index, register);
    instruction.set_op_kind(index, OpKind::Register);
    instruction.set_op_register(index, register);
    Some(())
}

fn byte_register(number: u32, high: bool) -> Register {
    if high && number < 8 { Register::AL + number } else { byte_by_number(number) }
}

/// AL, CL, DL, BL, SPL … R15L.
fn byte_by_number(number: u32) -> Register {
    if number < 4 { Register::AL + number } else { Register::SPL + (number - 4) }
}

fn note(chosen: &mut Chosen, index: u32, register: Register) {
    let slot = index.min(2) as usize;
    if register.is_gpr() {
        let full = register.full_register() as usize - Register::RAX as usize;
        chosen.general[slot] = Some(full);
    } else if register.is_xmm() {
        chosen.xmm[slot] = Some(register as usize - Register::XMM0 as usize);
    } else if register.is_mm() {
        chosen.mm[slot] = Some(register as usize - Register::MM0 as usize);
    }
}

fn other(
    rng: &mut Rng,
    instruction: &mut Instruction,
    index: u32,
    kind: OpCodeOperandKind,
    chosen: &mut Chosen,
    site: Site,
) -> Option<()> {
    use OpCodeOperandKind::*;
    let narrow = rng.chance(10);
    let pick = |narrow_kind: OpKind, wide_kind: OpKind| if narrow { narrow_kind } else { wide_kind };
    match kind {
        mem_offs => {
            chosen.memory = Some(index);
            chosen.offset_only = true;
            instruction.set_op_kind(index, OpKind::Memory);
        }
        seg_rSI => {
            chosen.source = true;
            instruction.set_op_kind(index, pick(OpKind::MemorySegESI, OpKind::MemorySegRSI));
        }
        es_rDI => {
            chosen.destination = true;
            // Both pointers have one width.
            let earlier = (0..index).any(|operand| instruction.op_kind(operand) == OpKind::MemorySegESI);
            let wide = matches!(instruction.op0_kind(), OpKind::MemorySegRSI) && index > 0;
            let kind = if earlier || (narrow && !wide) { OpKind::MemoryESEDI } else { OpKind::MemoryESRDI };
            instruction.set_op_kind(index, kind);
        }
        seg_rDI => {
            chosen.destination = true;
            instruction.set_op_kind(index, pick(OpKind::MemorySegEDI, OpKind::MemorySegRDI));
        }
        seg_rBX_al => {
            chosen.table = true;
            instruction.set_op_kind(index, OpKind::Memory);
            instruction.set_memory_base(if narrow { Register::EBX } else { Register::RBX });
            instruction.set_memory_index(Register::AL);
        }
        br64_1 | br64_4 => {
            chosen.branch = true;
            instruction.set_op_kind(index, OpKind::NearBranch64);
            instruction.set_near_branch64(if rng.chance(50) { site.back } else { site.forward });
        }
        _ => return immediate(rng, instruction, index, kind),
    }
    Some(())
}

fn immediate(rng: &mut Rng, instruction: &mut Instruction, index: u32, kind: OpCodeOperandKind) -> Option<()> {
    use OpCodeOperandKind::*;
    let value = values::integer(rng);
    match kind {
        imm8 if index > 0 && instruction.op_kind(index - 1) == OpKind::Immediate16 => {
            instruction.set_op_kind(index, OpKind::Immediate8_2nd);
            instruction.set_immediate8_2nd(value as u8);
        }
        imm8 => set_immediate(instruction, index, OpKind::Immediate8, value),
        imm8_const_1 => set_immediate(instruction, index, OpKind::Immediate8, 1),
        imm8sex16 => set_immediate(instruction, index, OpKind::Immediate8to16, value as i8 as u64),
        imm8sex32 => set_immediate(instruction, index, OpKind::Immediate8to32, value as i8 as u64),
        imm8sex64 => set_immediate(instruction, index, OpKind::Immediate8to64, value as i8 as u64),
        imm16 => set_immediate(instruction, index, OpKind::Immediate16, value),
        imm32 => set_immediate(instruction, index, OpKind::Immediate32, value),
        imm32sex64 => set_immediate(instruction, index, OpKind::Immediate32to64, value as i32 as u64),
        imm64 => set_immediate(instruction, index, OpKind::Immediate64, value),
        _ => return Option::None,
    }
    Some(())
}

fn set_immediate(instruction: &mut Instruction, index: u32, kind: OpKind, value: u64) {
    instruction.set_op_kind(index, kind);
    match kind {
        OpKind::Immediate8 => instruction.set_immediate8(value as u8),
        OpKind::Immediate8to16 => instruction.set_immediate8to16(value as i16),
        OpKind::Immediate8to32 => instruction.set_immediate8to32(value as i32),
        OpKind::Immediate8to64 => instruction.set_immediate8to64(value as i64),
        OpKind::Immediate16 => instruction.set_immediate16(value as u16),
        OpKind::Immediate32 => instruction.set_immediate32(value as u32),
        OpKind::Immediate32to64 => instruction.set_immediate32to64(value as i64),
        _ => instruction.set_immediate64(value),
    }
}

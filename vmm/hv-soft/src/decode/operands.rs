//! Operands: fills the fields of an op that do not depend on what the instruction does.

use std::collections::HashSet;
use std::sync::Mutex;

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use crate::op::{Op, mode, slot};

/// Runs an expression with a type alias for the operand size in bytes.
macro_rules! by_size {
    ($size:expr, $t:ident => $e:expr) => {
        match $size {
            1 => {
                type $t = u8;
                $e
            }
            2 => {
                type $t = u16;
                $e
            }
            4 => {
                type $t = u32;
                $e
            }
            _ => {
                type $t = u64;
                $e
            }
        }
    };
}

/// Runs an expression with a type alias for the op's address form.
macro_rules! by_ea {
    ($op:expr, $e:ident => $x:expr) => {
        if $op.simple() {
            type $e = $crate::ea::Simple;
            $x
        } else {
            type $e = $crate::ea::Full;
            $x
        }
    };
}

/// The same with a form more, for the instructions that occur most.
macro_rules! by_form {
    ($op:expr, $e:ident => $x:expr) => {
        if $op.simple() {
            type $e = $crate::ea::Simple;
            $x
        } else if $op.indexed() {
            type $e = $crate::ea::Indexed;
            $x
        } else {
            type $e = $crate::ea::Full;
            $x
        }
    };
}

pub(crate) use {by_ea, by_form, by_size};

/// Size in bytes of operand `n`.
pub(crate) fn operand_size(insn: &Instruction, n: u32) -> usize {
    match insn.op_kind(n) {
        OpKind::Register => insn.op_register(n).size(),
        _ => insn.memory_size().size(),
    }
}

/// Whether operand `n` is in memory (the explicit kind, with ModRM).
pub(crate) fn memory_operand(insn: &Instruction, n: u32) -> bool {
    insn.op_kind(n) == OpKind::Memory
}

/// Register number as handlers expect it; bit 6 marks AH, CH, DH and BH.
fn number(r: Register) -> u8 {
    if r.is_gpr8() {
        let n = (r as u32 - Register::AL as u32) as u8;
        return match n {
            0..=3 => n,
            4..=7 => (n - 4) | 0x40,
            _ => n - 4,
        };
    }
    r.number() as u8
}

/// Fills immediates, registers, the memory operand and prefixes.
pub(crate) fn fill(insn: &Instruction, op: &mut Op) {
    let mut immediates = 0;
    for k in 0..insn.op_count() {
        match insn.op_kind(k) {
            OpKind::Register if k == 0 => op.dst = number(insn.op_register(0)),
            OpKind::Register if k == 1 => op.src = number(insn.op_register(1)),
            OpKind::Memory => memory(insn, op),
            OpKind::Immediate8
            | OpKind::Immediate8_2nd
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate64
            | OpKind::Immediate8to16
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64 => {
                if immediates == 0 {
                    op.imm = insn.immediate(k);
                } else {
                    op.aux = insn.immediate(k) as u32;
                }
                immediates += 1;
            }
            _ => {}
        }
    }
    if insn.has_rep_prefix() {
        op.mode |= mode::REP;
    }
    if insn.has_repne_prefix() {
        op.mode |= mode::REPNE;
    }
    match insn.segment_prefix() {
        Register::FS => op.seg = slot::FS,
        Register::GS => op.seg = slot::GS,
        _ => {}
    }
}

fn memory(insn: &Instruction, op: &mut Op) {
    let mut simple = true;
    let mut disp = insn.memory_displacement64();
    op.mode &= !mode::SIMPLE;
    match insn.memory_base() {
        Register::None => {}
        Register::RIP => op.base = slot::PAGE,
        Register::EIP => {
            op.base = slot::PAGE;
            op.mode |= mode::ADDR32;
            disp = i64::from(disp as i32) as u64;
            simple = false;
        }
        r => {
            op.base = r.number() as u8;
            if r.size() == 4 {
                op.mode |= mode::ADDR32;
                simple = false;
            }
        }
    }
    if insn.memory_index() != Register::None {
        op.index = insn.memory_index().number() as u8;
        op.mode |= insn.memory_index_scale().trailing_zeros() as u8;
        if insn.memory_index().size() == 4 {
            op.mode |= mode::ADDR32;
        }
        simple = false;
    }
    if insn.memory_base() == Register::None
        && insn.memory_index() == Register::None
        && insn.memory_displ_size() == 4
        && disp <= u64::from(u32::MAX)
    {
        // With an address size of 32 bits; also where that does not show, because a bit offset may come on top.
        op.mode |= mode::ADDR32;
        simple = false;
    }
    if matches!(insn.memory_segment(), Register::FS | Register::GS) {
        simple = false;
    }
    // Prefixes for ES, CS, SS and DS mean nothing in 64-bit mode, not even for the choice of #SS or #GP.
    let stack = matches!(insn.memory_base(), Register::RSP | Register::ESP | Register::RBP | Register::EBP);
    if stack && !matches!(insn.segment_prefix(), Register::FS | Register::GS) {
        op.mode |= mode::STACK;
    }
    match i32::try_from(disp as i64) {
        Ok(d) => op.disp = d,
        Err(_) if op.base == slot::PAGE => {
            // A rip-relative displacement near the end of its range: page offset and length carried it over.
            op.index = slot::FAR;
            op.disp = (disp as i64).wrapping_sub(slot::FAR_STEP as i64) as i32;
            simple = false;
        }
        Err(_) => op.disp = disp as i32,
    }
    if simple {
        op.mode |= mode::SIMPLE;
    }
}

/// Logs the name of an instruction that is not implemented, once.
pub(crate) fn report_missing(insn: &Instruction) {
    static SEEN: Mutex<Option<HashSet<Mnemonic>>> = Mutex::new(None);
    let Ok(mut seen) = SEEN.lock() else { return };
    if seen.get_or_insert_with(HashSet::new).insert(insn.mnemonic()) {
        log::warn!("guest instruction {:?} ({:?}) is not implemented: #UD", insn.mnemonic(), insn.code());
    }
}

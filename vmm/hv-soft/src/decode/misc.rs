//! Handlers for multiplication, division, bits and flags.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::{by_size, memory_operand, operand_size};
use crate::exec::bits::*;
use crate::exec::moves::nop;
use crate::exec::muldiv::*;
use crate::op::{Handler, Op, mode};

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    Some(match insn.mnemonic() {
        Mnemonic::Mul | Mnemonic::Div | Mnemonic::Idiv | Mnemonic::Imul => multiply(insn),
        Mnemonic::Bt => test::<BT>(insn),
        Mnemonic::Bts => test::<BTS>(insn),
        Mnemonic::Btr => test::<BTR>(insn),
        Mnemonic::Btc => test::<BTC>(insn),
        Mnemonic::Bsf | Mnemonic::Bsr | Mnemonic::Popcnt => scans(insn),
        Mnemonic::Crc32 => by_size!(operand_size(insn, 1), T => if memory_operand(insn, 1) {
            crc32::<T, true> as Handler
        } else {
            crc32::<T, false>
        }),
        Mnemonic::Cmpxchg8b => cmpxchg8b,
        Mnemonic::Cmpxchg16b => cmpxchg16b,
        Mnemonic::Clc => clc,
        Mnemonic::Stc => stc,
        Mnemonic::Cmc => cmc,
        Mnemonic::Cld => cld,
        Mnemonic::Std => std,
        Mnemonic::Lahf => lahf,
        Mnemonic::Sahf => sahf,
        Mnemonic::Xlatb => {
            if insn.memory_base().size() == 4 {
                op.mode |= mode::ADDR32;
            }
            xlatb
        }
        Mnemonic::Rdrand | Mnemonic::Rdseed => by_size!(operand_size(insn, 0), T => random::<T>),
        Mnemonic::Nop
        | Mnemonic::Pause
        | Mnemonic::Endbr64
        | Mnemonic::Prefetcht0
        | Mnemonic::Prefetcht1
        | Mnemonic::Prefetcht2
        | Mnemonic::Prefetchnta
        | Mnemonic::Prefetchw
        | Mnemonic::Prefetch
        | Mnemonic::Prefetchwt1
        | Mnemonic::Reservednop
        | Mnemonic::Lfence => nop,
        Mnemonic::Mfence | Mnemonic::Sfence => crate::exec::fence,
        _ => return None,
    })
}

fn multiply(insn: &Instruction) -> Handler {
    macro_rules! one {
        ($f:ident) => {
            by_size!(operand_size(insn, 0), T => if memory_operand(insn, 0) {
                $f::<T, true> as Handler
            } else {
                $f::<T, false>
            })
        };
    }
    macro_rules! second {
        ($f:ident) => {
            by_size!(operand_size(insn, 0), T => if memory_operand(insn, 1) {
                $f::<T, true> as Handler
            } else {
                $f::<T, false>
            })
        };
    }
    match (insn.mnemonic(), insn.op_count()) {
        (Mnemonic::Mul, _) => one!(mul),
        (Mnemonic::Div, _) => one!(div),
        (Mnemonic::Idiv, _) => one!(idiv),
        (_, 1) => one!(imul1),
        (_, 2) => second!(imul2),
        _ => second!(imul3),
    }
}

fn test<const OP: u8>(insn: &Instruction) -> Handler {
    let register = insn.op1_kind() == OpKind::Register;
    by_size!(operand_size(insn, 0), T => match (memory_operand(insn, 0), register) {
        (false, true) => bt_rr::<T, OP> as Handler,
        (false, false) => bt_ri::<T, OP>,
        (true, true) => bt_mr::<T, OP>,
        (true, false) => bt_mi::<T, OP>,
    })
}

fn scans(insn: &Instruction) -> Handler {
    by_size!(operand_size(insn, 0), T => match (insn.mnemonic(), memory_operand(insn, 1)) {
        (Mnemonic::Bsf, false) => scan::<T, true, false> as Handler,
        (Mnemonic::Bsf, true) => scan::<T, true, true>,
        (Mnemonic::Bsr, false) => scan::<T, false, false>,
        (Mnemonic::Bsr, true) => scan::<T, false, true>,
        (_, false) => popcnt::<T, false>,
        (_, true) => popcnt::<T, true>,
    })
}

//! Handlers for multiplication, division, bits and flags.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::{by_size, memory_operand, operand_size};
use crate::access::{Fast, Whole};
use crate::code::thread::{Choice, flow};
use crate::exec::bits::*;
use crate::exec::moves::nop;
use crate::exec::muldiv::*;
use crate::op::{Op, mode};

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<Choice> {
    Some(match insn.mnemonic() {
        Mnemonic::Mul | Mnemonic::Div | Mnemonic::Idiv | Mnemonic::Imul => multiply(insn),
        Mnemonic::Bt => test::<BT>(insn),
        Mnemonic::Bts => test::<BTS>(insn),
        Mnemonic::Btr => test::<BTR>(insn),
        Mnemonic::Btc => test::<BTC>(insn),
        Mnemonic::Bsf | Mnemonic::Bsr | Mnemonic::Popcnt => scans(insn),
        Mnemonic::Crc32 => by_size!(operand_size(insn, 1), T => if memory_operand(insn, 1) {
            flow(crc32::<T, true>, crc32::<T, true>)
        } else {
            flow(crc32::<T, false>, crc32::<T, false>)
        }),
        Mnemonic::Cmpxchg8b => flow(cmpxchg8b, cmpxchg8b),
        Mnemonic::Cmpxchg16b => flow(cmpxchg16b, cmpxchg16b),
        Mnemonic::Clc => flow(clc, clc),
        Mnemonic::Stc => flow(stc, stc),
        Mnemonic::Cmc => flow(cmc, cmc),
        Mnemonic::Cld => flow(cld, cld),
        Mnemonic::Std => flow(std, std),
        Mnemonic::Lahf => flow(lahf, lahf),
        Mnemonic::Sahf => flow(sahf, sahf),
        Mnemonic::Xlatb => {
            if insn.memory_base().size() == 4 {
                op.mode |= mode::ADDR32;
            }
            flow(xlatb, xlatb)
        }
        Mnemonic::Rdrand | Mnemonic::Rdseed => by_size!(operand_size(insn, 0), T => flow(random::<T>, random::<T>)),
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
        | Mnemonic::Lfence => flow(nop, nop),
        Mnemonic::Mfence | Mnemonic::Sfence => flow(crate::exec::fence, crate::exec::fence),
        _ => return None,
    })
}

fn multiply(insn: &Instruction) -> Choice {
    macro_rules! one {
        ($f:ident) => {
            by_size!(operand_size(insn, 0), T => if memory_operand(insn, 0) {
                flow($f::<T, true>, $f::<T, true>)
            } else {
                flow($f::<T, false>, $f::<T, false>)
            })
        };
    }
    macro_rules! second {
        ($f:ident) => {
            by_size!(operand_size(insn, 0), T => if memory_operand(insn, 1) {
                flow($f::<Fast, T, true>, $f::<Whole, T, true>)
            } else {
                flow($f::<Fast, T, false>, $f::<Whole, T, false>)
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

fn test<const OP: u8>(insn: &Instruction) -> Choice {
    let register = insn.op1_kind() == OpKind::Register;
    by_size!(operand_size(insn, 0), T => match (memory_operand(insn, 0), register) {
        (false, true) => flow(bt_rr::<T, OP>, bt_rr::<T, OP>),
        (false, false) => flow(bt_ri::<T, OP>, bt_ri::<T, OP>),
        (true, true) => flow(bt_mr::<T, OP>, bt_mr::<T, OP>),
        (true, false) => flow(bt_mi::<T, OP>, bt_mi::<T, OP>),
    })
}

fn scans(insn: &Instruction) -> Choice {
    by_size!(operand_size(insn, 0), T => match (insn.mnemonic(), memory_operand(insn, 1)) {
        (Mnemonic::Bsf, false) => flow(scan::<T, true, false>, scan::<T, true, false>),
        (Mnemonic::Bsf, true) => flow(scan::<T, true, true>, scan::<T, true, true>),
        (Mnemonic::Bsr, false) => flow(scan::<T, false, false>, scan::<T, false, false>),
        (Mnemonic::Bsr, true) => flow(scan::<T, false, true>, scan::<T, false, true>),
        (_, false) => flow(popcnt::<T, false>, popcnt::<T, false>),
        (_, true) => flow(popcnt::<T, true>, popcnt::<T, true>),
    })
}

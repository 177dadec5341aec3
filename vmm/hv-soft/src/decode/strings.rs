//! Handlers for string instructions.

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::by_size;
use crate::code::thread::{Choice, flow, rare};
use crate::exec::strings::*;
use crate::op::{Handler, Op, mode, slot};

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<Choice> {
    let whole = whole(insn, op)?;
    // A copy or fill with nothing special about it goes no further than the TLB at first.
    let usual = op.mode & (mode::REP | mode::REPNE) != 0 && op.mode & mode::ADDR32 == 0 && op.seg == slot::ZERO;
    let size = insn.memory_size().size();
    Some(match insn.mnemonic() {
        Mnemonic::Movsb | Mnemonic::Movsw | Mnemonic::Movsd | Mnemonic::Movsq if usual => {
            by_size!(size, T => flow(movs_fast::<T>, movs::<T>))
        }
        Mnemonic::Stosb | Mnemonic::Stosw | Mnemonic::Stosd | Mnemonic::Stosq if usual => {
            by_size!(size, T => flow(stos_fast::<T>, stos::<T>))
        }
        _ => rare(whole),
    })
}

fn whole(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    let short = (0..insn.op_count())
        .any(|k| matches!(insn.op_kind(k), OpKind::MemorySegESI | OpKind::MemoryESEDI | OpKind::MemorySegEDI));
    let size = insn.memory_size().size();
    let handler = match insn.mnemonic() {
        Mnemonic::Movsb | Mnemonic::Movsw | Mnemonic::Movsq => by_size!(size, T => movs::<T> as Handler),
        Mnemonic::Movsd if insn.is_string_instruction() => movs::<u32>,
        Mnemonic::Stosb | Mnemonic::Stosw | Mnemonic::Stosd | Mnemonic::Stosq => by_size!(size, T => stos::<T>),
        Mnemonic::Lodsb | Mnemonic::Lodsw | Mnemonic::Lodsd | Mnemonic::Lodsq => by_size!(size, T => lods::<T>),
        Mnemonic::Scasb | Mnemonic::Scasw | Mnemonic::Scasd | Mnemonic::Scasq => by_size!(size, T => scas::<T>),
        Mnemonic::Cmpsb | Mnemonic::Cmpsw | Mnemonic::Cmpsq => by_size!(size, T => cmps::<T>),
        Mnemonic::Cmpsd if insn.is_string_instruction() => cmps::<u32>,
        Mnemonic::Insb | Mnemonic::Insw | Mnemonic::Insd => by_size!(size, T => ins::<T>),
        Mnemonic::Outsb | Mnemonic::Outsw | Mnemonic::Outsd => by_size!(size, T => outs::<T>),
        _ => return None,
    };
    if short {
        op.mode |= mode::ADDR32;
    }
    Some(handler)
}

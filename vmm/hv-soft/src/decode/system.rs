//! Handlers for system instructions. All of them end their block unless they change nothing that code depends on.

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};

use super::{Flow, by_size, memory_operand, operand_size};
use crate::op::{Handler, Op, slot};
use crate::sys::{control::*, fxsave::*, segments::*, transfer::*};

pub(super) fn lower(insn: &Instruction, op: &mut Op) -> Option<(Handler, Flow)> {
    if let Some(h) = plain(insn, op) {
        return Some((h, Flow::Next));
    }
    if insn.mnemonic() == Mnemonic::Sti {
        return Some((sti, Flow::EndAfterNext));
    }
    ending(insn, op).map(|h| (h, Flow::End(None)))
}

/// Those after which the block goes on.
fn plain(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    let memory = insn.op_count() > 0 && memory_operand(insn, 0);
    Some(match insn.mnemonic() {
        Mnemonic::Cpuid => cpuid,
        Mnemonic::Rdtsc => rdtsc::<false>,
        Mnemonic::Rdtscp => rdtsc::<true>,
        Mnemonic::Rdmsr => rdmsr,
        Mnemonic::Cli => cli,
        Mnemonic::Swapgs => swapgs,
        Mnemonic::Pushf => pushf::<u16>,
        Mnemonic::Pushfq => pushf::<u64>,
        Mnemonic::Popf => popf::<u16>,
        Mnemonic::Popfq => popf::<u64>,
        Mnemonic::In => {
            op.aux = u32::from(insn.op1_register() == Register::DX);
            by_size!(operand_size(insn, 0), T => port_in::<T>)
        }
        Mnemonic::Clflush => clflush,
        Mnemonic::Wbinvd | Mnemonic::Invd => privileged_nop,
        Mnemonic::Sgdt => store_table::<false>,
        Mnemonic::Sidt => store_table::<true>,
        Mnemonic::Smsw if memory => smsw_m,
        Mnemonic::Smsw => by_size!(operand_size(insn, 0), T => smsw_r::<T>),
        Mnemonic::Sldt if memory => store_system_m::<false>,
        Mnemonic::Str if memory => store_system_m::<true>,
        Mnemonic::Sldt => by_size!(operand_size(insn, 0), T => store_system_r::<T, false>),
        Mnemonic::Str => by_size!(operand_size(insn, 0), T => store_system_r::<T, true>),
        Mnemonic::Lar | Mnemonic::Lsl | Mnemonic::Verr | Mnemonic::Verw => queries(insn),
        Mnemonic::Fxsave => fxsave::<false>,
        Mnemonic::Fxsave64 => fxsave::<true>,
        Mnemonic::Fxrstor | Mnemonic::Fxrstor64 => fxrstor,
        Mnemonic::Fninit => fninit,
        Mnemonic::Ldmxcsr => ldmxcsr,
        Mnemonic::Stmxcsr => stmxcsr,
        Mnemonic::Rdfsbase | Mnemonic::Rdgsbase | Mnemonic::Wrfsbase | Mnemonic::Wrgsbase => bases(insn, op),
        Mnemonic::Mov => return mov(insn),
        Mnemonic::Push => match insn.code() {
            Code::Pushq_FS | Code::Pushq_GS => push_segment::<u64>,
            Code::Pushw_FS | Code::Pushw_GS => push_segment::<u16>,
            _ => return None,
        },
        _ => return None,
    })
}

fn bases(insn: &Instruction, op: &mut Op) -> Handler {
    let fs = matches!(insn.mnemonic(), Mnemonic::Rdfsbase | Mnemonic::Wrfsbase);
    op.aux = u32::from(if fs { slot::FS } else { slot::GS });
    let read = matches!(insn.mnemonic(), Mnemonic::Rdfsbase | Mnemonic::Rdgsbase);
    by_size!(operand_size(insn, 0), T => if read { read_base::<T> as Handler } else { write_base::<T> })
}

fn queries(insn: &Instruction) -> Handler {
    macro_rules! query {
        ($what:expr, $operand:expr) => {
            by_size!(operand_size(insn, 0), T => if memory_operand(insn, $operand) {
                examine::<T, { $what }, true> as Handler
            } else {
                examine::<T, { $what }, false>
            })
        };
    }
    match insn.mnemonic() {
        Mnemonic::Lar => query!(query::LAR, 1),
        Mnemonic::Lsl => query!(query::LSL, 1),
        Mnemonic::Verr => query!(query::VERR, 0),
        _ => query!(query::VERW, 0),
    }
}

/// MOV from control, debug and segment registers.
fn mov(insn: &Instruction) -> Option<Handler> {
    let source = insn.op1_register();
    if insn.op1_kind() != OpKind::Register {
        return None;
    }
    if source.is_cr() {
        return Some(mov_from_cr);
    }
    if source.is_dr() {
        return Some(mov_from_dr);
    }
    if insn.op0_register().is_dr() {
        return Some(mov_to_dr);
    }
    if !source.is_segment_register() {
        return None;
    }
    if memory_operand(insn, 0) {
        return Some(mov_from_segment_m);
    }
    Some(by_size!(operand_size(insn, 0), T => mov_from_segment_r::<T>))
}

/// Those that end the block.
fn ending(insn: &Instruction, op: &mut Op) -> Option<Handler> {
    let memory = insn.op_count() > 0 && memory_operand(insn, 0);
    Some(match insn.mnemonic() {
        Mnemonic::Mov if insn.op0_register().is_cr() => mov_to_cr,
        Mnemonic::Mov if insn.op0_register().is_segment_register() && memory_operand(insn, 1) => mov_to_segment::<true>,
        Mnemonic::Mov if insn.op0_register().is_segment_register() => mov_to_segment::<false>,
        Mnemonic::Pop => match insn.code() {
            Code::Popq_FS | Code::Popq_GS => pop_segment::<u64>,
            Code::Popw_FS | Code::Popw_GS => pop_segment::<u16>,
            _ => return None,
        },
        Mnemonic::Out => {
            op.aux = u32::from(insn.op0_register() == Register::DX);
            by_size!(operand_size(insn, 1), T => port_out::<T>)
        }
        Mnemonic::Wrmsr => wrmsr,
        Mnemonic::Lgdt => load_table::<false>,
        Mnemonic::Lidt => load_table::<true>,
        Mnemonic::Lmsw if memory => lmsw::<true>,
        Mnemonic::Lmsw => lmsw::<false>,
        Mnemonic::Clts => clts,
        Mnemonic::Invlpg => invlpg,
        Mnemonic::Lldt if memory => load_system::<false, true>,
        Mnemonic::Lldt => load_system::<false, false>,
        Mnemonic::Ltr if memory => load_system::<true, true>,
        Mnemonic::Ltr => load_system::<true, false>,
        Mnemonic::Hlt => hlt,
        Mnemonic::Int => int_n,
        Mnemonic::Int3 => int3,
        Mnemonic::Int1 => int1,
        Mnemonic::Vmcall | Mnemonic::Vmmcall => hypercall,
        Mnemonic::Syscall => syscall,
        Mnemonic::Sysret => sysret::<false>,
        Mnemonic::Sysretq => sysret::<true>,
        Mnemonic::Iret => iret::<u16>,
        Mnemonic::Iretd => iret::<u32>,
        Mnemonic::Iretq => iret::<u64>,
        Mnemonic::Retf => match insn.code() {
            Code::Retfw | Code::Retfw_imm16 => retf::<u16>,
            Code::Retfd | Code::Retfd_imm16 => retf::<u32>,
            _ => retf::<u64>,
        },
        Mnemonic::Jmp => far::<false>(insn)?,
        Mnemonic::Call => far::<true>(insn)?,
        Mnemonic::Ud0 | Mnemonic::Ud1 | Mnemonic::Ud2 => crate::exec::undefined,
        _ => return None,
    })
}

fn far<const CALL: bool>(insn: &Instruction) -> Option<Handler> {
    Some(match insn.code() {
        Code::Jmp_m1616 | Code::Call_m1616 => far_m::<u16, CALL>,
        Code::Jmp_m1632 | Code::Call_m1632 => far_m::<u32, CALL>,
        Code::Jmp_m1664 | Code::Call_m1664 => far_m::<u64, CALL>,
        _ => return None,
    })
}

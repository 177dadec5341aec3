//! What instructions do, by topic.

use iced_x86::{Code, CpuidFeature, Instruction, Mnemonic};

use crate::cpu::Cpu;
use crate::decode::Modes;
use crate::op::{Handler, Op, Res};
use crate::sys::exception::NM;

pub(crate) mod alu;
pub(crate) mod bits;
pub(crate) mod control;
pub(crate) mod fused;
pub(crate) mod moves;
pub(crate) mod muldiv;
pub(crate) mod shifts;
pub(crate) mod strings;

/// UD2 and everything that is not implemented.
pub(crate) fn undefined(cpu: &mut Cpu, _: &Op) -> Res {
    Err(cpu.ud())
}

fn no_fpu(cpu: &mut Cpu, _: &Op) -> Res {
    Err(cpu.raise(NM))
}

/// MFENCE and SFENCE order guest RAM against device threads.
pub(crate) fn fence(_: &mut Cpu, _: &Op) -> Res {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    Ok(())
}

/// The handler that traps a floating-point instruction in the current modes, if it is one and they do.
pub(crate) fn fp_trap(insn: &Instruction, modes: Modes) -> Option<Handler> {
    if modes == Modes::default() {
        return None;
    }
    if insn.mnemonic() == Mnemonic::Wait {
        return modes.no_wait.then_some(no_fpu as Handler);
    }
    let integer = matches!(
        insn.mnemonic(),
        Mnemonic::Prefetcht0
            | Mnemonic::Prefetcht1
            | Mnemonic::Prefetcht2
            | Mnemonic::Prefetchnta
            | Mnemonic::Sfence
            | Mnemonic::Mfence
            | Mnemonic::Lfence
            | Mnemonic::Movnti
            | Mnemonic::Crc32
            | Mnemonic::Pause
            | Mnemonic::Clflush
    );
    if integer {
        return None;
    }
    for feature in insn.cpuid_features() {
        match feature {
            CpuidFeature::FPU | CpuidFeature::FPU287 | CpuidFeature::FPU387 | CpuidFeature::MMX => {
                return modes.no_fpu.then_some(no_fpu as Handler);
            }
            CpuidFeature::FXSR => return modes.no_fpu.then_some(no_fpu as Handler),
            CpuidFeature::SSE
            | CpuidFeature::SSE2
            | CpuidFeature::SSE3
            | CpuidFeature::SSSE3
            | CpuidFeature::SSE4_1
            | CpuidFeature::SSE4_2 => {
                if modes.no_sse && insn.code() != Code::INVALID {
                    return Some(undefined);
                }
                return modes.no_fpu.then_some(no_fpu as Handler);
            }
            _ => {}
        }
    }
    None
}

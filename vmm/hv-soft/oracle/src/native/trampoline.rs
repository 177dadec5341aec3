//! The few instructions that load a chosen state, jump to the instruction under test and save what it left.

// UNSAFETY: entering an arbitrary processor state and coming back is possible only in assembly.
#![expect(unsafe_code, reason = "assembly that loads and saves the whole user state")]

use std::arch::global_asm;
use std::ffi::c_void;
use std::mem::offset_of;

use crate::state::CpuState;

unsafe extern "C" {
    /// Loads `from`, jumps to its RIP and gives 0, 1 or 2 for the landing that was reached, with everything but
    /// RIP stored in `to`; or, after a signal, the address of its `ucontext_t`.
    pub(super) fn soft_oracle_enter(from: *const CpuState, to: *mut CpuState) -> usize;
    /// Signal handler: abandons the instruction and makes [`soft_oracle_enter`] return.
    pub(super) fn soft_oracle_signal();
    /// Landing 0.
    pub(super) fn soft_oracle_back();
    /// Landing 1.
    pub(super) fn soft_oracle_forward();
    /// Landing 2.
    pub(super) fn soft_oracle_next();
}

/// Addresses of the landings in the order of [`crate::layout::Landing`].
pub(super) fn landings() -> [u64; 3] {
    [soft_oracle_back, soft_oracle_forward, soft_oracle_next].map(|function| function as *const c_void as u64)
}

global_asm!(
    ".pushsection .bss.soft_oracle, \"aw\", @nobits",
    ".balign 16",
    "soft_oracle_rsp: .skip 8",    // ours, while the instruction under test has its own
    "soft_oracle_target: .skip 8", // its address
    "soft_oracle_keep: .skip 16",  // its RSP and RDI for a moment
    "soft_oracle_which: .skip 8",  // the landing
    ".popsection",
    ".pushsection .text.soft_oracle, \"ax\", @progbits",
    ".globl soft_oracle_enter, soft_oracle_signal, soft_oracle_back, soft_oracle_forward, soft_oracle_next",
    "soft_oracle_enter:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "push rsi",
    "mov [rip + soft_oracle_rsp], rsp",
    "fxrstor64 [rdi + {fx}]",
    "mov rax, [rdi + {rip}]",
    "mov [rip + soft_oracle_target], rax",
    "push qword ptr [rdi + {rflags}]",
    "popfq",
    // No instruction from here on changes a flag.
    "mov rax, [rdi + {gpr}]",
    "mov rcx, [rdi + {gpr} + 8]",
    "mov rdx, [rdi + {gpr} + 16]",
    "mov rbx, [rdi + {gpr} + 24]",
    "mov rsp, [rdi + {gpr} + 32]",
    "mov rbp, [rdi + {gpr} + 40]",
    "mov rsi, [rdi + {gpr} + 48]",
    "mov r8, [rdi + {gpr} + 64]",
    "mov r9, [rdi + {gpr} + 72]",
    "mov r10, [rdi + {gpr} + 80]",
    "mov r11, [rdi + {gpr} + 88]",
    "mov r12, [rdi + {gpr} + 96]",
    "mov r13, [rdi + {gpr} + 104]",
    "mov r14, [rdi + {gpr} + 112]",
    "mov r15, [rdi + {gpr} + 120]",
    "mov rdi, [rdi + {gpr} + 56]",
    "jmp [rip + soft_oracle_target]",
    "soft_oracle_back:",
    "mov dword ptr [rip + soft_oracle_which], 0",
    "jmp 2f",
    "soft_oracle_forward:",
    "mov dword ptr [rip + soft_oracle_which], 1",
    "jmp 2f",
    "soft_oracle_next:",
    "mov dword ptr [rip + soft_oracle_which], 2",
    "2:",
    "mov [rip + soft_oracle_keep], rsp",
    "mov [rip + soft_oracle_keep + 8], rdi",
    "mov rsp, [rip + soft_oracle_rsp]",
    "mov rdi, [rsp]",
    "mov [rdi + {gpr}], rax",
    "mov [rdi + {gpr} + 8], rcx",
    "mov [rdi + {gpr} + 16], rdx",
    "mov [rdi + {gpr} + 24], rbx",
    "mov [rdi + {gpr} + 40], rbp",
    "mov [rdi + {gpr} + 48], rsi",
    "mov [rdi + {gpr} + 64], r8",
    "mov [rdi + {gpr} + 72], r9",
    "mov [rdi + {gpr} + 80], r10",
    "mov [rdi + {gpr} + 88], r11",
    "mov [rdi + {gpr} + 96], r12",
    "mov [rdi + {gpr} + 104], r13",
    "mov [rdi + {gpr} + 112], r14",
    "mov [rdi + {gpr} + 120], r15",
    "mov rax, [rip + soft_oracle_keep]",
    "mov [rdi + {gpr} + 32], rax",
    "mov rax, [rip + soft_oracle_keep + 8]",
    "mov [rdi + {gpr} + 56], rax",
    "pushfq",
    "pop qword ptr [rdi + {rflags}]",
    "push 2", // clears the direction and the alignment-check flag before Rust runs
    "popfq",
    "fxsave64 [rdi + {fx}]",
    "fninit",
    "push 0x1f80",
    "ldmxcsr [rsp]",
    "add rsp, 8",
    "mov eax, [rip + soft_oracle_which]",
    "jmp 3f",
    "soft_oracle_signal:", // the kernel has given us the initial x87 and SSE state and the signal stack
    "mov rax, rdx",
    "mov rsp, [rip + soft_oracle_rsp]",
    "push 2",
    "popfq",
    "3:",
    "add rsp, 8",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    ".popsection",
    fx = const offset_of!(CpuState, fx),
    gpr = const offset_of!(CpuState, gpr),
    rflags = const offset_of!(CpuState, rflags),
    rip = const offset_of!(CpuState, rip),
);

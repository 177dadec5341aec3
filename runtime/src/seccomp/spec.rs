//! Numbers of classic BPF (`linux/bpf_common.h`) and seccomp (`linux/seccomp.h`, `linux/audit.h`) of Linux.

/// Load a word of the call's data at an offset.
pub(super) const LD_ABS: u16 = 0x20;
/// And with a constant.
pub(super) const AND: u16 = 0x54;
/// Jump always.
pub(super) const JA: u16 = 0x05;
/// Jump if equal to a constant.
pub(super) const JEQ: u16 = 0x15;
/// Jump if above a constant, unsigned.
pub(super) const JGT: u16 = 0x25;
/// Jump if equal to or above a constant, unsigned.
pub(super) const JGE: u16 = 0x35;
/// End with a constant.
pub(super) const RET: u16 = 0x06;

/// Most instructions of a program (`BPF_MAXINSNS`).
pub(super) const MAX_INSTRUCTIONS: usize = 4096;

/// Offset of the call's number in `struct seccomp_data`.
pub(super) const DATA_NR: u32 = 0;
/// Offset of the architecture in `struct seccomp_data`.
pub(super) const DATA_ARCH: u32 = 4;
/// Offset of the first argument in `struct seccomp_data`.
pub(super) const DATA_ARGS: u32 = 16;
/// Number of arguments of a call.
pub(super) const ARGS: usize = 6;

/// `AUDIT_ARCH_X86_64`.
pub(super) const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
/// `AUDIT_ARCH_AARCH64`.
pub(super) const AUDIT_ARCH_AARCH64: u32 = 0xc000_00b7;
/// `__X32_SYSCALL_BIT` of x86's `asm/unistd.h`: calls of the x32 ABI have x86_64's architecture and this bit.
pub(super) const X32_BIT: u32 = 0x4000_0000;
/// The number that a tracer gives a call that is to be skipped: -1.
pub(super) const NR_SKIPPED: u32 = u32::MAX;

/// `SECCOMP_RET_KILL_PROCESS`.
pub(super) const RET_KILL_PROCESS: u32 = 0x8000_0000;
/// `SECCOMP_RET_KILL_THREAD`.
pub(super) const RET_KILL_THREAD: u32 = 0;
/// `SECCOMP_RET_TRAP`.
pub(super) const RET_TRAP: u32 = 0x0003_0000;
/// `SECCOMP_RET_ERRNO`, with the error number in its low half.
pub(super) const RET_ERRNO: u32 = 0x0005_0000;
/// `SECCOMP_RET_TRACE`, with a message in its low half.
pub(super) const RET_TRACE: u32 = 0x7ff0_0000;
/// `SECCOMP_RET_LOG`.
pub(super) const RET_LOG: u32 = 0x7ffc_0000;
/// `SECCOMP_RET_ALLOW`.
pub(super) const RET_ALLOW: u32 = 0x7fff_0000;
/// Largest error number (`MAX_ERRNO` of `linux/err.h`); the kernel cuts larger ones.
pub(super) const MAX_ERRNO: u32 = 4095;

/// `SECCOMP_FILTER_FLAG_LOG`.
pub(super) const FLAG_LOG: u32 = 1 << 1;
/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`.
pub(super) const FLAG_SPEC_ALLOW: u32 = 1 << 2;

/// `EPERM`: what `SCMP_ACT_ERRNO` and `SCMP_ACT_TRACE` give when the profile does not say.
pub(super) const EPERM: u32 = 1;
/// `ENOSYS`.
pub(super) const ENOSYS: u32 = 38;

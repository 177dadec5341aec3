//! x86-64 vCPU state. Field names are the architecture's (Intel SDM vol. 3, AMD APM vol. 2).

use serde::{Deserialize, Serialize};

/// Everything of one x86-64 vCPU.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct VcpuState {
    /// General registers.
    pub regs: Regs,
    /// Segments, tables and control registers.
    pub sregs: Sregs,
    /// x87/SSE/AVX state in the XSAVE standard (not compacted) format; at least the 512-byte legacy area and the
    /// 64-byte header. A back end without XSAVE (soft) writes exactly 576 bytes.
    pub xsave: Vec<u8>,
    /// XCR0; 1 (x87 only) where XSAVE is absent.
    pub xcr0: u64,
    /// Debug registers DR0–DR3, DR6, DR7.
    pub debug: [u64; 6],
    /// Model-specific registers as (index, value).
    pub msrs: Vec<(u32, u64)>,
    /// Local APIC registers, the 1 KiB page from offset 0 (one 32-bit register each 16 bytes).
    pub lapic: Vec<u8>,
    /// Whether the vCPU runs, halts or waits for another to start it.
    pub run_state: RunState,
    /// Events that were on their way when the vCPU stopped.
    pub events: Events,
    /// CPUID leaves the guest sees; at restore they must be the same as the vCPU's own, or empty.
    pub cpuid: Vec<CpuidLeaf>,
    /// TSC frequency in kHz that the guest was told; 0 where unknown.
    pub tsc_khz: u32,
}

/// General registers, instruction pointer and flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the architecture's register names")]
pub struct Regs {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rsp: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub rflags: u64,
}

/// One segment register with its hidden part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Segment {
    /// Base address.
    pub base: u64,
    /// Limit in bytes, granularity applied.
    pub limit: u32,
    /// Selector.
    pub selector: u16,
    /// Attributes as in descriptor bits 40–55: type(4) s(1) dpl(2) p(1) zero(4) avl(1) l(1) db(1) g(1); bit 16 set =
    /// unusable.
    pub attributes: u32,
}

/// Descriptor table register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Table {
    /// Linear base address.
    pub base: u64,
    /// Limit in bytes.
    pub limit: u16,
}

/// Segments, tables and control registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the architecture's register names")]
pub struct Sregs {
    pub cs: Segment,
    pub ds: Segment,
    pub es: Segment,
    pub fs: Segment,
    pub gs: Segment,
    pub ss: Segment,
    pub tr: Segment,
    pub ldt: Segment,
    pub gdt: Table,
    pub idt: Table,
    pub cr0: u64,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub cr8: u64,
    pub efer: u64,
    pub apic_base: u64,
}

/// Whether a vCPU runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum RunState {
    /// Executes instructions.
    #[default]
    Runnable,
    /// Stopped in HLT until an interrupt.
    Halted,
    /// Waits for an INIT (an application processor before start).
    Uninitialized,
    /// Got INIT, waits for a start-up IPI.
    InitReceived,
    /// Got a start-up IPI with this vector and has not yet run.
    SipiReceived {
        /// Start page number.
        vector: u8,
    },
}

/// Events in delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Events {
    /// Exception that is being delivered.
    pub exception: Option<PendingException>,
    /// Vector of an external interrupt that was accepted and not yet delivered.
    pub interrupt: Option<u8>,
    /// A non-maskable interrupt waits.
    pub nmi_pending: bool,
    /// Non-maskable interrupts are blocked until IRET.
    pub nmi_masked: bool,
    /// One-instruction interrupt shadow: 0 none, 1 after `MOV SS`/`POP SS`, 2 after `STI`.
    pub shadow: u8,
}

/// An exception in delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingException {
    /// Vector 0–31.
    pub vector: u8,
    /// Error code, where the vector has one.
    pub error_code: Option<u32>,
}

/// One CPUID leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the architecture's register names")]
pub struct CpuidLeaf {
    pub function: u32,
    pub index: u32,
    pub eax: u32,
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
}

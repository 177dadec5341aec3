//! The guest that the probe times: its memory, its registers, its few instructions.

use supermachine_hv::GuestMemory;
use supermachine_hv::x86::{Segment, Table, VcpuState};
use vm_memory::{Bytes, GuestAddress};

/// Layout of the guest's 64 KiB.
const MEMORY_LEN: usize = 0x1_0000;
const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;
const DIRECTORY: u64 = 0x3000;
const CODE: u64 = 0x4000;
const STACK_TOP: u64 = 0x8000;

/// Page table bits (Intel SDM vol. 3A §4.5): present, writable, and a page of 2 MiB.
const PRESENT_WRITABLE: u64 = 0b11;
const LARGE: u64 = 1 << 7;

/// Control register bits (Intel SDM vol. 3A §2.5).
const CR0_PE_MP_ET_NE_WP_PG: u64 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 31;
const CR4_PAE_OSFXSR_OSXMMEXCPT: u64 = 1 << 5 | 1 << 9 | 1 << 10;
const CR4_OSXSAVE: u64 = 1 << 18;
const EFER_LME_LMA: u64 = 1 << 8 | 1 << 10;
/// x87, SSE and AVX in XCR0.
const XCR0_AVX: u64 = 0b111;

/// Instructions that one turn of the loop executes, in either program.
pub(super) const LOOP_INSTRUCTIONS: u64 = 10;

/// Port written at the end of a slice; nothing is there.
const PORT: u8 = 0xf4;

#[rustfmt::skip]
const SSE_LOOP: &[u8] = &[
    // top: mov ecx, ebp
    0x89, 0xe9,
    // turn: add rax, rcx ; xor rdx, rax ; paddd xmm0, xmm1 ; imul rbx, rax
    0x48, 0x01, 0xc8,  0x48, 0x31, 0xc2,  0x66, 0x0f, 0xfe, 0xc1,  0x48, 0x0f, 0xaf, 0xd8,
    // mov [rsp-8], rbx ; pxor xmm1, xmm0 ; mov rsi, [rsp-8] ; lea rdi, [rsi+rax]
    0x48, 0x89, 0x5c, 0x24, 0xf8,  0x66, 0x0f, 0xef, 0xc8,  0x48, 0x8b, 0x74, 0x24, 0xf8,  0x48, 0x8d, 0x3c, 0x06,
    // dec ecx ; jnz turn
    0xff, 0xc9,  0x75, 0xdc,
    // out PORT, al ; jmp top
    0xe6, PORT,  0xeb, 0xd6,
];

#[rustfmt::skip]
const AVX_LOOP: &[u8] = &[
    // top: mov ecx, ebp
    0x89, 0xe9,
    // turn: add rax, rcx ; xor rdx, rax ; vaddps ymm0, ymm0, ymm1 ; imul rbx, rax
    0x48, 0x01, 0xc8,  0x48, 0x31, 0xc2,  0xc5, 0xfc, 0x58, 0xc1,  0x48, 0x0f, 0xaf, 0xd8,
    // mov [rsp-8], rbx ; pxor xmm2, xmm0 ; mov rsi, [rsp-8] ; lea rdi, [rsi+rax]
    0x48, 0x89, 0x5c, 0x24, 0xf8,  0x66, 0x0f, 0xef, 0xd0,  0x48, 0x8b, 0x74, 0x24, 0xf8,  0x48, 0x8d, 0x3c, 0x06,
    // dec ecx ; jnz turn
    0xff, 0xc9,  0x75, 0xdc,
    // out PORT, al ; jmp top
    0xe6, PORT,  0xeb, 0xd6,
];

/// A loop with vector instructions that writes a port after each slice and never ends.
pub(super) struct Program {
    avx: bool,
    turns: u64,
}

impl Program {
    /// `turns` of the loop are one slice.
    pub(super) fn new(avx: bool, turns: u64) -> Self {
        Self { avx, turns }
    }

    /// Guest memory with page tables and code in it; the error is one line.
    pub(super) fn memory(&self) -> Result<GuestMemory, String> {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY_LEN)])
            .map_err(|error| format!("no memory for the probe's guest: {error}"))?;
        let code = if self.avx { AVX_LOOP } else { SSE_LOOP };
        let fill = || {
            memory.write_obj(PDPT | PRESENT_WRITABLE, GuestAddress(PML4))?;
            memory.write_obj(DIRECTORY | PRESENT_WRITABLE, GuestAddress(PDPT))?;
            memory.write_obj(LARGE | PRESENT_WRITABLE, GuestAddress(DIRECTORY))?;
            memory.write_slice(code, GuestAddress(CODE))
        };
        fill().map_err(|error| format!("the probe's guest does not fit its memory: {error}"))?;
        Ok(memory)
    }

    /// Turns a reset vCPU's state into one that is in 64-bit mode at the loop.
    pub(super) fn enter(&self, state: &mut VcpuState) {
        state.regs.rip = CODE;
        state.regs.rsp = STACK_TOP;
        state.regs.rbp = self.turns;
        state.regs.rflags = 2;
        let segment = |selector, attributes| Segment { base: 0, limit: u32::MAX, selector, attributes };
        let sregs = &mut state.sregs;
        sregs.cs = segment(0x08, 0xa09b);
        let data = segment(0x10, 0xc093);
        (sregs.ds, sregs.es, sregs.ss, sregs.fs, sregs.gs) = (data, data, data, data, data);
        sregs.gdt = Table::default();
        sregs.idt = Table::default();
        sregs.cr0 = CR0_PE_MP_ET_NE_WP_PG;
        sregs.cr3 = PML4;
        sregs.cr4 = CR4_PAE_OSFXSR_OSXMMEXCPT;
        sregs.efer = EFER_LME_LMA;
        if self.avx {
            sregs.cr4 |= CR4_OSXSAVE;
            state.xcr0 = XCR0_AVX;
        }
    }
}

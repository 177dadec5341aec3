//! Guests: RAM, page tables, descriptor tables and registers, more or less sane.

use supermachine_hv::x86::{PendingException, Regs, RunState, Segment, Sregs, Table, VcpuState};
use supermachine_hv::{GuestMemory, VcpuState as AnyState};
use vm_memory::{Bytes, GuestAddress};

use crate::arena::PIECES;
use crate::code::code;
use crate::rng::Rng;

const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;
const DIRECTORY: u64 = 0x3000;
const TABLE: u64 = 0x4000;
const TABLES_END: u64 = 0x5000;
const GDT: u64 = 0x7000;
const TSS: u64 = 0x7800;
const IDT: u64 = 0x8000;
const HANDLER: u64 = 0x9000;
const COUNTER: u64 = 0xa000;
const CODE: u64 = 0x1_0000;
const CODE_LEN: usize = 0x1000;
const STACK_TOP: u64 = 0x3_0000;

/// Present, writable, for user code too, large (Intel SDM vol. 3A §4.5).
const ENTRY: u64 = 7;
const LARGE: u64 = 1 << 7;
/// PE, MP, ET, NE, PG; PAE, OSFXSR, OSXMMEXCPT; SCE, LME, LMA, NXE (§2.5, §2.2.1).
const CR0: u64 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 31;
const CR4: u64 = 1 << 5 | 1 << 9 | 1 << 10;
const EFER: u64 = 1 | 1 << 8 | 1 << 10 | 1 << 11;
/// Null, kernel code and data, a task, then user data and code; `SYSCALL` finds them in this order (§3.4.5, §7.2.3).
const DESCRIPTORS: [u64; 8] = [
    0,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x0000_8b00_7800_0067,
    0,
    0x00cf_f300_0000_ffff,
    0x00af_fb00_0000_ffff,
    0x00cf_9b00_0000_ffff,
];
/// `mov rsp, STACK_TOP; inc qword [COUNTER]; imul rax, [COUNTER], 97; and eax, 0xfff; add eax, CODE; jmp rax`:
/// whatever went wrong, guest code goes on somewhere else.
const GO_ON: [u8; 37] = [
    0x48, 0xc7, 0xc4, 0x00, 0x00, 0x03, 0x00, 0x48, 0xff, 0x04, 0x25, 0x00, 0xa0, 0x00, 0x00, 0x48, 0x6b, 0x04, 0x25,
    0x00, 0xa0, 0x00, 0x00, 0x61, 0x25, 0xff, 0x0f, 0x00, 0x00, 0x05, 0x00, 0x00, 0x01, 0x00, 0xff, 0xe0, 0xf4,
];

/// Writes a guest's memory.
pub(crate) fn fill_ram(rng: &mut Rng, memory: &GuestMemory) {
    for (start, len) in PIECES {
        let mut bytes = vec![0; len];
        if rng.chance(10) {
            rng.fill(&mut bytes);
        }
        memory.write_slice(&bytes, GuestAddress(start)).expect("a piece of RAM");
    }
    let put = |at: u64, value: u64| memory.write_obj(value, GuestAddress(at)).expect("in RAM");
    for (at, descriptor) in (GDT..).step_by(8).zip(DESCRIPTORS) {
        put(at, descriptor);
    }
    for stack in 0..10 {
        put(TSS + 4 + stack * 8, STACK_TOP);
    }
    for vector in 0..256 {
        let ist = if rng.chance(10) { rng.below(8) << 32 } else { 0 };
        put(IDT + vector * 16, HANDLER & 0xffff | 0x08 << 16 | 0xee << 40 | ist);
        put(IDT + vector * 16 + 8, 0);
    }
    memory.write_slice(&GO_ON, GuestAddress(HANDLER)).expect("in RAM");
    put(COUNTER, rng.below(0x1000));
    fill_tables(rng, &put);
    memory.write_slice(&code(rng, CODE_LEN), GuestAddress(CODE)).expect("in RAM");
    if rng.chance(20) {
        for _ in 0..rng.below(16) {
            put(GDT + rng.below((HANDLER - GDT) / 8) * 8, rng.word());
        }
    }
}

/// Page tables: the first 2 MiB by small pages, 1 GiB by large ones; then some entries that lead anywhere.
fn fill_tables(rng: &mut Rng, put: &dyn Fn(u64, u64)) {
    put(PML4, PDPT | ENTRY);
    put(PDPT, DIRECTORY | ENTRY);
    for gib in 1..8 {
        put(PDPT + gib * 8, gib << 30 | ENTRY | LARGE);
    }
    put(DIRECTORY, TABLE | ENTRY);
    for n in 0..512 {
        put(TABLE + n * 8, n << 12 | ENTRY);
        if n != 0 {
            put(DIRECTORY + n * 8, n << 21 | ENTRY | LARGE);
        }
    }
    let odd = match rng.below(4) {
        0 => 0,
        1 | 2 => rng.below(40),
        _ => 2000,
    };
    for _ in 0..odd {
        put(PML4 + rng.below((TABLES_END - PML4) / 8) * 8, entry(rng));
    }
    if rng.chance(30) {
        put(PML4 + rng.below(512) * 8, PML4 | ENTRY);
    }
}

/// A page table entry: a table, RAM, a hole, the end of everything.
fn entry(rng: &mut Rng) -> u64 {
    let target = match rng.below(4) {
        0 => rng.below(0x40) << 12,
        1 => PML4 + rng.below(4) * 0x1000,
        2 => rng.edge() & !0xfff,
        _ => rng.word() & 0xf_ffff_ffff_f000,
    };
    let flags = if rng.chance(70) { ENTRY | rng.pick(&[0, LARGE, 1 << 63]) } else { rng.word() & (0xfff | 1 << 63) };
    target | flags
}

/// Registers for the guest, made from those of a new vCPU.
pub(crate) fn registers(rng: &mut Rng, state: &mut AnyState) {
    let AnyState::X86(state) = state else { panic!("soft is x86") };
    let mut general = || rng.edge();
    state.regs = Regs {
        rax: general(),
        rbx: general(),
        rcx: general(),
        rdx: general(),
        rsi: general(),
        rdi: general(),
        rbp: general(),
        r8: general(),
        r9: general(),
        r10: general(),
        r11: general(),
        r12: general(),
        r13: general(),
        r14: general(),
        r15: general(),
        rip: CODE,
        rsp: STACK_TOP,
        rflags: 2 | rng.pick(&[0, 0x200, 0x600, 0x300, 0x4_0200, 0x3200]),
    };
    sane(&mut state.sregs, rng.chance(10));
    if rng.chance(30) {
        rng.fill(&mut state.xsave[..24]);
        rng.fill(&mut state.xsave[32..512]);
    }
    if rng.chance(25) {
        for _ in 0..=rng.below(3) {
            spoil(rng, state);
        }
    }
}

fn sane(sregs: &mut Sregs, user: bool) {
    let flat = |selector, attributes| Segment { base: 0, limit: u32::MAX, selector, attributes };
    let data = if user { flat(0x2b, 0xc0f3) } else { flat(0x10, 0xc093) };
    sregs.cs = if user { flat(0x33, 0xa0fb) } else { flat(0x08, 0xa09b) };
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = Segment { base: TSS, limit: 0x67, selector: 0x18, attributes: 0x8b };
    sregs.gdt = Table { base: GDT, limit: 0x3f };
    sregs.idt = Table { base: IDT, limit: 0xfff };
    (sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer) = (CR0, PML4, CR4, EFER);
}

/// One field of the state set to something else.
fn spoil(rng: &mut Rng, state: &mut VcpuState) {
    let value = rng.edge();
    let s = &mut state.sregs;
    match rng.below(24) {
        0 => s.cr0 ^= 1 << rng.below(32),
        1 => s.cr3 = value & 0xff_ffff_ffff,
        2 => s.cr4 ^= 1 << rng.below(24),
        3 => s.efer ^= 1 << rng.below(16),
        4 => s.gdt = Table { base: value, limit: rng.word() as u16 },
        5 => s.idt = Table { base: value, limit: rng.word() as u16 },
        6 => s.tr.base = value,
        7 => s.tr.limit = value as u32,
        8 => (s.fs.base, s.gs.base) = (value, value.wrapping_neg()),
        9 => s.cs.attributes = rng.word() as u32,
        10 => s.ss.attributes ^= 1 << rng.below(17),
        11 => s.apic_base = value,
        12 => s.cr8 = rng.below(20),
        13 => state.regs.rip = value,
        14 => state.regs.rsp = value,
        15 => state.regs.rflags = value,
        16 => state.debug = [value; 6],
        17 => state.lapic = lapic(rng, state.lapic.len()),
        18 => state.run_state = rng.pick(&[RunState::Halted, RunState::Uninitialized, RunState::InitReceived]),
        19 => {
            let error_code = rng.chance(50).then_some(value as u32);
            state.events.exception = Some(PendingException { vector: rng.byte() & 31, error_code });
        }
        20 => state.events.interrupt = Some(rng.byte()),
        21 => (state.events.nmi_pending, state.events.shadow) = (true, rng.below(4) as u8),
        22 => rng.fill(&mut state.xsave),
        _ => {
            let len = state.msrs.len() as u64;
            if let Some(msr) = state.msrs.get_mut(rng.below(len.max(1)) as usize) {
                msr.1 = value;
            }
        }
    }
}

fn lapic(rng: &mut Rng, len: usize) -> Vec<u8> {
    let mut page = vec![0; len];
    rng.fill(&mut page);
    page
}

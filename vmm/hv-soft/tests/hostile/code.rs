//! Guest code: bytes at random, and bytes that look like instructions.

use crate::rng::Rng;

const PREFIXES: [u8; 12] = [0x66, 0xf2, 0xf3, 0x66, 0xf3, 0xf0, 0x67, 0x2e, 0x36, 0x64, 0x65, 0xf2];
/// MSRs that exist, nearly exist, or belong to the local APIC.
const MSRS: [u32; 20] = [
    0x10,
    0x1b,
    0x8b,
    0x174,
    0x175,
    0x176,
    0x277,
    0x6e0,
    0x802,
    0x808,
    0x830,
    0x832,
    0xc000_0080,
    0xc000_0081,
    0xc000_0082,
    0xc000_0100,
    0xc000_0101,
    0xc000_0103,
    0x4b56_4d00,
    0x4b56_4d01,
];
/// Whole instructions that reach into the system or loop; operands are whatever the registers hold.
const SYSTEM: [&[u8]; 44] = [
    &[0x0f, 0x01, 0x13],       // lgdt [rbx]
    &[0x0f, 0x01, 0x1b],       // lidt [rbx]
    &[0x0f, 0x00, 0xd8],       // ltr ax
    &[0x0f, 0x00, 0xd0],       // lldt ax
    &[0x0f, 0x01, 0x3b],       // invlpg [rbx]
    &[0x0f, 0x20, 0xd8],       // mov rax, cr3
    &[0x0f, 0x22, 0xd8],       // mov cr3, rax
    &[0x0f, 0x22, 0xc0],       // mov cr0, rax
    &[0x0f, 0x22, 0xe0],       // mov cr4, rax
    &[0x44, 0x0f, 0x22, 0xc0], // mov cr8, rax
    &[0x0f, 0x23, 0xf8],       // mov dr7, rax
    &[0x0f, 0x30],             // wrmsr
    &[0x0f, 0x32],             // rdmsr
    &[0x0f, 0x31],             // rdtsc
    &[0x0f, 0xa2],             // cpuid
    &[0x0f, 0x05],             // syscall
    &[0x48, 0x0f, 0x07],       // sysretq
    &[0x0f, 0x34],             // sysenter
    &[0x0f, 0x35],             // sysexit
    &[0x0f, 0x01, 0xf8],       // swapgs
    &[0x0f, 0x01, 0xc1],       // vmcall
    &[0x48, 0xcf],             // iretq
    &[0xcf],                   // iretd
    &[0xcb],                   // retf
    &[0xff, 0x2b],             // jmp far [rbx]
    &[0xff, 0x1b],             // call far [rbx]
    &[0xfb, 0xf4],             // sti; hlt
    &[0xfa],                   // cli
    &[0xf4],                   // hlt
    &[0x9d],                   // popfq
    &[0x8e, 0xd0],             // mov ss, eax
    &[0x8e, 0xe0],             // mov fs, eax
    &[0xf3, 0x48, 0xa4 + 1],   // rep movsq
    &[0xf3, 0xa4],             // rep movsb
    &[0xf3, 0xaa],             // rep stosb
    &[0xf3, 0x48, 0xab],       // rep stosq
    &[0xf3, 0x6c],             // rep insb
    &[0xf3, 0x6f],             // rep outsd
    &[0xf2, 0xae],             // repne scasb
    &[0x0f, 0xae, 0x03],       // fxsave [rbx]
    &[0x0f, 0xae, 0x0b],       // fxrstor [rbx]
    &[0xdd, 0x33],             // fnsave [rbx]
    &[0xdd, 0x23],             // frstor [rbx]
    &[0x0f, 0xc7, 0x0b],       // cmpxchg8b [rbx]
];

/// Instructions that access what RDI points to, of all widths, read and write, once and often.
const ACCESSES: [&[u8]; 24] = [
    &[0x8a, 0x07],                   // mov al, [rdi]
    &[0x66, 0x8b, 0x07],             // mov ax, [rdi]
    &[0x8b, 0x07],                   // mov eax, [rdi]
    &[0x48, 0x8b, 0x07],             // mov rax, [rdi]
    &[0x88, 0x07],                   // mov [rdi], al
    &[0x66, 0x89, 0x07],             // mov [rdi], ax
    &[0x89, 0x07],                   // mov [rdi], eax
    &[0x48, 0x89, 0x07],             // mov [rdi], rax
    &[0xf3, 0x0f, 0x6f, 0x07],       // movdqu xmm0, [rdi]
    &[0xf3, 0x0f, 0x7f, 0x07],       // movdqu [rdi], xmm0
    &[0x01, 0x07],                   // add [rdi], eax
    &[0xf0, 0x48, 0x0f, 0xc1, 0x07], // lock xadd [rdi], rax
    &[0x48, 0x87, 0x07],             // xchg [rdi], rax
    &[0xf0, 0x0f, 0xb1, 0x0f],       // lock cmpxchg [rdi], ecx
    &[0x48, 0x0f, 0xc7, 0x0f],       // cmpxchg16b [rdi]
    &[0xff, 0x37],                   // push [rdi]
    &[0x8f, 0x07],                   // pop [rdi]
    &[0xdf, 0x2f],                   // fild qword [rdi]
    &[0xdb, 0x3f],                   // fstp tbyte [rdi]
    &[0x0f, 0xae, 0x07],             // fxsave [rdi]
    &[0xa4],                         // movsb
    &[0xf3, 0x48, 0xab],             // rep stosq
    &[0xf3, 0xa6],                   // repe cmpsb
    &[0xff, 0x17],                   // call [rdi]
];

/// Code of about `len` bytes.
pub(crate) fn code(rng: &mut Rng, len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len + 64);
    let noise = if rng.chance(20) { 100 } else { rng.below(8) };
    let chips = if rng.chance(20) { 90 } else { 5 };
    while out.len() < len {
        if rng.chance(chips) {
            chip_access(rng, &mut out);
        } else if rng.chance(noise) {
            out.push(rng.byte());
        } else {
            instruction(rng, &mut out);
        }
    }
    out
}

fn instruction(rng: &mut Rng, out: &mut Vec<u8>) {
    match rng.below(20) {
        0 | 1 => out.extend(rng.pick(&SYSTEM)),
        2 | 3 => load_edge(rng, out),
        4 => {
            // mov ecx, msr; wrmsr or rdmsr.
            out.push(0xb9);
            out.extend(rng.pick(&MSRS).to_le_bytes());
            out.extend([0x0f, rng.pick(&[0x30, 0x32])]);
        }
        5 => {
            // lea rdi, [rip + near]; stosd: code that changes itself.
            out.extend([0x48, 0x8d, 0x3d]);
            out.extend(((rng.below(0x80) as i32) - 0x40).to_le_bytes());
            out.push(rng.pick(&[0xab, 0xaa]));
        }
        6 => out.extend([rng.pick(&[0xeb, 0x74, 0x75, 0xe2, 0x72]), (rng.below(0x50) as u8).wrapping_sub(0x28)]),
        7 => out.extend([rng.pick(&[0xe4, 0xe5, 0xe6, 0xe7, 0xcd]), rng.byte()]),
        8 => out.push(rng.pick(&[0xec, 0xed, 0xee, 0xef, 0xcc, 0xc3, 0x9c, 0x6c, 0x6f])),
        _ => shaped(rng, out),
    }
}

/// `mov rdi, address of the I/O APIC, the local APIC or a device near them; mov eax, value`, then an access or two there.
fn chip_access(rng: &mut Rng, out: &mut Vec<u8>) {
    let (page, offsets) = rng.pick(&[(0xfec0_0000, 0x28), (0xfee0_0000, 0x400), (0xd000_0000, 0x110)]);
    let at = match rng.below(6) {
        // Over the edge into the next page, or from the one before.
        0 => page + 0x1000 - rng.below(18),
        1 => page - rng.below(18),
        2 => page + rng.below(0x1000),
        3 => page + (rng.below(offsets) & !15),
        _ => page + rng.below(offsets),
    };
    out.extend([0x48, 0xbf]);
    out.extend(at.to_le_bytes());
    let value = if rng.chance(50) { rng.below(0x100) | rng.below(8) << 8 } else { rng.edge() };
    out.push(0xb8);
    out.extend((value as u32).to_le_bytes());
    for _ in 0..=rng.below(2) {
        out.extend(rng.pick(&ACCESSES));
    }
}

/// `mov r64, imm64` of a value near an edge.
fn load_edge(rng: &mut Rng, out: &mut Vec<u8>) {
    out.extend([0x48 | rng.byte() & 1, 0xb8 | rng.byte() & 7]);
    out.extend(rng.edge().to_le_bytes());
}

/// Prefixes, an opcode of any map, and an operand byte with what follows it.
fn shaped(rng: &mut Rng, out: &mut Vec<u8>) {
    while rng.chance(25) {
        out.push(rng.pick(&PREFIXES));
    }
    if rng.chance(50) {
        out.push(0x40 | rng.byte() & 0xf);
    }
    match rng.below(8) {
        0..4 => {}
        4..6 => out.push(0x0f),
        6 => out.extend([0x0f, 0x38]),
        _ => out.extend([0x0f, 0x3a]),
    }
    let modrm = rng.byte();
    out.extend([rng.byte(), modrm]);
    let (mode, rm) = (modrm >> 6, modrm & 7);
    if mode != 3 && rm == 4 {
        out.push(rng.byte());
    }
    let displacement = (rng.edge() as u32).to_le_bytes();
    match mode {
        1 => out.push(displacement[0]),
        2 => out.extend(displacement),
        0 if rm == 5 => out.extend(displacement),
        _ => {}
    }
    if rng.chance(20) {
        out.push(rng.byte());
    }
}

//! Instructions that are carried out in pairs do what they do one by one, faults of the second one included.

use supermachine_hv::laws::machine::{CODE, DATA, Rig};
use supermachine_hv::x86::Regs;
use supermachine_hv_soft::{Model, SoftHypervisor};

/// RDI is an address without memory, RBP that of some; one word is on the stack; a new block begins.
#[rustfmt::skip]
const BEFORE: &[u8] = &[
    0x48, 0xbf, 0x56, 0x34, 0x12, 0x00, 0x00, 0x80, 0xff, 0xff, // mov rdi, 0xffff800000123456
    0xbd, 0x00, 0x00, 0x02, 0x00, // mov ebp, DATA
    0x55, // push rbp
    0xeb, 0x00, // jmp to the next instruction
];
/// Ends a block without doing anything.
const JUMP: &[u8] = &[0xeb, 0x00];
const END: &[u8] = &[0xe6, 0xf4]; // out 0xf4, al
/// Page fault: RBX error code, RDX address of the instruction, RSI address of the access.
#[rustfmt::skip]
const HANDLER: &[u8] = &[
    0x5b, // pop rbx
    0x48, 0x8b, 0x14, 0x24, // mov rdx, [rsp]
    0x0f, 0x20, 0xd6, // mov rsi, cr2
    0xe6, 0xf4, // out 0xf4, al
];

/// One of each kind.
const KINDS: [(&str, &[u8]); 9] = [
    ("mov rax, rbp", &[0x48, 0x89, 0xe8]),
    ("mov eax, ebp", &[0x89, 0xe8]),
    ("mov eax, 0x1234", &[0xb8, 0x34, 0x12, 0x00, 0x00]),
    ("mov eax, [rbp]", &[0x8b, 0x45, 0x00]),
    ("mov rax, [rbp+0x3000]", &[0x48, 0x8b, 0x85, 0x00, 0x30, 0x00, 0x00]),
    ("mov [rbp+0x2000], rax", &[0x48, 0x89, 0x85, 0x00, 0x20, 0x00, 0x00]),
    ("lea rbp, [rbp+8]", &[0x48, 0x8d, 0x6d, 0x08]),
    ("push rax", &[0x50]),
    ("pop rax", &[0x58]),
];
/// Those that fault, with the error code.
const FAULTING: [(&str, &[u8], u64); 3] = [
    ("mov rcx, [rdi]", &[0x48, 0x8b, 0x0f], 0),
    ("mov ecx, [rdi]", &[0x8b, 0x0f], 0),
    ("mov [rdi], rcx", &[0x48, 0x89, 0x0f], 2),
];

/// Registers at the end, but for RIP, and what was written.
fn run(parts: &[&[u8]]) -> (Regs, Vec<u8>) {
    let mut rig = Rig::new(&SoftHypervisor::new(Model::V2), &parts.concat());
    rig.gate(14, HANDLER);
    rig.write(DATA, &[1, 2, 3, 4, 5, 6, 7, 8]);
    rig.write(DATA + 0x3000, &[9, 10, 11, 12, 13, 14, 15, 16]);
    let regs = rig.registers_at_end();
    (Regs { rip: 0, ..regs }, rig.read(DATA + 0x2000, 16))
}

#[test]
fn a_pair_is_the_same_as_one_after_the_other() {
    for (first, one) in KINDS {
        for (second, two) in KINDS {
            // Twice: the second time round, the TLB knows the pages.
            let pair = run(&[BEFORE, one, two, JUMP, one, two, END]);
            let apart = run(&[BEFORE, one, JUMP, two, JUMP, one, JUMP, two, END]);
            assert_eq!(pair, apart, "{first}; {second}");
        }
    }
}

#[test]
fn the_second_of_a_pair_faults_after_the_first_is_done() {
    for (first, one) in KINDS {
        for (second, two, code) in FAULTING {
            let at = CODE + (BEFORE.len() + one.len()) as u64;
            let (pair, written) = run(&[BEFORE, one, two, END]);
            let (apart, written_apart) = run(&[BEFORE, one, JUMP, two, END]);
            assert_eq!((pair.rbx, pair.rdx, pair.rsi), (code, at, pair.rdi), "{first}; {second}");
            assert_eq!((Regs { rdx: at + 2, ..pair }, written), (apart, written_apart), "{first}; {second}");
        }
    }
}

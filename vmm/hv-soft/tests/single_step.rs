//! TF on the soft back end: where each trap's saved address points.

use supermachine_hv::laws::machine::{CODE, DATA, Rig};
use supermachine_hv_soft::{Model, SoftHypervisor};

/// Keeps the saved RIP in a list at R8.
#[rustfmt::skip]
const HANDLER: &[u8] = &[
    0x50, // push rax
    0x48, 0x8b, 0x44, 0x24, 0x08, // mov rax, [rsp+8]
    0x49, 0x89, 0x00, // mov [r8], rax
    0x49, 0x83, 0xc0, 0x08, // add r8, 8
    0x58, // pop rax
    0x48, 0xcf, // iretq
];

/// Three elements of a string instruction under TF, which is the byte 0 here.
#[rustfmt::skip]
const STRINGS: &[u8] = &[
    0x41, 0xb8, 0x00, 0x00, 0x02, 0x00, // mov r8d, DATA
    0xbf, 0x00, 0x10, 0x02, 0x00, // mov edi, DATA+0x1000
    0xbe, 0x00, 0x20, 0x02, 0x00, // mov esi, DATA+0x2000
    0xb9, 0x03, 0x00, 0x00, 0x00, // mov ecx, 3
    0x31, 0xc0, // xor eax, eax
    0x9c, // pushfq
    0x80, 0x4c, 0x24, 0x01, 0x01, // or byte ptr [rsp+1], 1
    0x9d, // popfq
    0xf3, 0x00, // 30: rep and the instruction
    0x90, // 32: nop
    0xe6, 0xf4, // 33: out 0xf4, al
];
const STRING_AT: u64 = 30;

/// A load of SS under TF.
#[rustfmt::skip]
const LOAD_SS: &[u8] = &[
    0x41, 0xb8, 0x00, 0x00, 0x02, 0x00, // mov r8d, DATA
    0x9c, // pushfq
    0x80, 0x4c, 0x24, 0x01, 0x01, // or byte ptr [rsp+1], 1
    0x9d, // popfq
    0x8c, 0xd1, // 13: mov ecx, ss
    0x8e, 0xd1, // 15: mov ss, ecx
    0x90, // 17: nop
    0xe6, 0xf4, // 18: out 0xf4, al
];

/// The saved addresses after the start of the code, up to the first that is not written.
fn trapped_at(rig: &Rig) -> Vec<u64> {
    let saved = rig.read(DATA, 64);
    let words = saved.chunks(8).map(|c| c.iter().rev().fold(0, |v, &b| v << 8 | u64::from(b)));
    words.take_while(|&at| at != 0).map(|at| at - CODE).collect()
}

#[test]
fn a_repeated_string_instruction_traps_after_each_element() {
    for (name, opcode) in [("movsb", 0xa4), ("cmpsb", 0xa6), ("stosb", 0xaa), ("lodsb", 0xac), ("scasb", 0xae)] {
        let mut code = STRINGS.to_vec();
        code[STRING_AT as usize + 1] = opcode;
        let mut rig = Rig::new(&SoftHypervisor::new(Model::V2), &code);
        rig.gate(1, HANDLER);
        let regs = rig.registers_at_end();
        assert_eq!(trapped_at(&rig), [STRING_AT, STRING_AT, STRING_AT + 2, STRING_AT + 3], "{name}");
        assert_eq!(regs.rcx, 0, "{name}");
    }
}

#[test]
fn a_load_of_ss_leaves_its_trap_to_the_next_instruction() {
    let mut rig = Rig::new(&SoftHypervisor::new(Model::V2), LOAD_SS);
    rig.gate(1, HANDLER);
    rig.to_end();
    assert_eq!(trapped_at(&rig), [15, 18]);
}

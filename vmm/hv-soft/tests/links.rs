//! Blocks that are linked across pages, and returns that are foreseen, go where the page tables lead and nowhere else.

use supermachine_hv::VcpuState;
use supermachine_hv::laws::machine::{CODE, Rig};
use supermachine_hv_soft::{Model, SoftHypervisor};
use vm_memory::{Bytes, GuestAddress};

/// The page directory entry of the first 2 MiB, and a page table to stand in for it.
const DIRECTORY: u64 = 0x3000;
const TABLE: u64 = 0xa000;
/// A function's page, and the page of another one that takes its place.
const FUNCTION: u64 = 0x6_0000;
const OTHER: u64 = 0x7_0000;
/// Present, writable; and global.
const MAPPED: u64 = 3;
const GLOBAL: u64 = 1 << 8;
const PGE: u64 = 1 << 7;
/// Calls in each loop.
const CALLS: u32 = 100;

const INVLPG: &[u8] = &[0x0f, 0x01, 0x3c, 0x25, 0x00, 0x00, 0x06, 0x00]; // invlpg [FUNCTION]
const LOAD_CR3: &[u8] = &[0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8]; // mov rax, cr3; mov cr3, rax
#[rustfmt::skip]
const TOGGLE_PGE: &[u8] = &[
    0x0f, 0x20, 0xe0, // mov rax, cr4
    0x48, 0x0f, 0xba, 0xf8, 0x07, // btc rax, 7
    0x0f, 0x22, 0xe0, // mov cr4, rax
    0x48, 0x0f, 0xba, 0xf8, 0x07, // btc rax, 7
    0x0f, 0x22, 0xe0, // mov cr4, rax
];
const START: &[u8] = &[0x31, 0xdb]; // xor ebx, ebx
const END: &[u8] = &[0xe6, 0xf4]; // out 0xf4, al

/// `mov eax, n; ret`
fn function(n: u8) -> [u8; 6] {
    [0xb8, n, 0, 0, 0, 0xc3]
}

/// `mov qword [entry of page], value`
fn map(page: u64, value: u64) -> Vec<u8> {
    let entry = (TABLE + 8 * (page >> 12)) as u32;
    [&[0x48, 0xc7, 0x04, 0x25][..], &entry.to_le_bytes(), &(value as u32).to_le_bytes()].concat()
}

/// Adds what [`FUNCTION`] returns to EBX again and again; `at` is where this code will be. `more` runs after each call.
fn calls(at: u64, count: u32, more: &[u8]) -> Vec<u8> {
    let to = (FUNCTION.wrapping_sub(at + 10) as u32).to_le_bytes();
    let mut code = [&[0xb9][..], &count.to_le_bytes(), &[0xe8], &to, &[0x01, 0xc3], more, &[0xff, 0xc9, 0x75]].concat();
    code.push((5 - (code.len() as i64 + 1)) as u8); // mov ecx; again: call; add ebx, eax; more; dec ecx; jnz again
    code
}

/// A machine whose first 2 MiB are mapped by small pages, with `function(1)` and `function(2)`.
fn rig(code: &[u8], global: bool) -> Rig {
    let mut rig = Rig::new(&SoftHypervisor::new(Model::V2), code);
    let flags = MAPPED | if global { GLOBAL } else { 0 };
    for page in 0..512u64 {
        rig.memory.write_obj(page << 12 | flags, GuestAddress(TABLE + 8 * page)).unwrap();
    }
    rig.memory.write_obj(TABLE | MAPPED, GuestAddress(DIRECTORY)).unwrap();
    rig.write(FUNCTION, &function(1));
    rig.write(OTHER, &function(2));
    let mut state = rig.save();
    let VcpuState::X86(vcpu) = &mut state else { panic!("not x86") };
    vcpu.sregs.cr4 |= PGE;
    rig.vcpu.restore(&state).unwrap();
    rig
}

#[test]
fn a_call_follows_its_page() {
    for (global, flush) in [(true, INVLPG), (true, TOGGLE_PGE), (false, INVLPG), (false, LOAD_CR3), (false, TOGGLE_PGE)]
    {
        let flags = MAPPED | if global { GLOBAL } else { 0 };
        let mut code = [START, &calls(CODE + 2, CALLS, &[])].concat();
        code.extend(map(FUNCTION, OTHER | flags));
        code.extend(flush);
        code.extend(calls(CODE + code.len() as u64, CALLS, &[]));
        code.extend(END);
        let regs = rig(&code, global).registers_at_end();
        assert_eq!(regs.rbx, u64::from(CALLS) * 3, "global {global}, {flush:x?}");
    }
}

#[test]
fn global_pages_stay_over_a_load_of_cr3() {
    let mut code = [START, &calls(CODE + 2, CALLS, LOAD_CR3)].concat();
    code.extend(map(FUNCTION, OTHER | MAPPED | GLOBAL));
    code.extend(INVLPG);
    code.extend(calls(CODE + code.len() as u64, CALLS, LOAD_CR3));
    code.extend(END);
    assert_eq!(rig(&code, true).registers_at_end().rbx, u64::from(CALLS) * 3);
}

#[test]
fn links_made_before_many_flushes_are_not_taken_for_new_ones() {
    // The page is swapped with each call, more often than there are keys.
    let count = 5_001;
    let other = FUNCTION ^ OTHER;
    let entry = ((TABLE + 8 * (FUNCTION >> 12)) as u32).to_le_bytes();
    let swap = [&[0x81, 0x34, 0x25][..], &entry, &(other as u32).to_le_bytes(), INVLPG].concat(); // xor dword [entry], n
    let code = [START, &calls(CODE + 2, count, &swap), END].concat();
    assert_eq!(rig(&code, true).registers_at_end().rbx, u64::from(count / 2) * 3 + 1);
}

#[test]
fn a_return_follows_its_page() {
    // The function maps another page in the place of its caller's, where EBX is doubled after the call, not incremented.
    let before = [0xbb, 0x05, 0x00, 0x00, 0x00]; // mov ebx, 5
    let to = ((FUNCTION - (CODE + 10)) as u32).to_le_bytes();
    let call = [&[0xe8][..], &to].concat();
    let mut machine = rig(&[&before, &call[..], &[0xff, 0xc3], END].concat(), true); // inc ebx
    machine.write(OTHER, &[&before, &call[..], &[0x01, 0xdb], END].concat()); // add ebx, ebx
    let invlpg = [0x0f, 0x01, 0x3c, 0x25, 0x00, 0x00, 0x01, 0x00]; // invlpg [CODE]
    machine.write(FUNCTION, &[&map(CODE, OTHER | MAPPED | GLOBAL)[..], &invlpg, &[0xc3]].concat());
    assert_eq!(machine.registers_at_end().rbx, 10);
}

#[test]
fn a_return_sees_code_that_was_changed_meanwhile() {
    // The function turns the instruction after its call from `inc ebx` into `dec ebx`, at the third call.
    let mut code = [START, &calls(CODE + 2, CALLS, &[0xff, 0xc3])].concat(); // inc ebx
    let changed = CODE + 2 + 10 + 2;
    code.extend(END);
    let mut machine = rig(&code, true);
    let mut change = vec![0x31, 0xc0, 0x83, 0xf9, (CALLS - 2) as u8, 0x75, 0x08]; // xor eax, eax; cmp ecx, n; jne +8
    change.extend([0xc6, 0x04, 0x25]); // mov byte [changed + 1], 0xcb
    change.extend(((changed + 1) as u32).to_le_bytes());
    change.extend([0xcb, 0xc3]);
    machine.write(FUNCTION, &change);
    assert_eq!(machine.registers_at_end().rbx as i32, 2 - (CALLS as i32 - 2));
}

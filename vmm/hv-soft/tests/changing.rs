//! Code that changes, and stacks that are executable, do the right thing, and how much longer than the same work without.
//!
//! Time is that of the thread, for the host has other work too. A thunk that is new for each single call is more than any
//! program asks: there the goal is missed, and the bound says by how much. Real programs are in `conformance/programs`.

use std::sync::Mutex;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use supermachine_hv::laws::machine::Rig;
use supermachine_hv_soft::{Model, SoftHypervisor};

/// What the way with changing code should take at most, in times of the way without.
const GOAL: f64 = 5.0;
/// What the thunk may take.
const THUNK: f64 = 60.0;
/// The best of so many runs of each way, in turns.
const RUNS: u32 = 5;
/// One measurement at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Calls a function 200,000 times; it pushes and pops 8 registers and adds. `mov rsp, TOP` is patched in.
///
/// With the stack in the page of the code, each push is a write beside code that runs.
fn pushes(stack_top: u32) -> Vec<u8> {
    let mut code = vec![0xbc]; // mov esp, stack_top
    code.extend(stack_top.to_le_bytes());
    #[rustfmt::skip]
    code.extend([
        0x31, 0xc0, // xor eax, eax
        0xb9, 0x40, 0x0d, 0x03, 0x00, // mov ecx, 200000
        // again:
        0xe8, 0x06, 0x00, 0x00, 0x00, // call function
        0xff, 0xc9, // dec ecx
        0x75, 0xf7, // jnz again
        0xe6, 0xf4, // out 0xf4, al
        // function:
        0x50, 0x51, 0x52, 0x53, 0x55, 0x56, 0x57, 0x41, 0x50, // push rax rcx rdx rbx rbp rsi rdi r8
        0x48, 0x8d, 0x04, 0x48, // lea rax, [rax+rcx*2]
        0x48, 0x89, 0x44, 0x24, 0x38, // mov [rsp+56], rax
        0x41, 0x58, 0x5f, 0x5e, 0x5d, 0x5b, 0x5a, 0x59, 0x58, // pop r8 rdi rsi rbp rbx rdx rcx rax
        0xc3, // ret
    ]);
    code
}

/// Makes a function of 64 `add eax, n` and a `ret` at 0x30000 and calls it 100 times, 200 times over: a compiler that
/// replaces its code. With `keep`, the function is made once.
fn compiler(keep: bool) -> Vec<u8> {
    #[rustfmt::skip]
    let mut code = vec![
        0x31, 0xc0, // xor eax, eax
        0xbb, 0xc8, 0x00, 0x00, 0x00, // mov ebx, 200
        // make:
        0xbf, 0x00, 0x00, 0x03, 0x00, // mov edi, 0x30000
        0xb9, 0x40, 0x00, 0x00, 0x00, // mov ecx, 64
        // emit: add eax, imm32
        0xc6, 0x07, 0x05, // mov byte [rdi], 5
        0x8d, 0x14, 0x19, // lea edx, [rcx+rbx]
        0x89, 0x57, 0x01, // mov [rdi+1], edx
        0x48, 0x83, 0xc7, 0x05, // add rdi, 5
        0xff, 0xc9, // dec ecx
        0x75, 0xef, // jnz emit
        0xc6, 0x07, 0xc3, // mov byte [rdi], 0xc3
        // use:
        0xb9, 0x64, 0x00, 0x00, 0x00, // mov ecx, 100
        0xbe, 0x00, 0x00, 0x03, 0x00, // mov esi, 0x30000
        // call:
        0xff, 0xd6, // call rsi
        0xff, 0xc9, // dec ecx
        0x75, 0xfa, // jnz call
        0xff, 0xcb, // dec ebx
        0x75, 0xce, // jnz make
        0xe6, 0xf4, // out 0xf4, al
    ];
    if keep {
        // Back to `use`: the same calls of the first function.
        let at = code.len() - 3;
        code[at] = 0xec;
    }
    code
}

/// Builds a thunk on the stack, as nested functions of C do, calls it, and takes it down; 100,000 times. Without
/// `fresh` the thunk is built once.
fn thunks(fresh: bool) -> Vec<u8> {
    #[rustfmt::skip]
    let mut code = vec![
        0x31, 0xc0, // xor eax, eax
        0xb9, 0xa0, 0x86, 0x01, 0x00, // mov ecx, 100000
        0x48, 0x83, 0xec, 0x40, // sub rsp, 64
        // again: mov eax-relative work of a thunk: `add eax, imm32; ret`
        0xc6, 0x04, 0x24, 0x05, // mov byte [rsp], 5
        0x89, 0x4c, 0x24, 0x01, // mov [rsp+1], ecx
        0xc6, 0x44, 0x24, 0x05, 0xc3, // mov byte [rsp+5], 0xc3
        // use:
        0x48, 0x89, 0xe6, // mov rsi, rsp
        0xff, 0xd6, // call rsi
        0x69, 0xc0, 0x05, 0x00, 0x01, 0x00, // imul eax, eax, 0x10005
        0xff, 0xc9, // dec ecx
        0x75, 0xe4, // jnz again
        0xe6, 0xf4, // out 0xf4, al
    ];
    if !fresh {
        let at = code.len() - 3;
        code[at] = 0xf1;
    }
    code
}

/// Runs a program to its end: the time this thread took, and RAX.
fn measure(code: &[u8]) -> (Duration, u64) {
    let mut rig = Rig::new(&SoftHypervisor::new(Model::V2), code);
    let now = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("the thread's clock"));
    let start = now();
    rig.to_end();
    (now() - start, rig.x86().regs.rax)
}

fn compare(name: &str, most: f64, changing: &[u8], still: &[u8]) -> (u64, u64) {
    let _alone = ALONE.lock();
    let runs: Vec<_> = (0..RUNS).map(|_| (measure(changing), measure(still))).collect();
    let (slow, changed) = runs.iter().map(|run| run.0).min().expect("at least one run");
    let (fast, same) = runs.iter().map(|run| run.1).min().expect("at least one run");
    let times = slow.as_secs_f64() / fast.as_secs_f64();
    println!("soft-{name} {times:.2} times <={GOAL} ({slow:.1?}, without {fast:.1?})");
    assert!(times <= most, "{name}: {times:.2} times as long ({slow:?} and {fast:?})");
    (changed, same)
}

#[test]
fn a_stack_in_the_page_of_the_code() {
    let (changed, same) = compare("stack-beside-code", GOAL, &pushes(0x1_0f00), &pushes(0x4_0000));
    assert_eq!(changed, same);
}

#[test]
fn a_compiler_that_replaces_its_code() {
    let (changed, same) = compare("compiler", GOAL, &compiler(false), &compiler(true));
    // Rounds `b` of 200 down to 1, 100 calls each, `c + b` for `c` of 64 down to 1.
    let of_round = |b: u64| (1..=64).map(|c| c + b).sum::<u64>() * 100;
    assert_eq!(changed, (1..=200).map(of_round).sum::<u64>() & 0xffff_ffff);
    assert_eq!(same, (of_round(200) * 200) & 0xffff_ffff);
}

#[test]
fn a_thunk_on_the_stack() {
    let (changed, same) = compare("thunk", THUNK, &thunks(true), &thunks(false));
    let expected = |fresh: bool| {
        let step = |sum: u32, c: u32| sum.wrapping_add(if fresh { c } else { 100_000 }).wrapping_mul(0x1_0005);
        u64::from((1..=100_000).rev().fold(0, step))
    };
    assert_eq!((changed, same), (expected(true), expected(false)));
}

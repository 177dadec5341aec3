//! Known instructions give known results.

use super::*;
use crate::layout::{Place, WINDOW_BASE, WINDOW_RW_LEN};
use crate::state::{CpuState, RAX, RBX, RCX, RSP};

struct Bench {
    native: Native,
    state: CpuState,
}

fn case(place: Place, bytes: &[u8], state: &CpuState) -> Case {
    let mut image = [0; 32];
    image[..bytes.len()].copy_from_slice(bytes);
    Case {
        form: 0,
        instruction: iced_x86::Instruction::default(),
        bytes: image,
        len: bytes.len(),
        place,
        state: *state,
        pokes: Default::default(),
        watch: [0, 0],
        scrubs: Default::default(),
    }
}

impl Bench {
    fn new() -> Self {
        Bench { native: Native::new().unwrap(), state: CpuState::RESET }
    }

    fn run(&mut self, place: Place, bytes: &[u8]) -> Outcome {
        self.state.rip = place.site().start;
        let case = case(place, bytes, &self.state);
        self.native.set_case(0, &case);
        self.native.run(0, 1).unwrap();
        self.native.outcome(0, &case)
    }

    fn slot(&mut self, bytes: &[u8]) -> Outcome {
        self.run(Place::Slot(5), bytes)
    }
}

#[test]
fn registers_flags_and_rip_come_back() {
    let mut bench = Bench::new();
    for index in 0..16 {
        bench.state.gpr[index] = 0x1111_1111_1111_1111 * index as u64;
    }
    bench.state.gpr[RAX] = u64::MAX;
    bench.state.gpr[RBX] = 1;
    let outcome = bench.slot(&[0x48, 0x01, 0xd8]); // add rax, rbx
    let mut expected = bench.state.gpr;
    expected[RAX] = 0;
    assert_eq!(outcome.state.gpr, expected);
    assert_eq!(outcome.state.rflags, 0x257); // CF PF AF ZF
    assert_eq!(outcome.state.rip, Place::Slot(5).site().start + 3);
    assert_eq!(outcome.fault, None);
}

#[test]
fn the_fx_image_goes_in_and_out() {
    let mut bench = Bench::new();
    for index in 0..16 {
        bench.state.xmm_mut(index).fill(index as u8);
    }
    bench.state.fx[32..40].fill(0xee);
    bench.state.fx[40..42].copy_from_slice(&[0xff, 0x3f]);
    bench.state.fx[4] = 1;
    let outcome = bench.slot(&[0x66, 0x0f, 0xfc, 0xca]); // paddb xmm1, xmm2
    assert_eq!(outcome.state.xmm(1), [3; 16]);
    assert_eq!(outcome.state.xmm(15), [15; 16]);
    assert_eq!(outcome.state.st(0), bench.state.st(0));
}

#[test]
fn faults_have_vector_code_and_address() {
    let mut bench = Bench::new();
    let after = WINDOW_BASE + WINDOW_LEN as u64;
    bench.state.gpr[RAX] = after - 4;
    let load = bench.slot(&[0x48, 0x8b, 0x00]); // mov rax, [rax]
    assert_eq!(load.fault, Some(Fault { vector: 14, error: 4, address: after }));
    assert_eq!(load.state.gpr, bench.state.gpr);

    bench.state.gpr[RAX] = WINDOW_BASE + WINDOW_RW_LEN as u64 - 4;
    let store = bench.slot(&[0x48, 0x89, 0x00]); // mov [rax], rax
    let read_only = WINDOW_BASE + WINDOW_RW_LEN as u64;
    assert_eq!(store.fault, Some(Fault { vector: 14, error: 7, address: read_only }));

    bench.state.gpr[RAX] = 1 << 63 | 8;
    let not_canonical = bench.slot(&[0x48, 0x89, 0x00]);
    assert_eq!(not_canonical.fault, Some(Fault { vector: 13, error: 0, address: 0 }));

    let divide = bench.slot(&[0xf7, 0xf1]); // div ecx
    assert_eq!(divide.fault, Some(Fault { vector: 0, error: 0, address: 0 }));
    let undefined = bench.slot(&[0x0f, 0x0b]);
    assert_eq!(undefined.fault, Some(Fault { vector: 6, error: 0, address: 0 }));
}

#[test]
fn masked_off_float_errors_fault() {
    let mut bench = Bench::new();
    bench.state.set_mxcsr(0x1d80); // division by zero is not masked
    bench.state.xmm_mut(1).copy_from_slice(&[0, 0, 0x80, 0x3f].repeat(4));
    let outcome = bench.slot(&[0x0f, 0x5e, 0xca]); // divps xmm1, xmm2
    assert_eq!(outcome.fault, Some(Fault { vector: 19, error: 0, address: 0 }));
    assert_eq!(outcome.state.mxcsr(), 0x1d84);
    assert_eq!(outcome.state.xmm(1), bench.state.xmm(1));
}

#[test]
fn branches_land_where_they_went() {
    let mut bench = Bench::new();
    let site = Place::Slot(5).site();
    let jump = |to: u64| [0xeb, (to as i64 - site.start as i64 - 2) as u8];
    assert_eq!(bench.slot(&jump(site.back)).state.rip, site.back);
    assert_eq!(bench.slot(&jump(site.forward)).state.rip, site.forward);
    assert_eq!(bench.slot(&jump(site.back + 7)).state.rip, site.back + 7);
    bench.state.gpr[RAX] = WINDOW_BASE;
    assert_eq!(bench.slot(&[0xff, 0xe0]).state.rip, WINDOW_BASE); // jmp rax: to a page that is not executable
    bench.state.gpr[RSP] = 0x1000;
    let call = bench.slot(&[0xff, 0xd0]); // call rax with no stack
    assert_eq!(call.fault, Some(Fault { vector: 14, error: 6, address: 0xff8 }));
    assert_eq!(call.state.rip, site.start);
}

#[test]
fn code_at_page_ends_runs_or_faults() {
    let mut bench = Bench::new();
    bench.state.gpr[RCX] = 5;
    let bytes = [0x48, 0x8d, 0x41, 0x01]; // lea rax, [rcx + 1]
    for head in 1..4 {
        let straddle = bench.run(Place::Straddle { head }, &bytes);
        assert_eq!((straddle.fault, straddle.state.gpr[RAX]), (None, 6), "{head}");
        let tail = bench.run(Place::Tail { head }, &bytes);
        let end = CODE_BASE + crate::layout::CODE_LEN as u64;
        assert_eq!(tail.fault, Some(Fault { vector: 14, error: 0x14, address: end }), "{head}");
    }
    let whole = bench.run(Place::Tail { head: 4 }, &bytes);
    assert_eq!((whole.fault, whole.state.gpr[RAX]), (None, 6));
    assert_eq!(whole.state.rip, CODE_BASE + crate::layout::CODE_LEN as u64);
}

#[test]
fn a_child_that_dies_or_makes_a_system_call_is_replaced() {
    let mut bench = Bench::new();
    bench.state.gpr[RAX] = 39;
    bench.state.rip = Place::Slot(5).site().start;
    let syscall = case(Place::Slot(5), &[0x0f, 0x05], &bench.state); // of which seccomp allows four
    bench.native.set_case(0, &syscall);
    let died = bench.native.run(0, 1);
    assert!(matches!(died, Err(NativeError::Died { index: 0, .. })), "{died:?}");
    bench.state.gpr[RCX] = 7;
    assert_eq!(bench.slot(&[0x48, 0x89, 0xc8]).state.gpr[RAX], 7); // mov rax, rcx
}

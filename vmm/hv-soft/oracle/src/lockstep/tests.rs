//! Walks over made-up traces.

use std::collections::HashSet;
use std::io::Cursor;

use super::calls::Calls;
use super::streams::{Interrupts, Range, Stream, qemu, soft};
use super::symbols::Symbols;
use super::walk::{Limits, Parting, Step, Walk};

const HANDLER: u64 = 0x9000;
const IRET: u64 = 0x9004;

fn interrupts() -> Interrupts {
    let entries = HashSet::from([HANDLER]);
    Interrupts::new(entries.clone(), entries, Some(IRET))
}

/// A walk over blocks of `soft` and instructions of `qemu`, with a meeting after three ranges.
fn walk(soft: &[(u64, u64)], qemu: &[u64]) -> Walk {
    let soft: Vec<_> = soft.iter().map(|&(start, end)| Range { start, end }).collect();
    let qemu: Vec<_> = qemu.iter().map(|&pc| Range { start: pc, end: pc + 1 }).collect();
    let limits = Limits { soft_window: 1000, qemu_window: 1000, run: 3 };
    Walk::new(
        Stream::new(soft.into_iter(), interrupts()),
        Stream::new(qemu.into_iter(), interrupts()),
        limits,
        Calls::default(),
    )
}

/// A program of blocks of two instructions, 16 bytes apart.
fn program(blocks: std::ops::Range<u64>) -> (Vec<(u64, u64)>, Vec<u64>) {
    (blocks.clone().map(|b| (b * 16, b * 16 + 8)).collect(), blocks.flat_map(|b| [b * 16, b * 16 + 4]).collect())
}

fn parted(walk: &mut Walk) -> Parting {
    match walk.next(u64::MAX) {
        Step::Parted(p) => p,
        Step::Enough | Step::End => panic!("no difference after {} instructions", walk.common),
    }
}

fn ends(mut walk: Walk) -> u64 {
    assert!(matches!(walk.next(u64::MAX), Step::End), "a difference after {}", walk.common);
    walk.common
}

#[test]
fn the_same_way_is_the_same() {
    let (soft, qemu) = program(1..50);
    assert_eq!(ends(walk(&soft, &qemu)), 98);
}

#[test]
fn interrupts_may_come_anywhere() {
    let (mut soft, mut qemu) = program(1..50);
    soft.splice(10..10, [(HANDLER, HANDLER + 2), (IRET - 2, IRET + 1)]);
    qemu.splice(31..31, [HANDLER, HANDLER + 1, IRET]);
    assert_eq!(ends(walk(&soft, &qemu)), 98);
}

#[test]
fn an_instruction_may_be_begun_again() {
    let (mut soft, mut qemu) = program(1..50);
    soft.splice(5..5, [(0x54, 0x55), (0x54, 0x55)]);
    qemu.splice(10..10, [0x54, 0x54]);
    assert_eq!(ends(walk(&soft, &qemu)), 98);
}

#[test]
fn a_wrong_branch_is_told_with_its_place() {
    let (soft, qemu) = program(1..50);
    let (mut other, _) = program(100..103);
    let wrong: Vec<_> = soft[..20].iter().copied().chain(other.drain(..)).chain(soft[25..].iter().copied()).collect();
    let mut walk = walk(&wrong, &qemu);
    let parting = parted(&mut walk);
    assert_eq!(parting.after, 40);
    assert_eq!(parting.common.last(), Some(&(20 * 16 + 4)));
    assert_eq!((parting.soft[0], parting.qemu[0]), (1600, 21 * 16));
    assert_eq!(parting.met, Some((26 * 16, 3, 10)));
    assert_eq!(ends(walk), 40 + 48);
}

#[test]
fn loops_of_other_lengths_meet_behind() {
    let (soft, qemu) = program(1..50);
    let turn = |n: usize| vec![(0x100, 0x108); n];
    let soft: Vec<_> = soft[..16].iter().copied().chain(turn(2)).chain(soft[16..].iter().copied()).collect();
    let longer: Vec<_> =
        qemu[..32].iter().copied().chain([0x100, 0x104].repeat(90)).chain(qemu[32..].to_vec()).collect();
    let mut walk = walk(&soft, &longer);
    assert_eq!(parted(&mut walk).met, Some((17 * 16, 0, 2 * 88)));
    ends(walk);
}

#[test]
fn ways_that_never_meet_are_for_good() {
    let (soft, mut qemu) = program(1..50);
    qemu.truncate(60);
    qemu.extend((0..100).map(|i| 0x5000 + 4 * i));
    assert_eq!(parted(&mut walk(&soft, &qemu)).met, None);
}

#[test]
fn logs_are_read() {
    let line = |pc: u64| format!("Trace 0: 0x7f27f0000100 [0000000000000000/{pc:016x}/00000040/ff000200] \n");
    let log = [line(1), line(0x10), line(0x14), "Stopped execution of TB chain before x\n".into(), line(0x20)].concat();
    let pcs: Vec<_> = qemu(Cursor::new(log), 0x10).map(|r| r.start).collect();
    assert_eq!(pcs, [0x10, 0x20]);
    let bytes: Vec<u8> = [1u64, 2, 0x10, 0x18].iter().flat_map(|w| w.to_le_bytes()).collect();
    assert_eq!(soft(Cursor::new(bytes), 0x10).collect::<Vec<_>>(), [Range { start: 0x10, end: 0x18 }]);
}

#[test]
fn addresses_have_names_before_and_after_paging() {
    let symbols = Symbols::parse("ffffffff81000123 T startup_64\nffffffff81000180 T next\n0000000000000000 D data\n");
    assert_eq!(symbols.describe(0x100_0125), "0x1000125 startup_64+0x2");
    assert_eq!(symbols.function(0xffff_ffff_8100_0181), Some("next"));
}

#[test]
fn calls_are_guessed() {
    let mut calls = Calls::new(vec![100, 200, 300, 400, 500], HashSet::from([500]));
    for pc in [100, 120, 200, 300, 310, 500, 220] {
        calls.at(pc);
    }
    assert_eq!(calls.stack(), [200, 100]);
    calls.at(130);
    assert_eq!(calls.stack(), [100]);
    calls.at(430);
    assert_eq!(calls.stack(), [400]);
}

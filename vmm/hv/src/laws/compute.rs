//! Laws about computing: what a program leaves in registers and memory.

use super::machine::{CODE, DATA, Rig, STACK_TOP};
use super::programs::compute::{ARITHMETIC, ENTRY, STORES};
use crate::Hypervisor;

const CARRY: u64 = 1;
const PARITY: u64 = 1 << 2;
const ADJUST: u64 = 1 << 4;
const ZERO: u64 = 1 << 6;
const SIGN: u64 = 1 << 7;
const OVERFLOW: u64 = 1 << 11;
const ARITHMETIC_FLAGS: u64 = CARRY | PARITY | ADJUST | ZERO | SIGN | OVERFLOW;

/// A restored state is entered as it says: 64-bit registers, code segment, stack, RIP-relative addresses.
pub fn enters_64_bit_mode(hypervisor: &dyn Hypervisor) {
    let regs = Rig::new(hypervisor, ENTRY).registers_at_end();
    assert_eq!(regs.rax, 0x1122_3344_5566_7788);
    assert_eq!(regs.rbx, 0x5566_7788_0000_0000);
    assert_eq!(regs.rcx, 0, "a 32-bit result clears the upper half");
    assert_eq!(regs.r8 & ARITHMETIC_FLAGS, CARRY | PARITY | ADJUST | ZERO, "{:#x}", regs.r8);
    let lea = ENTRY.windows(3).position(|bytes| bytes == [0x4c, 0x8d, 0x25]).expect("the LEA") as u64;
    assert_eq!(regs.r12, CODE + lea + 7);
    assert_eq!((regs.r13, regs.r14), (0x08, STACK_TOP));
    assert_eq!((regs.rdx, regs.r9, regs.r10), (5, 0xffff_ffff_ffff_ff07, 0xffff_ffff_ffff_0007));
    assert_eq!(regs.rip, CODE + ENTRY.len() as u64, "a save after a port write is past it");
}

/// Integer instructions give the architecture's results and flags.
pub fn arithmetic_and_flags(hypervisor: &dyn Hypervisor) {
    let regs = Rig::new(hypervisor, ARITHMETIC).registers_at_end();
    assert_eq!(regs.r8 & ARITHMETIC_FLAGS, CARRY | PARITY | ADJUST | ZERO, "{:#x}", regs.r8);
    assert_eq!(regs.rbx, 0x11, "ADC takes the carry");
    assert_eq!(regs.rcx, i64::MAX.cast_unsigned());
    assert_eq!(regs.r9 & ARITHMETIC_FLAGS, PARITY | ADJUST | OVERFLOW, "{:#x}", regs.r9);
    assert_eq!((regs.r10, regs.r11), (2, u64::MAX - 5), "a 128-bit product");
    assert_eq!(regs.rdi, 1 << 60, "a 128-bit dividend");
    assert_eq!(regs.r12, (-21i64).cast_unsigned());
    assert_eq!(regs.r13, 0x18);
    assert_eq!((regs.r15, regs.rbp), (44, 44));
    assert_eq!(regs.rsi, (-42i64).cast_unsigned(), "CMOVB after a borrow");
    assert_eq!(regs.rdx, 9 | 1 << 40);
}

/// Stores of every width, pushes, string stores and locked updates are in RAM, byte for byte.
pub fn stores_reach_memory(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, STORES);
    rig.write(DATA + 1, &[0xee]);
    let regs = rig.registers_at_end();
    let value = 0x1122_3344_5566_7788_u64.to_le_bytes();
    let mut want = vec![0x88, 0xee, 0x88, 0x77, 0x88, 0x77, 0x66, 0x55];
    want.extend(value);
    want.extend(u64::MAX.wrapping_sub(1).to_le_bytes());
    want.extend(value);
    assert_eq!(rig.read(DATA, 32), want);
    assert_eq!(rig.read(DATA + 0x100, 40), [value.repeat(4), vec![0; 8]].concat(), "REP STOSQ");
    assert_eq!(rig.read(DATA + 0x200, 20), [want.get(..16).expect("32 bytes"), &[0; 4]].concat(), "REP MOVSB");
    assert_eq!(rig.read(STACK_TOP - 8, 8), value, "PUSH");
    assert_eq!(rig.read(DATA + 0x300, 4), [1, 0, 0, 0], "XCHG 7, XADD 10, CMPXCHG 17 to 1");
    assert_eq!((regs.rax, regs.rbx), (17, 7));
}

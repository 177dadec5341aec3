//! Laws about I/O: one exit per access, with the access's own address, width and value.

use super::machine::{DATA, DEVICE, Rig};
use super::programs::io::{MMIO_MODIFY, MMIO_READS, MMIO_STRINGS, MMIO_WRITES, PORT_STRINGS, PORTS};
use crate::{Exit, Hypervisor};

const ALL_ONES: u64 = u64::MAX;

fn mmio_read(offset: u64, size: u8) -> Exit {
    Exit::MmioRead { gpa: DEVICE + offset, size }
}

fn mmio_write(offset: u64, size: u8, value: u64) -> Exit {
    Exit::MmioWrite { gpa: DEVICE + offset, size, value }
}

/// Loads of 1, 2, 4 and 8 bytes; bits of the reply above the width do not reach the guest.
pub fn mmio_reads_of_every_width(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, MMIO_READS);
    rig.answer(&mmio_read(0, 1), 0xffff_ff12);
    rig.answer(&mmio_read(2, 2), 0xffff_1234);
    rig.answer(&mmio_read(4, 4), 0xffff_ffff_8765_4321);
    rig.answer(&mmio_read(8, 8), 0x8877_6655_4433_2211);
    rig.answer(&mmio_read(16, 1), 0x80);
    rig.answer(&mmio_read(17, 1), 0x80);
    rig.answer(&mmio_read(18, 2), 0x8000);
    rig.answer(&mmio_read(20, 2), 0x8000);
    rig.answer(&mmio_read(24, 4), 0x8000_0000);
    let regs = rig.registers_at_end();
    assert_eq!((regs.rax, regs.rbx), (ALL_ONES << 8 | 0x12, ALL_ONES << 16 | 0x1234));
    assert_eq!((regs.rcx, regs.rdx), (0x8765_4321, 0x8877_6655_4433_2211));
    assert_eq!((regs.r8, regs.r9), (0x80, ALL_ONES << 7), "MOVZX, MOVSX of a byte");
    assert_eq!((regs.r10, regs.r11), (0x8000, ALL_ONES << 15), "MOVZX, MOVSX of a word");
    assert_eq!(regs.r12, ALL_ONES << 31, "MOVSXD");
}

/// Stores of 1, 2, 4 and 8 bytes from registers and immediates; upper bytes of the value are zero.
pub fn mmio_writes_of_every_width(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, MMIO_WRITES);
    rig.expect(&mmio_write(0, 1, 0x88));
    rig.expect(&mmio_write(2, 2, 0x7788));
    rig.expect(&mmio_write(4, 4, 0x5566_7788));
    rig.expect(&mmio_write(8, 8, 0x1122_3344_5566_7788));
    rig.expect(&mmio_write(16, 1, 0x9a));
    rig.expect(&mmio_write(18, 2, 0x9abc));
    rig.expect(&mmio_write(20, 4, 0x9abc_def0));
    rig.expect(&mmio_write(24, 8, ALL_ONES - 1));
    rig.to_end();
}

/// String instructions with a device on one side give one exit per element, in order.
pub fn mmio_strings(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, MMIO_STRINGS);
    rig.write(DATA, &[1, 2, 3, 4, 5, 6, 7, 8]);
    for offset in 0..3 {
        rig.expect(&mmio_write(offset, 1, 0x5a));
    }
    rig.expect(&mmio_write(0x10, 4, 0x0403_0201));
    rig.expect(&mmio_write(0x14, 4, 0x0807_0605));
    for offset in 0..3 {
        rig.answer(&mmio_read(0x20 + offset, 1), 0xa0 + offset);
    }
    rig.answer(&mmio_read(0x30, 4), 0xcafe_f00d);
    let regs = rig.registers_at_end();
    assert_eq!(rig.read(DATA + 0x100, 4), [0xa0, 0xa1, 0xa2, 0]);
    assert_eq!((regs.rcx, regs.rdi, regs.rsi), (0, DATA + 0x103, DEVICE + 0x34));
    assert_eq!(regs.rax, 0xcafe_f00d);
}

/// A read-modify-write is a read and then a write of what came of it.
pub fn mmio_read_modify_writes(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, MMIO_MODIFY);
    rig.answer(&mmio_read(0, 4), 0x10);
    rig.expect(&mmio_write(0, 4, 0x15));
    rig.answer(&mmio_read(4, 1), 0x80);
    rig.expect(&mmio_write(4, 1, 0x81));
    rig.answer(&mmio_read(6, 2), 0xffff);
    rig.expect(&mmio_write(6, 2, 0));
    rig.answer(&mmio_read(8, 8), ALL_ONES);
    rig.expect(&mmio_write(8, 8, 5));
    rig.to_end();
}

/// Port accesses of 1, 2 and 4 bytes, by DX and by number.
pub fn ports_of_every_width(hypervisor: &dyn Hypervisor) {
    let mut rig = Rig::new(hypervisor, PORTS);
    rig.answer(&Exit::PioRead { port: 0x3f8, size: 1 }, 0xffff_ff12);
    rig.answer(&Exit::PioRead { port: 0x3f8, size: 2 }, 0xffff_1234);
    rig.answer(&Exit::PioRead { port: 0x3f8, size: 4 }, 0xffff_ffff_8765_4321);
    rig.answer(&Exit::PioRead { port: 0x71, size: 1 }, 0x99);
    rig.expect(&Exit::PioWrite { port: 0x3f8, size: 1, value: 0x78 });
    rig.expect(&Exit::PioWrite { port: 0x3f8, size: 2, value: 0x5678 });
    rig.expect(&Exit::PioWrite { port: 0x3f8, size: 4, value: 0x1234_5678 });
    rig.expect(&Exit::PioWrite { port: 0x70, size: 4, value: 0x1234_5678 });
    let regs = rig.registers_at_end();
    assert_eq!((regs.rbx, regs.rcx), (ALL_ONES << 8 | 0x12, ALL_ONES << 16 | 0x1234));
    assert_eq!(regs.rsi, 0x8765_4321, "a 32-bit port read clears the upper half");
    assert_eq!(regs.rdi, 0x8765_4399);
}

/// String port instructions give one exit per element, and RAM has what was read.
pub fn port_strings(hypervisor: &dyn Hypervisor) {
    const PORT: u16 = 0x1f0;
    let mut rig = Rig::new(hypervisor, PORT_STRINGS);
    rig.write(DATA, &[1, 2, 3, 4, 5, 6, 7]);
    for value in 1..=3 {
        rig.expect(&Exit::PioWrite { port: PORT, size: 1, value });
    }
    rig.expect(&Exit::PioWrite { port: PORT, size: 2, value: 0x0504 });
    rig.expect(&Exit::PioWrite { port: PORT, size: 2, value: 0x0706 });
    for value in 0xa0..0xa4 {
        rig.answer(&Exit::PioRead { port: PORT, size: 1 }, value);
    }
    rig.answer(&Exit::PioRead { port: PORT, size: 4 }, 0x1111_1111);
    rig.answer(&Exit::PioRead { port: PORT, size: 4 }, 0x2222_2222);
    let regs = rig.registers_at_end();
    let want = [0xa0, 0xa1, 0xa2, 0xa3, 0x11, 0x11, 0x11, 0x11, 0x22, 0x22, 0x22, 0x22, 0];
    assert_eq!(rig.read(DATA + 0x100, 13), want);
    assert_eq!((regs.rcx, regs.rsi, regs.rdi), (0, DATA + 7, DATA + 0x10c));
}

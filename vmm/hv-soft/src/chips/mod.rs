//! Interrupt controllers and the small legacy chips that a back end answers for.

pub(crate) mod ioapic;
pub(crate) mod lapic;
pub(crate) mod legacy;
pub(crate) mod shared;

use crate::cpu::Cpu;

impl Cpu {
    /// A read of a chip inside the back end, or nothing where there is none.
    pub(crate) fn chip_read(&mut self, gpa: u64, size: u8) -> Option<u64> {
        if let Some(offset) = self.lapic.mmio_offset(gpa) {
            // Registers are 32 bits wide at multiples of 16.
            let v = if offset & 15 == 0 && size >= 4 { self.lapic_read(offset as u32 >> 4).unwrap_or(0) } else { 0 };
            return Some(v & 0xffff_ffff);
        }
        let offset = ioapic::offset(gpa)?;
        Some(u64::from(self.shared.board.ioapic().read(offset, size)))
    }

    /// A write to a chip inside the back end; says whether there is one.
    pub(crate) fn chip_write(&mut self, gpa: u64, _size: u8, value: u64) -> bool {
        if let Some(offset) = self.lapic.mmio_offset(gpa) {
            if offset & 15 == 0 {
                // Writes that the register does not take are ignored by xAPIC hardware.
                let _ignored = self.lapic_write(offset as u32 >> 4, value & 0xffff_ffff);
            }
            return true;
        }
        let Some(offset) = ioapic::offset(gpa) else { return false };
        let board = self.shared.board.clone();
        board.ioapic_write(offset, value as u32);
        true
    }
}

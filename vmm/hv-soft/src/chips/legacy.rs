//! Ports of the PC that every kernel probes: both PICs, the PIT and port 0x61. Enough to be found absent or idle.

use supermachine_hv::Exit;

use crate::cpu::Cpu;
use crate::flags::bit;
use crate::op::{Res, Stop};
use crate::spec::cr0;

/// Input clock of the PIT in Hz (8254 data sheet, PC wiring).
const PIT_HZ: u128 = 1_193_182;

/// Registers of the stubs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Legacy {
    /// Interrupt masks of the two PICs.
    masks: [u8; 2],
    /// Channel 2 gate and speaker bits of port 0x61.
    port61: u8,
    /// Reload value of PIT channel 2, and the half that comes next.
    reload: u16,
    high_next: bool,
    /// TSC at the start of channel 2's count.
    started: u64,
}

impl Legacy {
    /// Saved form: three little-endian words.
    pub(crate) fn save(&self) -> Vec<u8> {
        let Legacy { masks, port61, reload, high_next, started } = *self;
        let low = u64::from(masks[0]) | u64::from(masks[1]) << 8 | u64::from(port61) << 16;
        [low, u64::from(reload) | u64::from(high_next) << 16, started].iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    /// From the saved form; every value of the right length is valid.
    pub(crate) fn load(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != 24 {
            return None;
        }
        let word = |n: usize| Some(u64::from_le_bytes(bytes.get(8 * n..8 * n + 8)?.try_into().ok()?));
        let s = [word(0)?, word(1)?, word(2)?];
        Some(Legacy {
            masks: [s[0] as u8, (s[0] >> 8) as u8],
            port61: (s[0] >> 16) as u8 & 3,
            reload: s[1] as u16,
            high_next: s[1] >> 16 & 1 != 0,
            started: s[2],
        })
    }

    fn elapsed(&self, now: u64) -> u128 {
        u128::from(now.saturating_sub(self.started)) * PIT_HZ / u128::from(crate::clock::TSC_HZ)
    }

    /// A read, or nothing where the port belongs to the vmm.
    fn read(&mut self, port: u16, now: u64) -> Option<u64> {
        Some(match port {
            0x21 => u64::from(self.masks[0]),
            0xa1 => u64::from(self.masks[1]),
            0x20 | 0xa0 | 0x40 | 0x41 | 0x43 => 0,
            0x42 => {
                let left = u128::from(self.reload).saturating_sub(self.elapsed(now)) as u64;
                self.high_next = !self.high_next;
                if self.high_next { left & 0xff } else { left >> 8 & 0xff }
            }
            0x61 => {
                let expired = self.elapsed(now) >= u128::from(self.reload);
                u64::from(self.port61) | u64::from(expired) << 5
            }
            _ => return None,
        })
    }

    /// A write; false where the port belongs to the vmm.
    fn write(&mut self, port: u16, v: u8, now: u64) -> bool {
        match port {
            0x21 => self.masks[0] = v,
            0xa1 => self.masks[1] = v,
            0x20 | 0xa0 | 0x40 | 0x41 => {}
            0x43 => self.high_next = false,
            0x42 if self.high_next => {
                self.reload = self.reload & 0xff | u16::from(v) << 8;
                self.high_next = false;
                self.started = now;
            }
            0x42 => {
                self.reload = self.reload & 0xff00 | u16::from(v);
                self.high_next = true;
            }
            0x61 => {
                if v & 1 != 0 && self.port61 & 1 == 0 {
                    self.started = now;
                }
                self.port61 = v & 3;
            }
            _ => return false,
        }
        true
    }
}

impl Cpu {
    /// Checks that the current privilege level may use a port: IOPL, then the TSS's bitmap (SDM vol. 1, 19.5.2).
    pub(crate) fn check_port(&mut self, port: u16, size: u8) -> Res {
        let iopl = (self.sysflags & bit::IOPL) >> 12;
        if u64::from(self.cpl) <= iopl || self.sys.cr0 & cr0::PE == 0 {
            return Ok(());
        }
        let limit = u64::from(self.sys.tr.limit);
        let base = self.sys.tr.base;
        if limit < 103 {
            return Err(self.gp0());
        }
        let at = u64::from(self.system_read::<u16>(base.wrapping_add(102))?) + u64::from(port / 8);
        if at + 1 > limit {
            return Err(self.gp0());
        }
        let bits = self.system_read::<u16>(base.wrapping_add(at))? >> (port & 7);
        if u32::from(bits) & ((1 << size) - 1) != 0 {
            return Err(self.gp0());
        }
        Ok(())
    }

    /// Reads a port after `check_port`.
    pub(crate) fn port_read(&mut self, port: u16, size: u8) -> Res<u64> {
        let now = self.clock.tsc();
        match self.shared.board.legacy().read(port, now) {
            Some(v) => Ok(v),
            None => self.io.read(Exit::PioRead { port, size }),
        }
    }

    /// Writes a port after `check_port`.
    pub(crate) fn port_write(&mut self, port: u16, size: u8, value: u32) -> Res {
        if self.io.posting() {
            return Err(Stop::Exit);
        }
        let now = self.clock.tsc();
        if !self.shared.board.legacy().write(port, value as u8, now) {
            self.io.post(Exit::PioWrite { port, size, value });
            self.attend();
        }
        Ok(())
    }
}

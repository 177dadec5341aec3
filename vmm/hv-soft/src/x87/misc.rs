//! The view MMX has of the registers.

use super::{F80, Fpu};

impl Fpu {
    /// What every MMX instruction but EMMS does to the x87 state.
    #[inline(always)]
    pub(crate) fn enter_mmx(&mut self) {
        self.top = 0;
        self.valid = 0xff;
    }

    /// EMMS.
    pub(crate) fn empty_mmx(&mut self) {
        self.valid = 0;
        self.top = 0;
    }

    /// MMX register `n`.
    #[inline(always)]
    pub(crate) fn mm(&self, n: u8) -> u64 {
        self.regs[usize::from(n & 7)].sig
    }

    /// Writes MMX register `n`.
    #[inline(always)]
    pub(crate) fn set_mm(&mut self, n: u8, v: u64) {
        self.regs[usize::from(n & 7)] = F80 { se: 0xffff, sig: v };
    }
}

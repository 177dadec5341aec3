//! MXCSR: what SSE arithmetic obeys and reports.

use super::fp::{DE, Env, Family, IE, PE, Rounding, ZE};

/// MXCSR after reset.
pub(crate) const MXCSR_RESET: u32 = 0x1f80;
/// Bits that exist; setting another one is a general-protection fault.
pub(crate) const MXCSR_MASK: u32 = 0xffff;

/// All exception flags.
const FLAGS: u32 = 0x3f;
/// Denormals are zeros.
const DAZ: u32 = 1 << 6;
/// Flush to zero.
const FTZ: u32 = 1 << 15;
/// Everything that steers arithmetic.
const CONTROL: u32 = 0xffc0;

/// One instruction's view of MXCSR: the control bits it started with and the flags that its lanes raise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sse {
    mxcsr: u32,
    /// Flags of steps that are over.
    settled: u32,
    /// Flags of this step.
    flags: u32,
}

/// What an instruction leaves in MXCSR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Finished {
    /// The new value.
    pub(crate) mxcsr: u32,
    /// An unmasked exception was raised: no result is written and #XM follows.
    pub(crate) fault: bool,
}

impl Sse {
    /// At the start of an instruction.
    #[inline(always)]
    pub(crate) fn new(mxcsr: u32) -> Self {
        Sse { mxcsr, settled: 0, flags: 0 }
    }

    /// Whether the host's arithmetic has the guest's rounding and masks: nearest, all masked, no DAZ, no FTZ.
    #[inline(always)]
    pub(crate) fn host_mode(&self) -> bool {
        self.mxcsr & CONTROL == MXCSR_RESET
    }

    /// Whether the host's arithmetic is likely to answer at once: its mode, and the precision flag stands.
    #[inline(always)]
    pub(crate) fn host_sure(&self) -> bool {
        self.mxcsr & (CONTROL | PE) == MXCSR_RESET | PE
    }

    /// Whether it makes no difference that a result is inexact.
    #[inline(always)]
    pub(crate) fn inexact_known(&self) -> bool {
        self.mxcsr & PE != 0
    }

    /// The control bits and flags where every exception is masked.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "for native arithmetic"))]
    #[inline(always)]
    pub(crate) fn masked_control(&self) -> Option<u32> {
        (self.mxcsr & MXCSR_RESET == MXCSR_RESET).then_some(self.mxcsr)
    }

    /// Raises the flags among `bits`.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "for native arithmetic"))]
    #[inline(always)]
    pub(crate) fn raise(&mut self, bits: u32) {
        self.flags |= bits & FLAGS;
    }

    /// The guest's rounding mode.
    pub(crate) fn rounding(&self) -> Rounding {
        Rounding::from_bits(self.mxcsr >> 13)
    }

    /// Runs one operation of the soft arithmetic.
    #[cold]
    #[inline(never)]
    pub(crate) fn soft<R>(&mut self, op: impl FnOnce(&mut Env) -> R) -> R {
        let mut env = Env {
            rounding: self.rounding(),
            masked: self.mxcsr >> 7 & FLAGS,
            daz: self.mxcsr & DAZ != 0,
            ftz: self.mxcsr & FTZ != 0,
            family: Family::Sse,
            flags: 0,
            rounded_up: false,
        };
        let result = op(&mut env);
        self.flags |= env.flags;
        result
    }

    /// Ends a step of a compound instruction; gives whether it faults, so that no other step follows.
    pub(crate) fn step_faults(&mut self) -> bool {
        if self.flags & !(self.mxcsr >> 7) & FLAGS != 0 {
            return true;
        }
        self.settled |= self.flags;
        self.flags = 0;
        false
    }

    /// At the end of an instruction. Where an operand is to blame (invalid, denormal, division by zero) for an
    /// unmasked exception nothing was computed, so no lane reports overflow, underflow or precision.
    #[inline(always)]
    pub(crate) fn finish(self) -> Finished {
        let unmasked = self.flags & !(self.mxcsr >> 7) & FLAGS;
        let operand_fault = unmasked & (IE | DE | ZE) != 0;
        let flags = if operand_fault { self.flags & (IE | DE | ZE) } else { self.flags };
        Finished { mxcsr: self.mxcsr | self.settled | flags, fault: unmasked != 0 }
    }
}

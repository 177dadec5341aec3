//! The x87 unit: eight 80-bit registers, the stack over them, control, status and tags. MMX uses the same registers.

pub(crate) mod arith;
pub(crate) mod bcd;
pub(crate) mod compare;
pub(crate) mod constant;
mod control;
pub(crate) mod image;
mod lower;
pub(crate) mod misc;
#[cfg(target_arch = "x86_64")]
mod native_x86;
#[cfg(any(test, not(target_arch = "x86_64")))]
mod portable;
mod run;
#[cfg(all(test, target_arch = "x86_64"))]
mod tests;
pub(crate) mod transcendental;
pub(crate) mod transfer;

pub(crate) use lower::lower;

use crate::simd::fp::{self, DE, Env, Family, IE, OE, PE, Rounding, UE, Value, ZE};

/// Status word bits beside the six exception flags, which are those of MXCSR.
pub(crate) mod sw {
    /// Stack fault.
    pub(crate) const SF: u32 = 1 << 6;
    /// An unmasked exception is pending.
    pub(crate) const ES: u16 = 1 << 7;
    /// Condition codes.
    pub(crate) const C0: u16 = 1 << 8;
    pub(crate) const C1: u16 = 1 << 9;
    pub(crate) const C2: u16 = 1 << 10;
    pub(crate) const C3: u16 = 1 << 14;
    /// All condition codes.
    pub(crate) const CC: u16 = C0 | C1 | C2 | C3;
    /// Copy of `ES`.
    pub(crate) const BUSY: u16 = 1 << 15;
    /// What `Fpu::sw` keeps: flags, stack fault, condition codes.
    pub(crate) const KEPT: u16 = 0x7f | CC;
}

/// The control word after FNINIT.
pub(crate) const CW_RESET: u16 = 0x37f;

/// An 80-bit register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct F80 {
    /// Sign and exponent.
    pub(crate) se: u16,
    /// Significand with its integer bit.
    pub(crate) sig: u64,
}

impl F80 {
    /// The default NaN, which is also the indefinite of the stack.
    pub(crate) const INDEFINITE: F80 = F80 { se: 0xffff, sig: 3 << 62 };

    /// Takes the number apart.
    pub(crate) fn unpack(self) -> Value {
        fp::unpack80(self.se, self.sig)
    }

    /// Puts a rounded number together.
    pub(crate) fn pack(v: Value) -> F80 {
        let (se, sig) = fp::pack80(v);
        F80 { se, sig }
    }

    /// From ten bytes in memory.
    pub(crate) fn from_bytes(b: [u8; 10]) -> F80 {
        let [s0, s1, s2, s3, s4, s5, s6, s7, e0, e1] = b;
        F80 { se: u16::from_le_bytes([e0, e1]), sig: u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]) }
    }

    /// To ten bytes in memory.
    pub(crate) fn to_bytes(self) -> [u8; 10] {
        let mut b = [0; 10];
        b[..8].copy_from_slice(&self.sig.to_le_bytes());
        b[8..].copy_from_slice(&self.se.to_le_bytes());
        b
    }
}

/// The x87 state.
#[derive(Debug, Clone)]
pub(crate) struct Fpu {
    /// Registers by their physical number; MMX register n is the significand of number n.
    pub(crate) regs: [F80; 8],
    /// Control word.
    pub(crate) cw: u16,
    /// Status word without TOP and the pending bits, which follow from the flags and the masks.
    pub(crate) sw: u16,
    /// Physical number of ST(0).
    pub(crate) top: u8,
    /// One bit for each physical register that is not empty.
    pub(crate) valid: u8,
    /// Opcode of the last instruction that was not a control instruction.
    pub(crate) fop: u16,
    /// Its address.
    pub(crate) fip: u64,
    /// Address of its memory operand.
    pub(crate) fdp: u64,
}

impl Default for Fpu {
    fn default() -> Self {
        Fpu { regs: [F80::default(); 8], cw: CW_RESET, sw: 0, top: 0, valid: 0, fop: 0, fip: 0, fdp: 0 }
    }
}

impl Fpu {
    /// FNINIT: everything but the registers' contents.
    pub(crate) fn init(&mut self) {
        *self = Fpu { regs: self.regs, ..Fpu::default() };
    }

    /// Whether an unmasked exception waits for the next waiting instruction.
    #[inline(always)]
    pub(crate) fn pending(&self) -> bool {
        self.sw & !self.cw & 0x3f != 0
    }

    /// The status word as instructions see it.
    pub(crate) fn status(&self) -> u16 {
        let summary = if self.pending() { sw::ES | sw::BUSY } else { 0 };
        self.sw | u16::from(self.top & 7) << 11 | summary
    }

    /// Sets the status word.
    pub(crate) fn set_status(&mut self, v: u16) {
        self.sw = v & sw::KEPT;
        self.top = (v >> 11 & 7) as u8;
    }

    /// The control word with its fixed bits.
    pub(crate) fn set_control(&mut self, v: u16) {
        self.cw = v & 0x1f3f | 0x40;
    }

    /// Whether ST(i) is empty.
    pub(crate) fn is_empty(&self, i: usize) -> bool {
        self.valid >> self.physical(i) & 1 == 0
    }

    /// Physical number of ST(i).
    #[inline(always)]
    pub(crate) fn physical(&self, i: usize) -> usize {
        (usize::from(self.top) + i) & 7
    }

    /// The bits of ST(i).
    pub(crate) fn st(&self, i: usize) -> F80 {
        self.regs[self.physical(i)]
    }

    /// ST(i) as a number, `None` where empty.
    pub(crate) fn value(&self, i: usize) -> Option<Value> {
        if self.is_empty(i) { None } else { Some(self.st(i).unpack()) }
    }

    /// Writes ST(i) and tags it valid.
    pub(crate) fn set_st(&mut self, i: usize, v: F80) {
        let n = self.physical(i);
        self.regs[n] = v;
        self.valid |= 1 << n;
    }

    /// Tags ST(i) empty.
    pub(crate) fn free(&mut self, i: usize) {
        self.valid &= !(1 << self.physical(i));
    }

    /// Turns the stack by `by` registers.
    pub(crate) fn rotate(&mut self, by: u8) {
        self.top = self.top.wrapping_add(by) & 7;
    }

    /// Takes ST(0) off.
    pub(crate) fn pop(&mut self) {
        self.free(0);
        self.rotate(1);
    }

    /// Pops `n` times.
    pub(crate) fn pops(&mut self, n: u8) {
        for _ in 0..n {
            self.pop();
        }
    }

    /// Puts a new ST(0) on; the caller has looked for overflow.
    pub(crate) fn push(&mut self, v: F80) {
        self.rotate(7);
        self.set_st(0, v);
    }

    /// Replaces condition codes.
    pub(crate) fn set_cc(&mut self, cc: u16) {
        self.sw = self.sw & !sw::CC | cc;
    }

    /// Clears C1.
    pub(crate) fn clear_c1(&mut self) {
        self.sw &= !sw::C1;
    }

    /// The rounding mode of the control word.
    pub(crate) fn rounding(&self) -> Rounding {
        Rounding::from_bits(u32::from(self.cw) >> 10)
    }

    /// The exceptions that are masked.
    pub(crate) fn masked(&self) -> u32 {
        u32::from(self.cw) & 0x3f
    }

    /// What soft arithmetic obeys.
    pub(crate) fn env(&self) -> Env {
        Env {
            rounding: self.rounding(),
            masked: self.masked(),
            daz: false,
            ftz: false,
            family: Family::X87,
            flags: 0,
            rounded_up: false,
        }
    }

    /// The format that the precision control gives arithmetic results.
    pub(crate) fn format(&self) -> fp::Format {
        let precision = match self.cw >> 8 & 3 {
            0 => 24,
            2 => 53,
            _ => 64,
        };
        fp::Format { precision, ..fp::F80 }
    }

    /// Reports the flags of an operation. Gives whether its result is withheld; `store` says that it goes to memory.
    pub(crate) fn report(&mut self, env: &Env, store: bool) -> bool {
        let flags = env.flags;
        let unmasked = flags & !self.masked();
        if flags & (IE | ZE) != 0 {
            self.sw |= (flags & (IE | ZE | DE)) as u16;
            return unmasked & (IE | ZE) != 0;
        }
        if unmasked & DE != 0 {
            self.sw |= DE as u16;
            return true;
        }
        if store && unmasked & (OE | UE) != 0 {
            self.sw |= (flags & !PE) as u16;
            return true;
        }
        self.sw |= flags as u16;
        if flags & PE != 0 && env.rounded_up {
            self.sw |= sw::C1;
        }
        false
    }

    /// An empty register was read: gives whether the masked answer, an indefinite, is to be delivered.
    pub(crate) fn underflow(&mut self) -> bool {
        self.sw |= (IE | sw::SF) as u16;
        self.clear_c1();
        self.masked() & IE != 0
    }

    /// A push met a register in use: gives whether the masked answer is to be delivered.
    pub(crate) fn overflow(&mut self) -> bool {
        self.sw |= (IE | sw::SF) as u16 | sw::C1;
        self.masked() & IE != 0
    }
}

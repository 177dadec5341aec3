//! Arithmetic flags, kept as the results they derive from.

/// Flag bits of RFLAGS (Intel SDM vol. 1, 3.4.3).
pub(crate) mod bit {
    pub(crate) const CF: u64 = 1;
    pub(crate) const PF: u64 = 1 << 2;
    pub(crate) const AF: u64 = 1 << 4;
    pub(crate) const ZF: u64 = 1 << 6;
    pub(crate) const SF: u64 = 1 << 7;
    pub(crate) const TF: u64 = 1 << 8;
    pub(crate) const IF: u64 = 1 << 9;
    pub(crate) const DF: u64 = 1 << 10;
    pub(crate) const OF: u64 = 1 << 11;
    pub(crate) const IOPL: u64 = 3 << 12;
    pub(crate) const NT: u64 = 1 << 14;
    pub(crate) const RF: u64 = 1 << 16;
    pub(crate) const VM: u64 = 1 << 17;
    pub(crate) const AC: u64 = 1 << 18;
    pub(crate) const VIF: u64 = 1 << 19;
    pub(crate) const VIP: u64 = 1 << 20;
    pub(crate) const ID: u64 = 1 << 21;
    /// Always one.
    pub(crate) const FIXED: u64 = 2;
    /// The six arithmetic flags.
    pub(crate) const ARITH: u64 = CF | PF | AF | ZF | SF | OF;
}

/// The six arithmetic flags in lazy form; see each field for how a flag is read from it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Flags {
    /// ZF is set when this is zero.
    pub(crate) z: u64,
    /// SF is bit 63; PF is the parity of the low byte.
    pub(crate) sp: u64,
    /// Carry-out vector: CF is bit 63, OF is bit 63 xor bit 62, AF is bit 3.
    pub(crate) cv: u64,
}

impl Flags {
    #[inline(always)]
    pub(crate) fn cf(&self) -> bool {
        (self.cv >> 63) != 0
    }

    #[inline(always)]
    pub(crate) fn zf(&self) -> bool {
        self.z == 0
    }

    #[inline(always)]
    pub(crate) fn sf(&self) -> bool {
        (self.sp >> 63) != 0
    }

    #[inline(always)]
    pub(crate) fn of(&self) -> bool {
        ((self.cv ^ (self.cv << 1)) >> 63) != 0
    }

    #[inline(always)]
    pub(crate) fn pf(&self) -> bool {
        (self.sp as u8).count_ones() & 1 == 0
    }

    #[inline(always)]
    pub(crate) fn af(&self) -> bool {
        self.cv & 8 != 0
    }

    /// SF differs from OF.
    #[inline(always)]
    pub(crate) fn less(&self) -> bool {
        ((self.sp ^ self.cv ^ (self.cv << 1)) >> 63) != 0
    }

    /// The six flags in RFLAGS layout.
    pub(crate) fn pack(&self) -> u64 {
        (u64::from(self.cf()) * bit::CF)
            | (u64::from(self.pf()) * bit::PF)
            | (u64::from(self.af()) * bit::AF)
            | (u64::from(self.zf()) * bit::ZF)
            | (u64::from(self.sf()) * bit::SF)
            | (u64::from(self.of()) * bit::OF)
    }

    /// Sets all six from RFLAGS layout.
    pub(crate) fn unpack(&mut self, rflags: u64) {
        self.z = u64::from(rflags & bit::ZF == 0);
        self.sp = u64::from(rflags & bit::SF != 0) << 63 | u64::from(rflags & bit::PF == 0);
        self.cv = carry_vector(rflags & bit::CF != 0, rflags & bit::OF != 0, rflags & bit::AF != 0);
    }

    /// Replaces CF and keeps OF and AF.
    #[inline(always)]
    pub(crate) fn set_cf(&mut self, cf: bool) {
        self.cv = carry_vector(cf, self.of(), self.af());
    }

    /// Replaces CF and OF and keeps AF.
    #[inline(always)]
    pub(crate) fn set_cf_of(&mut self, cf: bool, of: bool) {
        self.cv = carry_vector(cf, of, self.af());
    }

    /// Evaluates condition code `CC` (the low four bits of the opcode).
    #[inline(always)]
    pub(crate) fn cond<const CC: u8>(&self) -> bool {
        let positive = match CC >> 1 {
            0 => self.of(),
            1 => self.cf(),
            2 => self.zf(),
            3 => self.cf() | self.zf(),
            4 => self.sf(),
            5 => self.pf(),
            6 => self.less(),
            _ => self.less() | self.zf(),
        };
        positive ^ (CC & 1 != 0)
    }
}

/// A carry vector that gives exactly these flags.
#[inline(always)]
pub(crate) fn carry_vector(cf: bool, of: bool, af: bool) -> u64 {
    u64::from(cf) << 63 | u64::from(cf ^ of) << 62 | u64::from(af) << 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_survives_pack_and_unpack() {
        for n in 0..64u64 {
            let one = |i: u64, b: u64| if n >> i & 1 != 0 { b } else { 0 };
            let want = one(0, bit::CF)
                | one(1, bit::PF)
                | one(2, bit::AF)
                | one(3, bit::ZF)
                | one(4, bit::SF)
                | one(5, bit::OF);
            let mut f = Flags::default();
            f.unpack(want);
            assert_eq!(f.pack(), want, "combination {n}");
            f.set_cf(n & 1 == 0);
            assert_eq!(f.pack(), want ^ bit::CF, "carry flip of {n}");
        }
    }
}

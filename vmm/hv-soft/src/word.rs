//! Operand widths: the four integer sizes behind one trait.

use crate::cpu::Cpu;

/// An unsigned integer of an operand size.
pub(crate) trait Word: Copy + Eq + Ord + Send + Sync + 'static {
    /// Width in bytes.
    const BYTES: u64;
    /// Width in bits.
    const BITS: u32;
    /// Low bits of a 64-bit value.
    fn from64(v: u64) -> Self;
    /// Zero-extended.
    fn to64(self) -> u64;
    /// Sign-extended.
    fn sext(self) -> u64;
    /// Reads general register `r`; for bytes, bit 6 of `r` chooses AH–BH.
    fn get(cpu: &Cpu, r: u8) -> Self;
    /// Writes general register `r`; 32-bit writes clear the upper half.
    fn set(cpu: &mut Cpu, r: u8, v: Self);
}

/// Register number of a byte register, without the bit that chooses AH–BH.
const MASK: u8 = 31;

macro_rules! word {
    ($t:ty, $sext:expr, $set:expr) => {
        impl Word for $t {
            const BYTES: u64 = <$t>::BITS as u64 / 8;
            const BITS: u32 = <$t>::BITS;
            #[inline(always)]
            fn from64(v: u64) -> Self {
                v as $t
            }
            #[inline(always)]
            fn to64(self) -> u64 {
                u64::from(self)
            }
            #[inline(always)]
            fn sext(self) -> u64 {
                $sext(self)
            }
            #[inline(always)]
            fn get(cpu: &Cpu, r: u8) -> Self {
                cpu.regs[r as usize] as $t
            }
            #[inline(always)]
            fn set(cpu: &mut Cpu, r: u8, v: Self) {
                let slot = &mut cpu.regs[r as usize];
                *slot = $set(*slot, v);
            }
        }
    };
}

word!(u16, |v: u16| i64::from(v as i16) as u64, |old: u64, v: u16| old & !0xffff | u64::from(v));
word!(u32, |v: u32| i64::from(v as i32) as u64, |_: u64, v: u32| u64::from(v));
word!(u64, |v: u64| v, |_: u64, v: u64| v);

impl Word for u8 {
    const BYTES: u64 = 1;
    const BITS: u32 = 8;
    #[inline(always)]
    fn from64(v: u64) -> Self {
        v as u8
    }
    #[inline(always)]
    fn to64(self) -> u64 {
        u64::from(self)
    }
    #[inline(always)]
    fn sext(self) -> u64 {
        i64::from(self as i8) as u64
    }
    #[inline(always)]
    fn get(cpu: &Cpu, r: u8) -> Self {
        (cpu.regs[(r & MASK) as usize] >> ((r >> 3) & 8)) as u8
    }
    #[inline(always)]
    fn set(cpu: &mut Cpu, r: u8, v: Self) {
        let shift = (r >> 3) & 8;
        let slot = &mut cpu.regs[(r & MASK) as usize];
        *slot = *slot & !(0xff << shift) | u64::from(v) << shift;
    }
}

//! What processors may leave differently, and why. Everything else must be equal.

use iced_x86::{CpuidFeature, Instruction, Mnemonic, OpKind, Register, RflagsBits};

use crate::generate::Case;
use crate::state::{RCX, RF};

/// How exact the x87 stack must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Every bit.
    Exact,
    /// Relative error of at most two to the minus this.
    Bits(u32),
}

/// What is not compared for one case.
#[derive(Debug, Clone, Copy)]
pub struct Mask {
    /// Bits of RFLAGS.
    pub flags: u64,
    /// Bits of the x87 status word.
    pub status: u16,
    /// The x87 registers.
    pub st: Precision,
    /// Lanes of single precision in the XMM registers.
    pub xmm: Precision,
}

/// Nothing but RF, which a fault sets in the image it pushes.
pub const NOTHING: Mask = Mask { flags: RF, status: 0, st: Precision::Exact, xmm: Precision::Exact };

/// What to leave out when `case` has completed.
pub fn after(case: &Case) -> Mask {
    let instruction = &case.instruction;
    let mut mask = Mask { flags: undefined_flags(instruction, case) | RF, ..NOTHING };
    use Mnemonic::*;
    match instruction.mnemonic() {
        // The architecture gives only an error bound of 1.5 * 2^-12 for these; every family has its own table.
        Rcpps | Rcpss | Rsqrtps | Rsqrtss => mask.xmm = Precision::Bits(10),
        // Bound of one unit in the last place of 64 bits in Intel's manual, other tables elsewhere. The model computes
        // with less; what matters is that programs get a sane number. C1 and the precision flag follow the last bit.
        F2xm1 | Fyl2x | Fyl2xp1 | Fsin | Fcos | Fsincos | Fptan | Fpatan => {
            mask.st = Precision::Bits(48);
            mask.status = C1 | PRECISION;
        }
        _ => {}
    }
    if is_x87(instruction) {
        mask.status |= undefined_conditions(instruction.mnemonic());
    }
    mask
}

const C0: u16 = 1 << 8;
const C1: u16 = 1 << 9;
const C2: u16 = 1 << 10;
const C3: u16 = 1 << 14;
const PRECISION: u16 = 1 << 5;

fn is_x87(instruction: &Instruction) -> bool {
    use CpuidFeature::{FPU, FPU287, FPU387};
    instruction.cpuid_features().iter().any(|feature| matches!(*feature, FPU | FPU287 | FPU387))
}

/// Condition codes that Intel's manual calls undefined after an instruction.
fn undefined_conditions(mnemonic: Mnemonic) -> u16 {
    use Mnemonic::*;
    match mnemonic {
        Fcom | Fcomp | Fcompp | Fucom | Fucomp | Fucompp | Ficom | Ficomp | Ftst | Fxam | Fprem | Fprem1 => 0,
        Fldenv | Frstor | Fnstenv | Fnsave | Fninit | Fnstcw | Fnstsw | Fnop => 0,
        Fsin | Fcos | Fsincos | Fptan => C0 | C3,
        Fnclex | Fldcw => C0 | C1 | C2 | C3,
        _ => C0 | C2 | C3,
    }
}

fn undefined_flags(instruction: &Instruction, case: &Case) -> u64 {
    let undefined = rflags(instruction.rflags_undefined());
    use Mnemonic::*;
    let rotate_through_carry = matches!(instruction.mnemonic(), Rcl | Rcr);
    if rotate_through_carry && instruction.op1_kind() == OpKind::Immediate8 && instruction.immediate8() & 31 > 1 {
        return undefined | rflags(RflagsBits::OF); // also for a whole turn, which the tables take for no change
    }
    let last = instruction.op_count().wrapping_sub(1);
    let by_register = instruction.op_count() > 1
        && instruction.op_kind(last) == OpKind::Register
        && instruction.op_register(last) == Register::CL;
    let shift = matches!(instruction.mnemonic(), Shl | Sal | Shr | Sar | Rol | Ror | Rcl | Rcr | Shld | Shrd);
    if !shift || !by_register {
        return undefined;
    }
    // The decoder's tables know no register values: a count of zero changes no flag, of one defines OF.
    let wide = instruction.op0_register().is_gpr64() || instruction.memory_size().size() == 8;
    match case.state.gpr[RCX] & if wide { 63 } else { 31 } {
        0 => 0,
        1 => undefined & !rflags(RflagsBits::OF),
        _ => undefined,
    }
}

/// RFLAGS bits of the decoder.s flag set.
pub fn rflags(bits: u32) -> u64 {
    const PAIRS: [(u32, u64); 9] = [
        (RflagsBits::CF, 1),
        (RflagsBits::PF, 1 << 2),
        (RflagsBits::AF, 1 << 4),
        (RflagsBits::ZF, 1 << 6),
        (RflagsBits::SF, 1 << 7),
        (RflagsBits::IF, 1 << 9),
        (RflagsBits::DF, 1 << 10),
        (RflagsBits::OF, 1 << 11),
        (RflagsBits::AC, 1 << 18),
    ];
    PAIRS.iter().filter(|(bit, _)| bits & bit != 0).fold(0, |sum, (_, flag)| sum | flag)
}

/// Whether single-precision lanes are equal under `precision`.
pub fn same_f32_lanes(a: &[u8], b: &[u8], precision: Precision) -> bool {
    let Precision::Bits(bits) = precision else { return a == b };
    let lane = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    a.chunks_exact(4).zip(b.chunks_exact(4)).all(|(a, b)| {
        let (a, b) = (lane(a), lane(b));
        a.to_bits() == b.to_bits() || (a - b).abs() <= a.abs() * 0.5f32.powi(bits as i32)
    })
}

/// Whether 80-bit numbers are equal under `precision`.
pub fn same_f80(a: &[u8], b: &[u8], precision: Precision) -> bool {
    if a == b {
        return true;
    }
    let Precision::Bits(bits) = precision else { return false };
    let parts = |bytes: &[u8]| {
        let mantissa = bytes[..8].iter().rev().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte));
        (mantissa, u16::from_le_bytes([bytes[8], bytes[9]]))
    };
    let ((a, a_exponent), (b, b_exponent)) = (parts(a), parts(b));
    let apart = i32::from(a_exponent & 0x7fff) - i32::from(b_exponent & 0x7fff);
    if (a_exponent ^ b_exponent) & 0x8000 != 0 || apart.abs() > 1 || a_exponent & 0x7fff == 0x7fff {
        return false;
    }
    let (a, b) = (u128::from(a) << (apart.max(0)), u128::from(b) << ((-apart).max(0)));
    a.abs_diff(b) >> (64 - bits) == 0
}

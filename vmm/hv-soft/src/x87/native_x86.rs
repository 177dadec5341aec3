//! Transcendental instructions on the host's own x87 unit, so that they are equal to its last bit.
// UNSAFETY: the x87 unit is reached through inline assembly alone.
#![expect(unsafe_code, reason = "x87 instructions have no intrinsics")]

use super::transcendental::{Answer, Function};
use super::{F80, sw};

/// A FNSAVE image with 32-bit operand size.
const SAVE_BYTES: usize = 108;

/// Runs one instruction with `x` in ST(0), `y` in ST(1).
macro_rules! run {
    ($op:literal, $x:ident, $y:ident, $cw:ident, $image:ident) => {
        // SAFETY: reads the two operands and the control word, writes the image; FNSAVE leaves the unit as FNINIT
        // does, which is the state Rust code expects. FLD of 80 bits raises nothing, and what the instruction raises
        // unmasked would trap at the next waiting one, which does not come before FNSAVE clears it.
        unsafe {
            core::arch::asm!(
                "fninit", "fldcw [{cw}]", "fld tbyte ptr [{y}]", "fld tbyte ptr [{x}]", $op, "fnsave [{image}]",
                cw = in(reg) &raw const $cw, x = in(reg) $x.as_ptr(), y = in(reg) $y.as_ptr(),
                image = in(reg) $image.as_mut_ptr(),
                out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
                options(nostack),
            )
        }
    };
}

/// The host's answer under a control word.
pub(crate) fn evaluate(function: Function, x: F80, y: F80, cw: u16) -> Answer {
    let (x, y, cw) = (x.to_bytes(), y.to_bytes(), cw);
    let mut image = [0u8; SAVE_BYTES];
    match function {
        Function::PowerOfTwoLessOne => run!("f2xm1", x, y, cw, image),
        Function::Sine => run!("fsin", x, y, cw, image),
        Function::Cosine => run!("fcos", x, y, cw, image),
        Function::SineCosine => run!("fsincos", x, y, cw, image),
        Function::Tangent => run!("fptan", x, y, cw, image),
        Function::ArcTangent => run!("fpatan", x, y, cw, image),
        Function::Logarithm => run!("fyl2x", x, y, cw, image),
        Function::LogarithmOfMore => run!("fyl2xp1", x, y, cw, image),
    }
    let status = u16::from_le_bytes([image[4], image[5]]);
    Answer {
        first: register(&image, 0),
        second: register(&image, 1),
        flags: u32::from(status) & 0x3f,
        rounded_up: status & sw::C1 != 0,
        out_of_range: status & sw::C2 != 0,
    }
}

/// ST(i) of a FNSAVE image.
fn register(image: &[u8; SAVE_BYTES], i: usize) -> F80 {
    let mut b = [0; 10];
    b.copy_from_slice(&image[28 + 10 * i..38 + 10 * i]);
    F80::from_bytes(b)
}

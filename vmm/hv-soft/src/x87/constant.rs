//! FLD1 and its kin: constants cut to 64 bits, with what is below for directed rounding.

use super::{F80, Fpu};
use crate::simd::fp::Rounding;

/// A constant: the register toward zero, and whether rounding to nearest goes up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Constant {
    se: u16,
    sig: u64,
    exact: bool,
    nearest_up: bool,
}

/// The seven constants in the order of their opcodes: 1, log2 10, log2 e, π, log10 2, ln 2, 0.
pub(crate) const CONSTANTS: [Constant; 7] = [
    Constant { se: 0x3fff, sig: 1 << 63, exact: true, nearest_up: false },
    Constant { se: 0x4000, sig: 0xd49a_784b_cd1b_8afe, exact: false, nearest_up: false },
    Constant { se: 0x3fff, sig: 0xb8aa_3b29_5c17_f0bb, exact: false, nearest_up: true },
    Constant { se: 0x4000, sig: 0xc90f_daa2_2168_c234, exact: false, nearest_up: true },
    Constant { se: 0x3ffd, sig: 0x9a20_9a84_fbcf_f798, exact: false, nearest_up: true },
    Constant { se: 0x3ffe, sig: 0xb172_17f7_d1cf_79ab, exact: false, nearest_up: true },
    Constant { se: 0, sig: 0, exact: true, nearest_up: false },
];

impl Fpu {
    /// Pushes constant `n` of [`CONSTANTS`], rounded as the control word says; no flag is raised.
    pub(crate) fn load_constant(&mut self, n: usize) {
        let Some(c) = CONSTANTS.get(n) else { return };
        let up = match self.rounding() {
            Rounding::Nearest => c.nearest_up,
            Rounding::Up => !c.exact,
            Rounding::Down | Rounding::Zero => false,
        };
        self.load(F80 { se: c.se, sig: c.sig + u64::from(up) });
    }
}

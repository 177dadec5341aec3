//! The table of instructions of the shape `dst = f(dst, src, imm)`.

use iced_x86::{Instruction, Mnemonic};

use crate::op::{Handler, Op};
use crate::simd::mxcsr::Sse;
use crate::simd::run::binary::{Meaning, choose, choose_mmx, is_mm, is_xmm};
use crate::simd::{approximate, convert, float, int, shift, shuffle};

/// Chooses a handler from the tables.
pub(super) fn lower(insn: &Instruction, op: &Op) -> Option<Handler> {
    if !is_xmm(insn, 0) && !is_mm(insn, 0) {
        return None;
    }
    lanewise(insn, op)
        .or_else(|| moved(insn, op))
        .or_else(|| immediate(insn, op))
        .or_else(|| shifted(insn, op))
        .or_else(|| floating(insn, op))
        .or_else(|| floating_immediate(insn, op))
}

/// Calls a function of the table with the arguments that its kind takes.
macro_rules! call {
    (pure $f:path; $a:ident $b:ident $imm:ident $sse:ident) => { $f($a, $b) };
    (immediate $f:path; $a:ident $b:ident $imm:ident $sse:ident) => { $f($a, $b, $imm) };
    (count $f:path; $a:ident $b:ident $imm:ident $sse:ident) => { $f($a, $b as u64) };
    (float $f:path; $a:ident $b:ident $imm:ident $sse:ident) => { $f($a, $b, $sse) };
    (float_immediate $f:path; $a:ident $b:ident $imm:ident $sse:ident) => { $f($a, $b, $imm, $sse) };
}

/// A function from mnemonic to handler: for XMM registers and, where a second function is named, for MMX.
macro_rules! table {
    ($name:ident $kind:ident $float:literal: $($mnemonic:ident => $(xmm $xmm:path)? $(, mmx $mmx:path)?;)*) => {
        #[doc = concat!("Handlers of kind `", stringify!($kind), "`.")]
        #[expect(unused_variables, reason = "no kind uses every argument")]
        fn $name(insn: &Instruction, op: &Op) -> Option<Handler> {
            match insn.mnemonic() {
                $(Mnemonic::$mnemonic => {
                    $({
                        struct Mmx;
                        impl Meaning for Mmx {
                            const FLOAT: bool = $float;
                            #[inline(always)]
                            fn f(a: u128, b: u128, imm: u8, sse: &mut Sse) -> u128 {
                                call!($kind $mmx; a b imm sse)
                            }
                        }
                        if is_mm(insn, 0) {
                            return Some(choose_mmx::<Mmx>(insn));
                        }
                    })?
                    $({
                        struct Xmm;
                        impl Meaning for Xmm {
                            const FLOAT: bool = $float;
                            #[inline(always)]
                            fn f(a: u128, b: u128, imm: u8, sse: &mut Sse) -> u128 {
                                call!($kind $xmm; a b imm sse)
                            }
                        }
                        if is_xmm(insn, 0) {
                            return Some(choose::<Xmm>(insn, op));
                        }
                    })?
                    None
                })*
                _ => None,
            }
        }
    };
}

include!("entries.rs");

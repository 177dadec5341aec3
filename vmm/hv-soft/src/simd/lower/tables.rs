//! The table of instructions of the shape `dst = f(dst, src, imm)`.

use iced_x86::{Instruction, Mnemonic};

use crate::op::{Handler, Op};
use crate::simd::mxcsr::Sse;
use crate::simd::run::binary::{Meaning, choose, choose_mmx, is_mm, is_xmm};
use crate::simd::{approximate, convert, float, int, native, shift, shuffle};

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
        .or_else(|| approximated(insn, op))
        .or_else(|| floating_immediate(insn, op))
}

/// Calls a function of the table with the arguments that its kind takes.
macro_rules! call {
    (pure $f:path; $a:ident $b:ident $imm:ident $sse:ident) => {
        $f($a, $b)
    };
    (immediate $f:path; $a:ident $b:ident $imm:ident $sse:ident) => {
        $f($a, $b, $imm)
    };
    (count $f:path; $a:ident $b:ident $imm:ident $sse:ident) => {
        $f($a, $b as u64)
    };
    (float $f:path; $a:ident $b:ident $imm:ident $sse:ident) => {
        $f($a, $b, $sse)
    };
    (float_immediate $f:path; $a:ident $b:ident $imm:ident $sse:ident) => {
        $f($a, $b, $imm, $sse)
    };
}

/// A function from mnemonic to handler: the function for XMM registers, and the one for MMX in brackets.
macro_rules! table {
    ($name:ident $kind:ident $float:literal: $($mnemonic:ident => $($xmm:path)? $([$mmx:path])?;)*) => {
        #[doc = concat!("Handlers of kind `", stringify!($kind), "`.")]
        #[allow(unused_variables, reason = "no kind uses every argument")]
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

table! { lanewise pure false:
    Paddb => native::paddb [native::paddb];
    Paddw => native::paddw [native::paddw];
    Paddd => native::paddd [native::paddd];
    Paddq => int::paddq [int::paddq];
    Psubb => native::psubb [native::psubb];
    Psubw => native::psubw [native::psubw];
    Psubd => native::psubd [native::psubd];
    Psubq => int::psubq [int::psubq];
    Paddsb => native::paddsb [native::paddsb];
    Paddsw => native::paddsw [native::paddsw];
    Paddusb => native::paddusb [native::paddusb];
    Paddusw => native::paddusw [native::paddusw];
    Psubsb => native::psubsb [native::psubsb];
    Psubsw => native::psubsw [native::psubsw];
    Psubusb => native::psubusb [native::psubusb];
    Psubusw => native::psubusw [native::psubusw];
    Pcmpeqb => native::pcmpeqb [native::pcmpeqb];
    Pcmpeqw => native::pcmpeqw [native::pcmpeqw];
    Pcmpeqd => native::pcmpeqd [native::pcmpeqd];
    Pcmpgtb => native::pcmpgtb [native::pcmpgtb];
    Pcmpgtw => native::pcmpgtw [native::pcmpgtw];
    Pcmpgtd => native::pcmpgtd [native::pcmpgtd];
    Pminub => native::pminub [native::pminub];
    Pminsw => native::pminsw [native::pminsw];
    Pmaxub => native::pmaxub [native::pmaxub];
    Pmaxsw => native::pmaxsw [native::pmaxsw];
    Pavgb => native::pavgb [native::pavgb];
    Pavgw => native::pavgw [native::pavgw];
    Pmullw => native::pmullw [native::pmullw];
    Pmulhw => native::pmulhw [native::pmulhw];
    Pmulhuw => native::pmulhuw [native::pmulhuw];
    Pmulhrsw => int::pmulhrsw [int::pmulhrsw];
    Pmuludq => int::pmuludq [int::pmuludq];
    Psignb => int::psignb [int::psignb];
    Psignw => int::psignw [int::psignw];
    Psignd => int::psignd [int::psignd];
    Pabsb => int::pabsb [int::pabsb];
    Pabsw => int::pabsw [int::pabsw];
    Pabsd => int::pabsd [int::pabsd];
    Pand => int::pand [int::pand];
    Pandn => int::pandn [int::pandn];
    Por => int::por [int::por];
    Pxor => int::pxor [int::pxor];
    Pmaddwd => native::pmaddwd [native::pmaddwd];
    Pmaddubsw => int::pmaddubsw [int::pmaddubsw];
    Psadbw => native::psadbw [native::psadbw];
    Phaddw => int::phaddw [int::phaddw_mmx];
    Phaddd => int::phaddd [int::phaddd_mmx];
    Phaddsw => int::phaddsw [int::phaddsw_mmx];
    Phsubw => int::phsubw [int::phsubw_mmx];
    Phsubd => int::phsubd [int::phsubd_mmx];
    Phsubsw => int::phsubsw [int::phsubsw_mmx];
    Pcmpeqq => int::pcmpeqq;
    Pcmpgtq => int::pcmpgtq;
    Pminuw => int::pminuw;
    Pminud => int::pminud;
    Pminsb => int::pminsb;
    Pminsd => int::pminsd;
    Pmaxuw => int::pmaxuw;
    Pmaxud => int::pmaxud;
    Pmaxsb => int::pmaxsb;
    Pmaxsd => int::pmaxsd;
    Pmulld => int::pmulld;
    Pmuldq => int::pmuldq;
    Phminposuw => int::phminposuw;
    Andps => int::pand;
    Andpd => int::pand;
    Andnps => int::pandn;
    Andnpd => int::pandn;
    Orps => int::por;
    Orpd => int::por;
    Xorps => int::pxor;
    Xorpd => int::pxor;
}

table! { moved pure false:
    Packsswb => native::packsswb [shuffle::packsswb_mmx];
    Packuswb => native::packuswb [shuffle::packuswb_mmx];
    Packssdw => native::packssdw [shuffle::packssdw_mmx];
    Packusdw => shuffle::packusdw;
    Pshufb => native::pshufb [shuffle::pshufb_mmx];
    Punpcklbw => native::punpcklbw [native::punpcklbw];
    Punpcklwd => native::punpcklwd [native::punpcklwd];
    Punpckldq => native::punpckldq [native::punpckldq];
    Punpckhbw => native::punpckhbw [shuffle::punpckhbw_mmx];
    Punpckhwd => native::punpckhwd [shuffle::punpckhwd_mmx];
    Punpckhdq => native::punpckhdq [shuffle::punpckhdq_mmx];
    Punpcklqdq => shuffle::punpcklqdq;
    Punpckhqdq => shuffle::punpckhqdq;
    Unpcklps => native::punpckldq;
    Unpckhps => native::punpckhdq;
    Unpcklpd => shuffle::punpcklqdq;
    Unpckhpd => shuffle::punpckhqdq;
    Pmovsxbw => shuffle::pmovsxbw;
    Pmovsxbd => shuffle::pmovsxbd;
    Pmovsxbq => shuffle::pmovsxbq;
    Pmovsxwd => shuffle::pmovsxwd;
    Pmovsxwq => shuffle::pmovsxwq;
    Pmovsxdq => shuffle::pmovsxdq;
    Pmovzxbw => shuffle::pmovzxbw;
    Pmovzxbd => shuffle::pmovzxbd;
    Pmovzxbq => shuffle::pmovzxbq;
    Pmovzxwd => shuffle::pmovzxwd;
    Pmovzxwq => shuffle::pmovzxwq;
    Pmovzxdq => shuffle::pmovzxdq;
    Movsldup => shuffle::movsldup;
    Movshdup => shuffle::movshdup;
    Movddup => shuffle::movddup;
}

table! { immediate immediate false:
    Pshufd => shuffle::pshufd;
    Pshufhw => shuffle::pshufhw;
    Shufps => shuffle::shufps;
    Shufpd => shuffle::shufpd;
    Pblendw => shuffle::pblendw;
    Blendps => shuffle::blendps;
    Blendpd => shuffle::blendpd;
    Pshuflw => shuffle::pshuflw;
    Pshufw => [shuffle::pshuflw];
    Palignr => shuffle::palignr [shuffle::palignr_mmx];
    Mpsadbw => int::mpsadbw;
}

table! { shifted count false:
    Psllw => shift::psllw [shift::psllw];
    Pslld => shift::pslld [shift::pslld];
    Psllq => shift::psllq [shift::psllq];
    Psrlw => shift::psrlw [shift::psrlw];
    Psrld => shift::psrld [shift::psrld];
    Psrlq => shift::psrlq [shift::psrlq];
    Psraw => shift::psraw [shift::psraw];
    Psrad => shift::psrad [shift::psrad];
    Pslldq => shift::pslldq;
    Psrldq => shift::psrldq;
}

table! { floating float true:
    Addps => float::addps;
    Addpd => float::addpd;
    Addss => float::addss;
    Addsd => float::addsd;
    Subps => float::subps;
    Subpd => float::subpd;
    Subss => float::subss;
    Subsd => float::subsd;
    Mulps => float::mulps;
    Mulpd => float::mulpd;
    Mulss => float::mulss;
    Mulsd => float::mulsd;
    Divps => float::divps;
    Divpd => float::divpd;
    Divss => float::divss;
    Divsd => float::divsd;
    Sqrtps => float::sqrtps;
    Sqrtpd => float::sqrtpd;
    Sqrtss => float::sqrtss;
    Sqrtsd => float::sqrtsd;
    Minps => float::minps;
    Minpd => float::minpd;
    Minss => float::minss;
    Minsd => float::minsd;
    Maxps => float::maxps;
    Maxpd => float::maxpd;
    Maxss => float::maxss;
    Maxsd => float::maxsd;
    Addsubps => float::addsubps;
    Addsubpd => float::addsubpd;
    Haddps => float::haddps;
    Haddpd => float::haddpd;
    Hsubps => float::hsubps;
    Hsubpd => float::hsubpd;
    Cvtps2pd => convert::cvtps2pd;
    Cvtpd2ps => convert::cvtpd2ps;
    Cvtss2sd => convert::cvtss2sd;
    Cvtsd2ss => convert::cvtsd2ss;
    Cvtdq2ps => convert::cvtdq2ps;
    Cvtdq2pd => convert::cvtdq2pd;
    Cvtps2dq => convert::cvtps2dq;
    Cvttps2dq => convert::cvttps2dq;
    Cvtpd2dq => convert::cvtpd2dq;
    Cvttpd2dq => convert::cvttpd2dq;
    Cvtpi2ps => convert::pi2ps;
    Cvtpi2pd => convert::cvtdq2pd;
    Cvtps2pi => [convert::cvtps2pi];
    Cvttps2pi => [convert::cvttps2pi];
    Cvtpd2pi => [convert::cvtpd2dq];
    Cvttpd2pi => [convert::cvttpd2dq];
}

table! { approximated pure false:
    Rcpps => approximate::rcpps;
    Rcpss => approximate::rcpss;
    Rsqrtps => approximate::rsqrtps;
    Rsqrtss => approximate::rsqrtss;
}

table! { floating_immediate float_immediate true:
    Cmpps => float::cmpps;
    Cmppd => float::cmppd;
    Cmpss => float::cmpss;
    Cmpsd => float::cmpsd;
    Roundps => float::roundps;
    Roundpd => float::roundpd;
    Roundss => float::roundss;
    Roundsd => float::roundsd;
    Dpps => float::dpps;
    Dppd => float::dppd;
}

//! Hosts that are not x86-64: the portable functions alone.

pub(crate) use super::int::*;
use super::mxcsr::Sse;
pub(crate) use super::shuffle::*;

macro_rules! arithmetic {
    ($($name:ident)*) => {$(
        /// Nothing here is surer than the soft arithmetic.
        #[inline(always)]
        pub(crate) fn $name(_a: u128, _b: u128, _sse: &mut Sse) -> Option<u128> {
            None
        }
    )*};
}

arithmetic! {
    addps addpd addss addsd subps subpd subss subsd mulps mulpd mulss mulsd divps divpd divss divsd
    sqrtps sqrtpd sqrtss sqrtsd minps minpd minss minsd maxps maxpd maxss maxsd cvtps2pd cvtpd2ps
    cvtss2sd cvtsd2ss cvtdq2ps cvtps2dq cvttps2dq cvtpd2dq cvttpd2dq
}

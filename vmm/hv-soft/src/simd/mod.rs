//! MMX and SSE to SSE4.2: what the instructions do, and the handlers that bring operands to it.

pub(crate) mod approximate;
pub(crate) mod convert;
pub(crate) mod float;
pub(crate) mod fp;
#[cfg_attr(target_arch = "x86_64", allow(dead_code, reason = "the host's own instructions stand in for some of them"))]
pub(crate) mod int;
pub(crate) mod lanes;
mod lower;
pub(crate) mod mxcsr;
#[cfg(not(target_arch = "x86_64"))]
mod native_none;
#[cfg(target_arch = "x86_64")]
mod native_x86;
mod run;
pub(crate) mod shift;
#[cfg_attr(target_arch = "x86_64", allow(dead_code, reason = "the host's own instructions stand in for some of them"))]
pub(crate) mod shuffle;
pub(crate) mod string;

#[cfg(all(test, target_arch = "x86_64"))]
mod tests;

pub(crate) use lower::lower;
#[cfg(not(target_arch = "x86_64"))]
use native_none as native;
#[cfg(target_arch = "x86_64")]
use native_x86 as native;
pub(crate) use run::set_flags;

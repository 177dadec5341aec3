//! The soft back end: an x86-64 CPU emulated in this process, behind the hypervisor seam.
//!
//! Guest code is decoded into blocks of 32-byte ops, each with a handler specialised by size and operand form
//! ([`decode`], [`exec`], [`sys`], [`simd`], [`x87`]); [`engine`] runs them. Memory goes through a soft TLB
//! ([`tlb`], [`mem`]: the only modules with raw memory access). Only 64-bit mode is emulated.

mod access;
mod advise;
mod chips;
mod clock;
mod code;
mod cpu;
mod cpuid;
mod decode;
mod ea;
mod engine;
mod exec;
mod flags;
mod hypervisor;
mod mem;
mod op;
mod paging;
mod simd;
mod spec;
mod state;
mod sys;
mod tlb;
#[cfg(feature = "trace")]
mod trace;
#[cfg(not(feature = "trace"))]
#[path = "trace_off.rs"]
mod trace;
mod word;
mod x87;

pub use cpuid::Model;
#[cfg(feature = "oracle")]
#[doc(hidden)]
pub use engine::single;
pub use hypervisor::SoftHypervisor;

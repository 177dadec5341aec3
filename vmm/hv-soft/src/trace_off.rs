//! Stands where the trace of blocks would be: nothing is traced, and nothing is left of it in the code.

use crate::code::block::BlockInfo;
use crate::cpu::Cpu;
use crate::op::{Op, Stop};

/// Whether every block that runs has to have been decoded here.
pub(crate) const WHOLE: bool = false;

/// Most guest instructions between two returns to the run loop: as many as without a trace.
#[inline(always)]
pub(crate) fn grant(chunk: i32) -> i32 {
    chunk
}

/// See `trace.rs`.
pub(crate) struct Trace;

impl Trace {
    pub(crate) fn new() -> Self {
        Trace
    }

    #[inline(always)]
    pub(crate) fn decoded(&mut self, _: u32, _: BlockInfo, _: &[u8]) {}

    #[inline(always)]
    pub(crate) fn ran(&mut self, _: &mut Cpu, _: u32, _: u64) {}

    #[inline(always)]
    pub(crate) fn stopped(&mut self, _: &Cpu, _: u64, _: Stop, _: &Op) {}

    #[inline(always)]
    pub(crate) fn alone(&mut self, _: u64) {}
}

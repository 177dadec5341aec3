//! Saved state: neutral structs that every back end of an architecture fills and reads.

use serde::{Deserialize, Serialize};

pub mod x86;

/// State of one vCPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum VcpuState {
    /// x86-64.
    X86(Box<x86::VcpuState>),
}

/// State of a machine outside its vCPUs. Snapshots of different back ends do not mix, so chips are named blobs
/// that only the back end that wrote them reads.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct VmState {
    /// Interrupt controllers and timers.
    pub chips: Vec<ChipState>,
    /// Guest monotonic clock (x86: kvmclock) in nanoseconds at the time of the save.
    pub clock_ns: u64,
}

/// One interrupt controller or timer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ChipState {
    /// Which chip, for example `ioapic`.
    pub name: String,
    /// The back end's own layout; its length is checked at restore.
    pub bytes: Vec<u8>,
}

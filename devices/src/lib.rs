//! Device models of a virtual machine: registers and queues in, effects out.
//!
//! Nothing here knows a hypervisor, owns a bus, a thread or a file descriptor. The caller
//! delivers register accesses and host events, and carries out the effects it gets back.
//! Every register value, every byte of guest memory and every saved state is hostile input.

pub mod balloon;
pub mod blk;
mod effects;
pub mod fs;
#[cfg(test)]
mod fuzz;
pub mod i8042;
mod restore;
pub mod rng;
pub mod rtc;
pub mod serial;
pub mod virtio;
pub mod vsock;

pub use effects::Effects;
pub use restore::RestoreError;

/// Guest memory as every device sees it.
pub type GuestMemory = vm_memory::GuestMemoryMmap<()>;

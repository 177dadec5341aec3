//! The hypervisor seam: three small traits, exits and replies as owned data, neutral register structs.
//!
//! A back end ([`Hypervisor`]) makes virtual machines ([`Vm`]); a machine makes vCPUs ([`UnboundVcpu`]),
//! and each of them becomes a runnable [`Vcpu`] on the one thread that calls [`UnboundVcpu::bind`].
//!
//! Order of life: `create_vm` → `create_vcpu` for every index → `bind` on each thread → `restore` (a state to
//! start from) → `run` / `complete` in turn → `save`.

mod error;
mod exit;
mod state;
mod traits;

#[cfg(feature = "laws")]
pub mod laws;

pub use error::HvError;
pub use exit::{Exit, Fault, Reply};
pub use state::{ChipState, VcpuState, VmState, x86};
pub use traits::{
    Capabilities, GuestMemory, Hypervisor, HypervisorKind, Idle, Kept, Kick, UnboundVcpu, Vcpu, Vm, VmConfig,
};

//! The KVM back end: machines and vCPUs by Linux' `/dev/kvm`. Empty on other systems.
//!
//! [`probe`] is the constructor to use: it opens the device, checks what it offers and times a short guest
//! program, so that a [`KvmHypervisor`] in hand is one that is worth using. [`open`] leaves the timing out, for a
//! host that was probed before.
#![cfg(target_os = "linux")]

#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
pub use x86::{KvmHypervisor, open, probe, probe_within};

#[cfg(not(target_arch = "x86_64"))]
mod unfilled;
#[cfg(not(target_arch = "x86_64"))]
pub use unfilled::{KvmHypervisor, open, probe, probe_within};

//! KVM for x86-64 guests: the hypervisor, its machines, their vCPUs.

mod chips;
mod convert;
mod cpuid;
mod hypervisor;
mod kick;
mod msrs;
mod probe;
mod run_page;
mod spec;
mod state;
mod transfer;
mod tsc;
mod vcpu;
mod vm;
mod xsave;

pub use hypervisor::KvmHypervisor;
pub use probe::{open, probe, probe_within};

use supermachine_hv::HvError;

/// Names the call that failed: `kvm.create_vm().map_err(os("KVM_CREATE_VM"))`.
fn os(operation: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> HvError {
    move |error| HvError::Os { operation, source: error.into() }
}

/// The kernel refused a part of a saved state.
fn refused(field: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> HvError {
    move |error| HvError::BadState { field, problem: format!("the kernel refuses it: {error}") }
}

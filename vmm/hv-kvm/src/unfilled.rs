//! Architectures that this back end does not serve yet: the same names, and a probe that says so.

use std::sync::Arc;
use std::time::Duration;

use supermachine_hv::{Capabilities, HvError, Hypervisor, HypervisorKind, Vm, VmConfig};

/// KVM on this host. It has no values, because no machine can be made.
#[derive(Debug)]
pub enum KvmHypervisor {}

impl Hypervisor for KvmHypervisor {
    fn capabilities(&self) -> Capabilities {
        match *self {}
    }

    fn create_vm(&self, _config: VmConfig) -> Result<Arc<dyn Vm>, HvError> {
        match *self {}
    }
}

/// Says that KVM is not served here.
///
/// # Errors
/// Always [`HvError::Unavailable`].
pub fn probe() -> Result<KvmHypervisor, HvError> {
    open()
}

/// As [`probe`]; there is nothing to wait for.
///
/// # Errors
/// Always [`HvError::Unavailable`].
pub fn probe_within(_limit: Duration) -> Result<KvmHypervisor, HvError> {
    open()
}

/// As [`probe`].
///
/// # Errors
/// Always [`HvError::Unavailable`].
pub fn open() -> Result<KvmHypervisor, HvError> {
    Err(HvError::Unavailable {
        kind: HypervisorKind::Kvm,
        reason: format!("this build has no KVM support for {} guests yet", std::env::consts::ARCH),
    })
}

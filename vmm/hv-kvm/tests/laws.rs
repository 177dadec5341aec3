//! The laws of the hypervisor seam, on this host's KVM.
#![cfg(target_os = "linux")]

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use supermachine_hv::{HvError, Hypervisor, HypervisorKind};

/// Patience for nested test beds, where making the first machine takes longer than users would wait.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

fn kvm() -> Result<Arc<dyn Hypervisor>, HvError> {
    static PROBED: OnceLock<Result<Arc<dyn Hypervisor>, String>> = OnceLock::new();
    let probed = PROBED.get_or_init(|| match supermachine_hv_kvm::probe_within(PROBE_LIMIT) {
        Ok(hypervisor) => Ok(Arc::new(hypervisor)),
        Err(HvError::Unavailable { reason, .. }) => Err(reason),
        Err(error) => panic!("a probe fails with a reason, not with {error:?}"),
    });
    probed.clone().map_err(|reason| HvError::Unavailable { kind: HypervisorKind::Kvm, reason })
}

supermachine_hv::hv_laws!(kvm);

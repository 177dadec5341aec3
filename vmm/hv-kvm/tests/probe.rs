//! The probe on the host that runs the tests: quick, and with one line where it refuses.
#![cfg(target_os = "linux")]

use std::time::{Duration, Instant};

use supermachine_hv::{HvError, Hypervisor, HypervisorKind};

/// What a caller that falls through to another back end is willing to wait.
const LIMIT: Duration = Duration::from_millis(300);

#[test]
fn decides_in_time_with_one_line() {
    let start = Instant::now();
    let result = supermachine_hv_kvm::probe();
    let elapsed = start.elapsed();
    match result {
        Ok(hypervisor) => {
            let capabilities = hypervisor.capabilities();
            println!("usable after {elapsed:?}: {capabilities:?}");
            assert_eq!(capabilities.kind, HypervisorKind::Kvm);
            assert!((1..=16).contains(&capabilities.max_vcpus), "{capabilities:?}");
            assert!(!capabilities.cpu_model.is_empty());
        }
        Err(HvError::Unavailable { kind, reason }) => {
            println!("refused after {elapsed:?}: {reason}");
            assert!(elapsed < LIMIT, "the probe took {elapsed:?} to refuse");
            assert_eq!(kind, HypervisorKind::Kvm);
            assert!(!reason.is_empty() && !reason.contains('\n'), "{reason:?}");
        }
        Err(other) => panic!("a probe fails with a reason, not with {other:?}"),
    }
}

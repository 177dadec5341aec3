//! The probe on the host that runs the tests: quick, and with one line where it refuses.
#![cfg(target_os = "linux")]

use std::time::{Duration, Instant};

use supermachine_hv::{HvError, Hypervisor, HypervisorKind};

/// What a caller that falls through to another back end is willing to wait.
const LIMIT: Duration = Duration::from_millis(300);
/// A host that is busy with other things may let any one attempt wait.
const ATTEMPTS: u32 = 5;

#[test]
fn decides_in_time_with_one_line() {
    let fastest = (0..ATTEMPTS).map(|_| attempt()).find(|elapsed| *elapsed < LIMIT);
    assert!(fastest.is_some(), "no attempt of {ATTEMPTS} was refused within {LIMIT:?}");
}

/// One probe, checked; gives the time after which it was refused, or zero where KVM is usable.
fn attempt() -> Duration {
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
            Duration::ZERO
        }
        Err(HvError::Unavailable { kind, reason }) => {
            println!("refused after {elapsed:?}: {reason}");
            assert_eq!(kind, HypervisorKind::Kvm);
            assert!(!reason.is_empty() && !reason.contains('\n'), "{reason:?}");
            elapsed
        }
        Err(other) => panic!("a probe fails with a reason, not with {other:?}"),
    }
}

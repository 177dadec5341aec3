//! `/dev/kvm` opened and checked: what every machine of this process is made from.

use std::sync::Arc;

use kvm_ioctls::{Cap, Kvm};
use supermachine_hv::{Capabilities, GuestMemory, HvError, Hypervisor, HypervisorKind, Vm, VmConfig, x86::CpuidLeaf};

use super::vcpu::KvmUnboundVcpu;
use super::vm::{Chips, KvmVm, Machine};
use super::{cpuid, msrs, os, spec};

/// Most vCPUs this back end gives a machine, whatever the kernel allows.
const MAX_VCPUS: u32 = 16;

/// What a machine cannot do without.
const NEEDED: &[(Cap, &str)] = &[
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
    (Cap::Pit2, "KVM_CAP_PIT2"),
    (Cap::PitState2, "KVM_CAP_PIT_STATE2"),
    (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR"),
    (Cap::SetIdentityMapAddr, "KVM_CAP_SET_IDENTITY_MAP_ADDR"),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
    (Cap::MpState, "KVM_CAP_MP_STATE"),
    (Cap::VcpuEvents, "KVM_CAP_VCPU_EVENTS"),
    (Cap::Debugregs, "KVM_CAP_DEBUGREGS"),
    (Cap::Xsave, "KVM_CAP_XSAVE"),
    (Cap::Xcrs, "KVM_CAP_XCRS"),
    (Cap::AdjustClock, "KVM_CAP_ADJUST_CLOCK"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
];

/// KVM on this host, as [`probe`](crate::probe) found it. A clone is the same device.
#[derive(Clone)]
pub struct KvmHypervisor {
    host: Arc<Host>,
}

/// The device and what the kernel says about the host, read once.
pub(super) struct Host {
    pub(super) kvm: Kvm,
    /// CPUID table that guests get, before the fields that differ per vCPU.
    pub(super) cpuid: Vec<CpuidLeaf>,
    /// Indices of the model-specific registers that belong to a saved vCPU.
    pub(super) msrs: Vec<u32>,
    max_vcpus: u32,
}

impl KvmHypervisor {
    /// Reads what the opened device offers.
    pub(super) fn new(kvm: Kvm) -> Result<Self, HvError> {
        let version = kvm.get_api_version();
        if version != spec::API_VERSION {
            return Err(unavailable(format!("/dev/kvm speaks API version {version}, not {}", spec::API_VERSION)));
        }
        let missing: Vec<&str> =
            NEEDED.iter().filter(|(cap, _)| !kvm.check_extension(*cap)).map(|(_, name)| *name).collect();
        if !missing.is_empty() {
            return Err(unavailable(format!("/dev/kvm lacks {}", missing.join(", "))));
        }
        let cpuid = cpuid::supported(&kvm)?;
        let list = kvm.get_msr_index_list().map_err(os("KVM_GET_MSR_INDEX_LIST"))?;
        let max_vcpus = u32::try_from(kvm.get_max_vcpus()).unwrap_or(MAX_VCPUS).min(MAX_VCPUS);
        let host = Host { kvm, cpuid, msrs: msrs::saved_indices(list.as_slice()), max_vcpus };
        Ok(Self { host: Arc::new(host) })
    }

    /// A vCPU in a machine with nothing else, for the probe.
    pub(super) fn bare_vcpu(&self, memory: GuestMemory) -> Result<KvmUnboundVcpu, HvError> {
        let config = VmConfig { memory, vcpus: 1 };
        let machine = Machine::new(Arc::clone(&self.host), config, Chips::None)?;
        KvmUnboundVcpu::new(Arc::new(machine), 0)
    }

    /// Whether guests are shown AVX and the XSAVE it needs.
    pub(super) fn has_avx(&self) -> bool {
        let needed = spec::LEAF1_ECX_AVX | spec::LEAF1_ECX_XSAVE;
        self.host.cpuid.iter().any(|leaf| leaf.function == 1 && leaf.ecx & needed == needed)
    }
}

impl Hypervisor for KvmHypervisor {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: HypervisorKind::Kvm,
            cpu_model: cpuid::model_name(&self.host.cpuid),
            max_vcpus: self.host.max_vcpus,
        }
    }

    fn create_vm(&self, config: VmConfig) -> Result<Arc<dyn Vm>, HvError> {
        if config.vcpus > self.host.max_vcpus {
            return Err(HvError::Limit {
                kind: HypervisorKind::Kvm,
                what: "vCPUs",
                asked: config.vcpus.into(),
                limit: self.host.max_vcpus.into(),
            });
        }
        Ok(Arc::new(KvmVm::new(Arc::clone(&self.host), config)?))
    }
}

/// The probe's answer for a host that cannot be used.
pub(super) fn unavailable(reason: String) -> HvError {
    HvError::Unavailable { kind: HypervisorKind::Kvm, reason }
}

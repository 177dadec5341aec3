//! Numbers from the KVM API (kernel `Documentation/virt/kvm/api.rst`, `cpuid.rst`, `msr.rst`) and the vendors' manuals.

/// Version that every kernel since 2.6.22 answers to `KVM_GET_API_VERSION` (api.rst §4.1).
pub(super) const API_VERSION: i32 = 12;
/// `KVM_RUN`, `_IO(KVMIO, 0x80)` (api.rst §4.10).
pub(super) const KVM_RUN: u64 = 0xae80;
/// `KVM_SET_DEVICE_ATTR`, `_IOW(KVMIO, 0xe1, struct kvm_device_attr)` (api.rst §4.80).
pub(super) const KVM_SET_DEVICE_ATTR: u64 = 0x4018_aee1;
/// `KVM_GET_DEVICE_ATTR`, `_IOW(KVMIO, 0xe2, struct kvm_device_attr)` (api.rst §4.80).
pub(super) const KVM_GET_DEVICE_ATTR: u64 = 0x4018_aee2;
/// Three pages below 4 GiB that Intel hosts need for real mode (api.rst §4.44, `KVM_SET_TSS_ADDR`).
pub(super) const TSS_ADDRESS: usize = 0xfffb_d000;
/// One page for the same purpose (api.rst §4.61, `KVM_SET_IDENTITY_MAP_ADDR`).
pub(super) const IDENTITY_MAP_ADDRESS: u64 = 0xfffb_c000;
/// Bytes of a chip in `struct kvm_irqchip` (api.rst §4.26).
pub(super) const IRQCHIP_LEN: usize = 512;
/// Bytes of `struct kvm_lapic_state` (api.rst §4.57).
pub(super) const LAPIC_LEN: usize = 1024;
/// Bytes of the classic `struct kvm_xsave` (api.rst §4.42); more only where `KVM_CAP_XSAVE2` says so.
pub(super) const XSAVE_LEN: usize = 4096;

/// XSAVE area (Intel SDM vol. 1 §13.4): legacy region.
pub(super) const XSAVE_LEGACY_LEN: usize = 512;
/// Legacy region and header.
pub(super) const XSAVE_MIN_LEN: usize = 576;
/// Length of the header's two bit maps, XSTATE_BV and XCOMP_BV; the rest of the header is zero.
pub(super) const XSAVE_HEADER_MAPS_LEN: usize = 16;

/// CPUID leaf 1 ECX (Intel SDM vol. 2A, CPUID): VMX.
pub(super) const LEAF1_ECX_VMX: u32 = 1 << 5;
/// Perfmon capabilities MSR.
pub(super) const LEAF1_ECX_PDCM: u32 = 1 << 15;
/// x2APIC.
pub(super) const LEAF1_ECX_X2APIC: u32 = 1 << 21;
/// TSC-deadline timer.
pub(super) const LEAF1_ECX_TSC_DEADLINE: u32 = 1 << 24;
/// XSAVE.
pub(super) const LEAF1_ECX_XSAVE: u32 = 1 << 26;
/// AVX.
pub(super) const LEAF1_ECX_AVX: u32 = 1 << 28;
/// A hypervisor is present.
pub(super) const LEAF1_ECX_HYPERVISOR: u32 = 1 << 31;
/// Leaf 1 EDX: more than one logical processor in the package.
pub(super) const LEAF1_EDX_HTT: u32 = 1 << 28;
/// Leaf 8000_0001h ECX (AMD APM vol. 3 §E.4.2): SVM.
pub(super) const LEAF8_1_ECX_SVM: u32 = 1 << 2;
/// Core, northbridge and L3 performance counter extensions (bits 23, 24, 28).
pub(super) const LEAF8_1_ECX_PERFCTR: u32 = 1 << 23 | 1 << 24 | 1 << 28;
/// KVM feature leaf (cpuid.rst).
pub(super) const LEAF_KVM_FEATURES: u32 = 0x4000_0001;
/// Asynchronous page faults (bits 4, 10, 14).
pub(super) const KVM_FEATURES_ASYNC_PF: u32 = 1 << 4 | 1 << 10 | 1 << 14;

/// TSC counter.
pub(super) const MSR_TSC: u32 = 0x10;
/// TSC deadline of the local APIC's timer; takes a value only after the local APIC is in that mode.
pub(super) const MSR_TSC_DEADLINE: u32 = 0x6e0;

/// Registers of the host's list that are not part of a saved vCPU, as inclusive ranges.
pub(super) const MSRS_NOT_SAVED: &[(u32, u32)] = &[
    // KVM's first clock registers (msr.rst: deprecated): aliases of 4b56_4d00h and 4b56_4d01h.
    (0x11, 0x12),
    // SMI count (read only); no SMM in these guests, so no SMBASE either.
    (0x34, 0x34),
    (0x9e, 0x9e),
    // Intel performance counters and their control: CPUID hides them.
    (0xc1, 0xc8),
    (0x186, 0x18d),
    (0x309, 0x30c),
    (0x345, 0x345),
    (0x38d, 0x390),
    (0x3f1, 0x3f2),
    (0x4c1, 0x4c8),
    // VMX capabilities: CPUID hides VMX.
    (0x480, 0x493),
    // Hyper-V's interface: no guest of ours is shown it.
    (0x4000_0000, 0x4000_01ff),
    // Writing KVM's wall clock register makes the host write to guest memory; it is a request, not state.
    (0x4b56_4d00, 0x4b56_4d00),
    // AMD performance counters.
    (0xc001_0000, 0xc001_0007),
    (0xc001_0200, 0xc001_020b),
    (0xc000_0300, 0xc000_0302),
];

//! The CPUID table that guests see: what KVM supports, less what a snapshot could not carry.

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::{Cap, Kvm};
use supermachine_hv::{HvError, x86::CpuidLeaf};

use super::{os, spec};

/// Leaves whose sub-leaves are told apart by ECX.
const INDEXED: &[u32] = &[4, 7, 0xb, 0xd, 0xf, 0x10, 0x12, 0x14, 0x17, 0x18, 0x1d, 0x1e, 0x1f, 0x24, 0x8000_001d];

/// KVM's table with what every vCPU of every machine shares already decided.
pub(super) fn supported(kvm: &Kvm) -> Result<Vec<CpuidLeaf>, HvError> {
    let table = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(os("KVM_GET_SUPPORTED_CPUID"))?;
    let deadline_timer = kvm.check_extension(Cap::TscDeadlineTimer);
    let mut leaves: Vec<CpuidLeaf> = table.as_slice().iter().map(neutral).filter(|leaf| !is_host_only(leaf)).collect();
    for leaf in &mut leaves {
        settle(leaf, deadline_timer);
    }
    leaves.sort_by_key(|leaf| (leaf.function, leaf.index));
    leaves.dedup_by_key(|leaf| (leaf.function, leaf.index));
    Ok(leaves)
}

fn neutral(entry: &kvm_cpuid_entry2) -> CpuidLeaf {
    CpuidLeaf {
        function: entry.function,
        index: entry.index,
        eax: entry.eax,
        ebx: entry.ebx,
        ecx: entry.ecx,
        edx: entry.edx,
    }
}

/// Topology is our own; SGX, tracing and performance monitoring do not survive a snapshot.
fn is_host_only(leaf: &CpuidLeaf) -> bool {
    matches!(leaf.function, 0xb | 0x12 | 0x14 | 0x1f)
}

fn settle(leaf: &mut CpuidLeaf, deadline_timer: bool) {
    match leaf.function {
        1 => {
            leaf.ecx &= !(spec::LEAF1_ECX_VMX | spec::LEAF1_ECX_PDCM | spec::LEAF1_ECX_TSC_DEADLINE);
            leaf.ecx |= spec::LEAF1_ECX_X2APIC | spec::LEAF1_ECX_HYPERVISOR;
            if deadline_timer {
                leaf.ecx |= spec::LEAF1_ECX_TSC_DEADLINE;
            }
            leaf.ebx &= 0x0000_ff00;
        }
        // Performance monitoring: none, for its counters are not saved. SVM likewise: no guests in guests.
        0xa | 0x8000_000a | 0x8000_0022 => (leaf.eax, leaf.ebx, leaf.ecx, leaf.edx) = (0, 0, 0, 0),
        0x8000_0001 => leaf.ecx &= !(spec::LEAF8_1_ECX_SVM | spec::LEAF8_1_ECX_PERFCTR),
        // A page-ready event that a snapshot loses would leave a task asleep for ever.
        spec::LEAF_KVM_FEATURES => leaf.eax &= !spec::KVM_FEATURES_ASYNC_PF,
        _ => {}
    }
}

/// The table of vCPU `index` in a machine of `vcpus`: the shared one with topology and APIC id filled in.
pub(super) fn for_vcpu(shared: &[CpuidLeaf], index: u32, vcpus: u32) -> Vec<CpuidLeaf> {
    let vcpus = vcpus.max(1);
    let id_bits = vcpus.next_power_of_two().trailing_zeros();
    let mut leaves = shared.to_vec();
    for leaf in &mut leaves {
        place(leaf, index, vcpus, id_bits);
    }
    if shared.iter().any(|leaf| leaf.function == 0 && leaf.eax >= 0xb) {
        // One thread per core, then all cores in one package (Intel SDM vol. 2A, CPUID leaf 0Bh).
        let leaf = CpuidLeaf { function: 0xb, edx: index, ..Default::default() };
        leaves.push(CpuidLeaf { index: 0, eax: 0, ebx: 1, ecx: 0x100, ..leaf });
        leaves.push(CpuidLeaf { index: 1, eax: id_bits, ebx: vcpus, ecx: 0x201, ..leaf });
        leaves.push(CpuidLeaf { index: 2, ecx: 2, ..leaf });
    }
    leaves.sort_by_key(|leaf| (leaf.function, leaf.index));
    leaves
}

fn place(leaf: &mut CpuidLeaf, index: u32, vcpus: u32, id_bits: u32) {
    match leaf.function {
        1 => {
            leaf.ebx = leaf.ebx & 0xff00 | index << 24 | 1 << id_bits << 16;
            leaf.edx &= !spec::LEAF1_EDX_HTT;
            if vcpus > 1 {
                leaf.edx |= spec::LEAF1_EDX_HTT;
            }
        }
        // Caches: levels 1 and 2 belong to one vCPU, level 3 to all. EAX bits 14–25 count ids that share, minus one.
        4 | 0x8000_001d if leaf.eax & 0x1f != 0 => {
            let sharing = if leaf.eax >> 5 & 7 >= 3 { (1 << id_bits) - 1 } else { 0 };
            let cores = if leaf.function == 4 { (1 << id_bits) - 1 } else { 0 };
            leaf.eax = leaf.eax & 0x3fff | sharing << 14 | cores << 26;
        }
        0x8000_0008 => leaf.ecx = leaf.ecx & !0xf0ff | (vcpus - 1) | id_bits << 12,
        0x8000_001e => (leaf.eax, leaf.ebx, leaf.ecx) = (index, index & 0xff, 0),
        _ => {}
    }
}

/// The kernel's form of a table.
pub(super) fn for_kernel(leaves: &[CpuidLeaf]) -> Result<CpuId, HvError> {
    let entries: Vec<kvm_cpuid_entry2> = leaves
        .iter()
        .map(|leaf| kvm_cpuid_entry2 {
            function: leaf.function,
            index: leaf.index,
            flags: if INDEXED.contains(&leaf.function) { KVM_CPUID_FLAG_SIGNIFCANT_INDEX } else { 0 },
            eax: leaf.eax,
            ebx: leaf.ebx,
            ecx: leaf.ecx,
            edx: leaf.edx,
            ..Default::default()
        })
        .collect();
    CpuId::from_entries(&entries)
        .map_err(|_| HvError::BadState { field: "cpuid", problem: format!("{} leaves are too many", entries.len()) })
}

/// Vendor, family, model, stepping and a digest of the whole table: equal names mean interchangeable guests.
pub(super) fn model_name(shared: &[CpuidLeaf]) -> String {
    let find = |function| shared.iter().find(|leaf| leaf.function == function).copied().unwrap_or_default();
    let (vendor, signature) = (find(0), find(1).eax);
    let vendor: Vec<u8> = [vendor.ebx, vendor.edx, vendor.ecx].into_iter().flat_map(u32::to_le_bytes).collect();
    let vendor: String = vendor.iter().map(|byte| char::from(*byte)).filter(char::is_ascii_alphanumeric).collect();
    let family = (signature >> 8 & 0xf) + (signature >> 20 & 0xff);
    let model = signature >> 4 & 0xf | signature >> 12 & 0xf0;
    format!("{vendor}-{family}-{model}-{}-{:016x}", signature & 0xf, digest(shared))
}

/// FNV-1a, 64 bits: a name, not a defence.
fn digest(leaves: &[CpuidLeaf]) -> u64 {
    let words = leaves.iter().flat_map(|leaf| [leaf.function, leaf.index, leaf.eax, leaf.ebx, leaf.ecx, leaf.edx]);
    words
        .flat_map(u32::to_le_bytes)
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> Vec<CpuidLeaf> {
        let leaf = |function, eax| CpuidLeaf { function, eax, ..Default::default() };
        vec![leaf(0, 0xd), leaf(1, 0x00a2_0f12), leaf(0x8000_001e, 99)]
    }

    #[test]
    fn each_vcpu_sees_its_own_apic_id() {
        for index in 0..3 {
            let leaves = for_vcpu(&shared(), index, 3);
            let leaf = |function| leaves.iter().find(|leaf| leaf.function == function).copied().unwrap();
            assert_eq!(leaf(1).ebx, index << 24 | 4 << 16);
            assert_eq!(leaf(0xb).edx, index);
            assert_eq!(leaf(0x8000_001e).eax, index);
            let cores = leaves.iter().find(|leaf| leaf.function == 0xb && leaf.index == 1).unwrap();
            assert_eq!((cores.eax, cores.ebx), (2, 3));
        }
    }

    #[test]
    fn one_vcpu_is_one_processor() {
        let leaves = for_vcpu(&shared(), 0, 1);
        let leaf = leaves.iter().find(|leaf| leaf.function == 1).unwrap();
        assert_eq!((leaf.ebx >> 16 & 0xff, leaf.edx & spec::LEAF1_EDX_HTT), (1, 0));
    }

    #[test]
    fn nested_virtualization_and_counters_are_hidden() {
        let mut leaf = CpuidLeaf { function: 1, ecx: u32::MAX, ebx: u32::MAX, ..Default::default() };
        settle(&mut leaf, true);
        assert_eq!(leaf.ecx & (spec::LEAF1_ECX_VMX | spec::LEAF1_ECX_PDCM), 0);
        assert_eq!(leaf.ebx, 0xff00);
        let mut leaf = CpuidLeaf { function: 0x8000_0001, ecx: u32::MAX, ..Default::default() };
        settle(&mut leaf, true);
        assert_eq!(leaf.ecx & spec::LEAF8_1_ECX_SVM, 0);
    }

    #[test]
    fn a_changed_table_is_another_model() {
        let mut other = shared();
        other[2].edx = 1;
        assert_ne!(model_name(&shared()), model_name(&other));
        assert!(model_name(&shared()).contains("-25-33-2-"), "{}", model_name(&shared()));
    }
}

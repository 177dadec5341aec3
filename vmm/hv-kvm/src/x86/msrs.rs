//! Which model-specific registers belong to a vCPU, and reading and writing them in batches.

use std::collections::BTreeSet;

use kvm_bindings::{KVM_MAX_MSR_ENTRIES, Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;
use supermachine_hv::HvError;

use super::spec::{MSR_TSC, MSR_TSC_DEADLINE, MSRS_NOT_SAVED};
use super::{os, refused};

const FIELD: &str = "msrs";

/// The host's list without what is not state, in the order of restoring: the TSC first, its deadline last.
pub(super) fn saved_indices(host: &[u32]) -> Vec<u32> {
    let hidden = |index: u32| MSRS_NOT_SAVED.iter().any(|(first, last)| (*first..=*last).contains(&index));
    let unique: BTreeSet<u32> = host.iter().copied().filter(|index| !hidden(*index)).collect();
    let mut indices: Vec<u32> = unique.into_iter().collect();
    indices.sort_by_key(|index| (restore_rank(*index), *index));
    indices
}

fn restore_rank(index: u32) -> u8 {
    match index {
        MSR_TSC => 0,
        MSR_TSC_DEADLINE => 2,
        _ => 1,
    }
}

/// Reads the registers that this vCPU has; the host lists some that its CPUID hides.
pub(super) fn read(fd: &VcpuFd, indices: &[u32]) -> Result<Vec<(u32, u64)>, HvError> {
    let mut values = Vec::with_capacity(indices.len());
    let mut rest = indices;
    while !rest.is_empty() {
        let (batch, _) = rest.split_at(rest.len().min(KVM_MAX_MSR_ENTRIES));
        let mut msrs = batch_of(batch.iter().map(|index| (*index, 0)))?;
        let count = fd.get_msrs(&mut msrs).map_err(os("KVM_GET_MSRS"))?;
        values.extend(msrs.as_slice().iter().take(count).map(|entry| (entry.index, entry.data)));
        // The kernel stops at the first register it cannot read; that one is left out.
        let step = if count < batch.len() { count.saturating_add(1) } else { count };
        rest = rest.get(step..).unwrap_or_default();
    }
    Ok(values)
}

/// Checks the list of a saved state: only registers that a save can hold, each once.
pub(super) fn check(msrs: &[(u32, u64)], known: &[u32]) -> Result<(), HvError> {
    let known: BTreeSet<u32> = known.iter().copied().collect();
    let mut seen = BTreeSet::new();
    for (index, _) in msrs {
        if !known.contains(index) {
            return Err(bad(format!("register {index:#x} is not one this host saves")));
        }
        if !seen.insert(*index) {
            return Err(bad(format!("register {index:#x} is there twice")));
        }
    }
    Ok(())
}

/// Writes those of checked registers that `wanted` names, in restore order.
pub(super) fn write(fd: &VcpuFd, msrs: &[(u32, u64)], wanted: impl Fn(u32) -> bool) -> Result<(), HvError> {
    let mut sorted: Vec<(u32, u64)> = msrs.iter().copied().filter(|(index, _)| wanted(*index)).collect();
    sorted.sort_by_key(|(index, _)| restore_rank(*index));
    let mut rest = sorted.as_slice();
    while !rest.is_empty() {
        let (batch, _) = rest.split_at(rest.len().min(KVM_MAX_MSR_ENTRIES));
        let count = fd.set_msrs(&batch_of(batch.iter().copied())?).map_err(refused(FIELD))?;
        let mut step = count;
        if let Some((index, value)) = batch.get(count) {
            // A register may be read-only and still be listed: the same value is no change.
            if read(fd, &[*index])? != [(*index, *value)] {
                return Err(bad(format!("the kernel refuses {value:#x} for register {index:#x}")));
            }
            step = step.saturating_add(1);
        }
        rest = rest.get(step..).unwrap_or_default();
    }
    Ok(())
}

fn batch_of(entries: impl Iterator<Item = (u32, u64)>) -> Result<Msrs, HvError> {
    let entries: Vec<kvm_msr_entry> =
        entries.map(|(index, data)| kvm_msr_entry { index, data, ..Default::default() }).collect();
    Msrs::from_entries(&entries).map_err(|_| bad(format!("{} registers in one batch", entries.len())))
}

fn bad(problem: String) -> HvError {
    HvError::BadState { field: FIELD, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_tsc_first_and_deadline_last() {
        assert_eq!(saved_indices(&[0x6e0, 0x174, 0x12, 0x10, 0x174, 0xc000_0081]), [0x10, 0x174, 0xc000_0081, 0x6e0]);
    }

    #[test]
    fn unknown_and_repeated_registers_are_refused() {
        let known = [0x10, 0x174];
        assert!(check(&[(0x10, 0), (0x174, 1)], &known).is_ok());
        assert!(check(&[(0x11, 0)], &known).is_err());
        assert!(check(&[(0x10, 0), (0x10, 1)], &known).is_err());
    }
}

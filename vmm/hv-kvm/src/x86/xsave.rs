//! The vector and x87 state in the XSAVE format.
// UNSAFETY: the kernel copies as many bytes as the host's XSAVE area has, whatever we allocated.
#![expect(unsafe_code, reason = "KVM_GET_XSAVE2 and KVM_SET_XSAVE trust the buffer's length")]

use kvm_bindings::{Xsave, kvm_xsave};
use kvm_ioctls::VcpuFd;
use supermachine_hv::{HvError, x86::CpuidLeaf};

use super::spec::{XSAVE_HEADER_MAPS_LEN, XSAVE_LEGACY_LEN, XSAVE_LEN, XSAVE_MIN_LEN};
use super::{os, refused};

const FIELD: &str = "xsave";

/// The area, `len` bytes long, where `len` is what the kernel gave for the machine.
pub(super) fn save(fd: &VcpuFd, len: usize) -> Result<Vec<u8>, HvError> {
    let words: Vec<u32> = if len <= XSAVE_LEN {
        fd.get_xsave().map_err(os("KVM_GET_XSAVE"))?.region.to_vec()
    } else {
        let mut area = buffer(len)?;
        // SAFETY: the buffer has the length that KVM_CAP_XSAVE2 names for this machine. It could grow only by
        // arch_prctl(ARCH_REQ_XCOMP_GUEST_PERM), which this process never calls; the guest cannot.
        unsafe { fd.get_xsave2(&mut area) }.map_err(os("KVM_GET_XSAVE2"))?;
        let head = area.as_fam_struct_ref().xsave.region;
        head.iter().chain(area.as_slice()).copied().collect()
    };
    Ok(words.into_iter().flat_map(u32::to_le_bytes).take(len).collect())
}

/// Checks a saved area's length and header; `components` is what XCR0 may hold on this host.
pub(super) fn check(area: &[u8], len: usize, components: u64) -> Result<(), HvError> {
    if !(XSAVE_MIN_LEN..=len).contains(&area.len()) {
        return Err(bad(format!("{} bytes, {XSAVE_MIN_LEN} to {len} expected", area.len())));
    }
    let header = area.get(XSAVE_LEGACY_LEN..XSAVE_MIN_LEN).unwrap_or_default();
    let (maps, reserved) = header.split_at_checked(XSAVE_HEADER_MAPS_LEN).unwrap_or_default();
    let present = maps.first_chunk().copied().map_or(0, u64::from_le_bytes);
    let compacted = maps.last_chunk().copied().map_or(0, u64::from_le_bytes);
    if present & !components != 0 {
        return Err(bad(format!("components {present:#x}, the host has {components:#x}")));
    }
    if compacted != 0 || reserved.iter().any(|byte| *byte != 0) {
        return Err(bad("the header is not of the standard format".to_owned()));
    }
    Ok(())
}

/// Puts back a checked area; what it is short of is zero.
pub(super) fn restore(fd: &VcpuFd, area: &[u8], len: usize) -> Result<(), HvError> {
    let mut words = area.chunks(4).map(word);
    let mut buffer = buffer(len)?;
    let mut head = kvm_xsave::default();
    for (slot, word) in head.region.iter_mut().zip(&mut words) {
        *slot = word;
    }
    for (slot, word) in buffer.as_mut_slice().iter_mut().zip(words) {
        *slot = word;
    }
    // SAFETY: only a field of the header is written, its length is untouched.
    unsafe { buffer.as_mut_fam_struct() }.xsave.region = head.region;
    // SAFETY: the buffer has at least the length the kernel reads, as in `save`; the kernel checks the content.
    unsafe { fd.set_xsave2(&buffer) }.map_err(refused(FIELD))
}

fn buffer(len: usize) -> Result<Xsave, HvError> {
    let extra = len.saturating_sub(XSAVE_LEN).div_ceil(4);
    Xsave::new(extra).map_err(|_| bad(format!("{len} bytes are too many")))
}

fn word(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// The XSAVE components that guests can have, from CPUID leaf 0Dh.
pub(super) fn components(cpuid: &[CpuidLeaf]) -> u64 {
    let leaf = cpuid.iter().find(|leaf| leaf.function == 0xd && leaf.index == 0);
    // x87 and SSE have no bit of their own where XSAVE is absent.
    leaf.map_or(3, |leaf| u64::from(leaf.edx) << 32 | u64::from(leaf.eax) | 3)
}

fn bad(problem: String) -> HvError {
    HvError::BadState { field: FIELD, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_checked() {
        let mut area = vec![0; 4096];
        assert!(check(&area, 4096, 7).is_ok());
        assert!(check(&area[..575], 4096, 7).is_err());
        assert!(check(&area, 4095, 7).is_err());
        area[512] = 8;
        assert!(check(&area, 4096, 7).is_err(), "a component the host lacks");
        area[512] = 7;
        assert!(check(&area, 4096, 7).is_ok());
        area[527] = 0x80;
        assert!(check(&area, 4096, 7).is_err(), "the compacted format");
        area[527] = 0;
        area[540] = 1;
        assert!(check(&area, 4096, 7).is_err(), "reserved bytes");
    }

    #[test]
    fn words_are_little_endian_and_padded() {
        assert_eq!(word(&[1, 2, 3, 4]), 0x0403_0201);
        assert_eq!(word(&[1, 2]), 0x0201);
    }
}

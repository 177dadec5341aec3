//! The memory a vCPU shares with the kernel (`struct kvm_run` and the port data behind it).
// UNSAFETY: the page is mapped from the vCPU's file and read through raw pointers, because the kernel and kicking
// threads write to it as well, which no Rust reference may allow.
#![expect(unsafe_code, reason = "memory shared with the kernel")]

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::AtomicU8;

use kvm_bindings::{kvm_run, kvm_run__bindgen_ty_1__bindgen_ty_6};
use supermachine_hv::HvError;

use super::spec::KVM_RUN;

/// Offset of the exit record's union.
const RECORD: usize = offset_of!(kvm_run, __bindgen_anon_1);
/// Offset of the eight data bytes of an MMIO exit.
pub(super) const MMIO_DATA: usize = RECORD + offset_of!(kvm_run__bindgen_ty_1__bindgen_ty_6, data);

/// The mapping; lives as long as the vCPU or any kicker.
pub(super) struct RunPage {
    base: NonNull<kvm_run>,
    len: usize,
}

// SAFETY: the mapping has no thread affinity; every access is a volatile or atomic one through the raw pointer, and
// all but `immediate_exit` are made by the thread that owns the vCPU.
unsafe impl Send for RunPage {}
// SAFETY: as above.
unsafe impl Sync for RunPage {}

/// A port access as the kernel reports it.
#[derive(Debug, Clone, Copy)]
pub(super) struct PortRecord {
    pub(super) out: bool,
    pub(super) size: u8,
    pub(super) port: u16,
    pub(super) count: u32,
    pub(super) data_offset: u64,
}

/// A memory access as the kernel reports it.
#[derive(Debug, Clone, Copy)]
pub(super) struct MmioRecord {
    pub(super) gpa: u64,
    pub(super) len: u32,
    pub(super) write: bool,
}

impl RunPage {
    /// Maps the run page of a vCPU; `len` is the kernel's `KVM_GET_VCPU_MMAP_SIZE`.
    pub(super) fn map(vcpu: &impl AsRawFd, len: usize) -> Result<Self, HvError> {
        if len < size_of::<kvm_run>() {
            return Err(os(io::Error::from(io::ErrorKind::UnexpectedEof)));
        }
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a fresh mapping at an address the kernel picks; nothing that exists is replaced.
        let base = unsafe { libc::mmap(null_mut(), len, prot, flags, vcpu.as_raw_fd(), 0) };
        if base == libc::MAP_FAILED {
            return Err(os(io::Error::last_os_error()));
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| os(io::ErrorKind::InvalidData.into()))?;
        Ok(Self { base, len })
    }

    /// `KVM_RUN` on the vCPU this page belongs to.
    pub(super) fn enter(&self, vcpu: RawFd) -> io::Result<()> {
        // SAFETY: KVM_RUN takes no argument; the guest memory it runs on is kept mapped by the vCPU's machine.
        if unsafe { libc::ioctl(vcpu, KVM_RUN, 0) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The byte that makes `KVM_RUN` come back at once.
    pub(super) fn immediate_exit(&self) -> &AtomicU8 {
        // SAFETY: the byte lies in the mapping, which lives as long as `self`; everyone on our side goes through
        // this atomic, and the kernel reads the byte once.
        unsafe { AtomicU8::from_ptr(&raw mut (*self.base.as_ptr()).immediate_exit) }
    }

    /// Why `KVM_RUN` came back.
    pub(super) fn exit_reason(&self) -> u32 {
        // SAFETY: in the mapping, aligned, any bits are a valid u32.
        unsafe { (&raw const (*self.base.as_ptr()).exit_reason).read_volatile() }
    }

    /// The record of a `KVM_EXIT_IO`.
    pub(super) fn port(&self) -> PortRecord {
        // SAFETY: in the mapping, aligned; the record is plain integers, so any bits are valid.
        let io = unsafe { (&raw const (*self.base.as_ptr()).__bindgen_anon_1.io).read_volatile() };
        PortRecord {
            out: u32::from(io.direction) == kvm_bindings::KVM_EXIT_IO_OUT,
            size: io.size,
            port: io.port,
            count: io.count,
            data_offset: io.data_offset,
        }
    }

    /// The record of a `KVM_EXIT_MMIO`.
    pub(super) fn mmio(&self) -> MmioRecord {
        // SAFETY: as in `port`.
        let mmio = unsafe { (&raw const (*self.base.as_ptr()).__bindgen_anon_1.mmio).read_volatile() };
        MmioRecord { gpa: mmio.phys_addr, len: mmio.len, write: mmio.is_write != 0 }
    }

    /// The union's word `index` for records of plain numbers: entry failures, internal errors, system events.
    pub(super) fn record_u32(&self, index: usize) -> u32 {
        let mut bytes = [0; 4];
        let offset = RECORD.saturating_add(index.saturating_mul(4));
        if self.read(offset, &mut bytes) { u32::from_le_bytes(bytes) } else { 0 }
    }

    /// Copies bytes out of the mapping; false if they do not lie in it.
    pub(super) fn read(&self, offset: usize, buffer: &mut [u8]) -> bool {
        if !self.holds(offset, buffer.len()) {
            return false;
        }
        for (step, byte) in buffer.iter_mut().enumerate() {
            // SAFETY: `offset + step` is below the mapping's length, checked above.
            *byte = unsafe { self.base.as_ptr().cast::<u8>().add(offset + step).read_volatile() };
        }
        true
    }

    /// Copies bytes into the mapping; false if they do not fit.
    pub(super) fn write(&self, offset: usize, bytes: &[u8]) -> bool {
        if !self.holds(offset, bytes.len()) {
            return false;
        }
        for (step, byte) in bytes.iter().enumerate() {
            // SAFETY: `offset + step` is below the mapping's length, checked above.
            unsafe { self.base.as_ptr().cast::<u8>().add(offset + step).write_volatile(*byte) };
        }
        true
    }

    /// Whether `len` bytes at `offset` lie in the mapping.
    pub(super) fn holds(&self, offset: usize, len: usize) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.len)
    }
}

impl Drop for RunPage {
    fn drop(&mut self) {
        // SAFETY: this object made the mapping and no reference into it outlives the object.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

fn os(source: io::Error) -> HvError {
    HvError::Os { operation: "mmap of a vCPU's run page", source }
}

//! One machine: memory slots, the kernel's interrupt controllers and timer, the guest clock.
// UNSAFETY: giving the kernel host addresses as guest memory is unsafe by nature.
#![expect(unsafe_code, reason = "guest memory slots")]

use std::sync::{Arc, Mutex, PoisonError};

use kvm_bindings::{KVM_PIT_SPEAKER_DUMMY, kvm_pit_config, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, VmFd};
use supermachine_hv::{ChipState, GuestMemory, HvError, HypervisorKind, UnboundVcpu, Vm, VmConfig, VmState};
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use super::hypervisor::Host;
use super::vcpu::KvmUnboundVcpu;
use super::{chips, os, spec, tsc};

/// Name of the time stamp counter among the saved chips; it comes last.
const TSC: &str = "tsc";

/// A machine as the seam sees it.
pub(super) struct KvmVm {
    machine: Arc<Machine>,
}

/// What the machine's vCPUs keep alive: most of all the guest memory that the kernel writes to while they run.
pub(super) struct Machine {
    pub(super) fd: VmFd,
    pub(super) host: Arc<Host>,
    pub(super) vcpus: u32,
    /// Bytes of a vCPU's XSAVE area.
    pub(super) xsave_len: usize,
    /// What the guest's time stamp counter is ahead of the host's; one number for all vCPUs, so that they agree.
    tsc_offset: Mutex<Option<u64>>,
    // Declared after `fd`, so that the machine is closed before its memory is unmapped.
    _memory: GuestMemory,
}

impl KvmVm {
    pub(super) fn new(host: Arc<Host>, config: VmConfig) -> Result<Self, HvError> {
        Ok(Self { machine: Arc::new(Machine::new(host, config, Chips::Kernel)?) })
    }
}

/// Whether a machine has interrupt controllers and a timer.
pub(super) enum Chips {
    /// In the kernel.
    Kernel,
    /// None: for the probe, whose guest needs none and whose caller waits.
    None,
}

impl Machine {
    pub(super) fn new(host: Arc<Host>, config: VmConfig, chips: Chips) -> Result<Self, HvError> {
        let fd = host.kvm.create_vm().map_err(os("KVM_CREATE_VM"))?;
        fd.set_identity_map_address(spec::IDENTITY_MAP_ADDRESS).map_err(os("KVM_SET_IDENTITY_MAP_ADDR"))?;
        fd.set_tss_address(spec::TSS_ADDRESS).map_err(os("KVM_SET_TSS_ADDR"))?;
        if let Chips::Kernel = chips {
            fd.create_irq_chip().map_err(os("KVM_CREATE_IRQCHIP"))?;
            let pit = kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() };
            fd.create_pit2(pit).map_err(os("KVM_CREATE_PIT2"))?;
        }
        let xsave_len = usize::try_from(fd.check_extension_int(Cap::Xsave2)).unwrap_or(0).max(spec::XSAVE_LEN);
        let machine =
            Self { fd, host, vcpus: config.vcpus, xsave_len, tsc_offset: Mutex::new(None), _memory: config.memory };
        machine.map_memory()?;
        Ok(machine)
    }

    /// The machine's time stamp counter offset, where it is known.
    pub(super) fn tsc_offset(&self) -> Option<u64> {
        *self.tsc_offset.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new vCPU's offset counts for the machine, unless it has one already.
    pub(super) fn offer_tsc_offset(&self, offset: Option<u64>) {
        let mut own = self.tsc_offset.lock().unwrap_or_else(PoisonError::into_inner);
        *own = own.or(offset);
    }

    /// The guest's counter when the host's is `host`; 0 where it is not known.
    fn save_tsc(&self, host: u64) -> ChipState {
        let counter = self.tsc_offset().map_or(0, |offset| host.wrapping_add(offset));
        ChipState { name: TSC.to_owned(), bytes: counter.to_le_bytes().to_vec() }
    }

    /// The guest's counter goes on from the saved value now.
    fn restore_tsc(&self, saved: u64) {
        let offset = (saved != 0).then(|| saved.wrapping_sub(tsc::host_now()));
        *self.tsc_offset.lock().unwrap_or_else(PoisonError::into_inner) = offset;
    }

    fn map_memory(&self) -> Result<(), HvError> {
        for (slot, region) in self._memory.iter().enumerate() {
            let slot = u32::try_from(slot).unwrap_or(u32::MAX);
            let region = kvm_userspace_memory_region {
                slot,
                flags: 0,
                guest_phys_addr: region.start_addr().0,
                memory_size: region.len(),
                userspace_addr: region.as_ptr() as u64,
            };
            // SAFETY: the region is a mapping of exactly this length that `_memory` keeps until after the machine
            // is closed. The guest can write anything to it at any time; it is only ever read as guest memory.
            unsafe { self.fd.set_user_memory_region(region) }.map_err(os("KVM_SET_USER_MEMORY_REGION"))?;
        }
        Ok(())
    }
}

impl Vm for KvmVm {
    fn create_vcpu(&self, index: u32) -> Result<Box<dyn UnboundVcpu>, HvError> {
        if index >= self.machine.vcpus {
            return Err(HvError::Limit {
                kind: HypervisorKind::Kvm,
                what: "vCPU index",
                asked: index.into(),
                limit: self.machine.vcpus.saturating_sub(1).into(),
            });
        }
        Ok(Box::new(KvmUnboundVcpu::new(Arc::clone(&self.machine), index)?))
    }

    fn set_irq_line(&self, gsi: u32, level: bool) -> Result<(), HvError> {
        self.machine.fd.set_irq_line(gsi, level).map_err(os("KVM_IRQ_LINE"))
    }

    fn save(&self) -> Result<VmState, HvError> {
        let clock = self.machine.fd.get_clock().map_err(os("KVM_GET_CLOCK"))?;
        // Clock and counter are of one moment. Were the counter read later, it would be ahead of the clock in the copy,
        // and a vCPU that still reads the time by what is in RAM for another would see the clock step back once that
        // one is entered.
        let tsc = self.machine.save_tsc(tsc::host_at(&clock));
        let mut chips = chips::save(&self.machine.fd)?;
        chips.push(tsc);
        Ok(VmState { chips, clock_ns: clock.clock })
    }

    fn restore(&self, state: &VmState) -> Result<(), HvError> {
        let bad = |problem: &str| HvError::BadState { field: "chips", problem: problem.to_owned() };
        let (tsc, chips) = state.chips.split_last().ok_or_else(|| bad("no chips"))?;
        if tsc.name != TSC {
            return Err(bad("the last one is not the time stamp counter"));
        }
        let tsc = tsc.bytes.as_slice().try_into().map_err(|_| bad("the time stamp counter is not 8 bytes"))?;
        chips::restore(&self.machine.fd, chips)?;
        let clock = kvm_bindings::kvm_clock_data { clock: state.clock_ns, ..Default::default() };
        self.machine.fd.set_clock(&clock).map_err(super::refused("clock_ns"))?;
        self.machine.restore_tsc(u64::from_le_bytes(tsc));
        Ok(())
    }
}

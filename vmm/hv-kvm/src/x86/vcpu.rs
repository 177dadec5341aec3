//! A vCPU: entering the guest, turning the kernel's exits into the seam's, and knowing what is still owed.

use std::io;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use kvm_bindings::{
    KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_INTR, KVM_EXIT_IO, KVM_EXIT_IRQ_WINDOW_OPEN,
    KVM_EXIT_MMIO, KVM_EXIT_SHUTDOWN, KVM_EXIT_SYSTEM_EVENT, KVM_INTERNAL_ERROR_DELIVERY_EV,
    KVM_INTERNAL_ERROR_EMULATION, KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN,
};
use kvm_ioctls::VcpuFd;
use supermachine_hv::x86::{self, CpuidLeaf};
use supermachine_hv::{Exit, Fault, HvError, Kick, Reply, UnboundVcpu, Vcpu, VcpuState};

use super::kick::Kicker;
use super::run_page::RunPage;
use super::transfer::Transfer;
use super::vm::Machine;
use super::{convert, cpuid, os, state, tsc};

/// A vCPU without a thread.
pub(super) struct KvmUnboundVcpu {
    parts: Parts,
}

/// A vCPU and its thread.
struct KvmVcpu {
    parts: Parts,
    /// The access the guest is in the middle of.
    transfer: Option<Transfer>,
    /// The kernel has I/O to finish at the next entry; until then the registers are not the guest's.
    owed: bool,
    /// An exit that turned up while finishing I/O for a save; the next `run` gives it.
    stash: Option<Exit>,
    _bound: PhantomData<*mut ()>,
}

struct Parts {
    fd: VcpuFd,
    page: Arc<RunPage>,
    kicker: Arc<Kicker>,
    cpuid: Vec<CpuidLeaf>,
    // Last: the guest's memory goes after the vCPU that runs on it.
    machine: Arc<Machine>,
}

/// What one `KVM_RUN` led to.
enum Entered {
    /// A signal or the run page's byte ended it; nothing is owed.
    Interrupted,
    /// An access to hand out.
    Access(Transfer),
    /// Anything else.
    Other(Exit),
}

impl KvmUnboundVcpu {
    pub(super) fn new(machine: Arc<Machine>, index: u32) -> Result<Self, HvError> {
        let fd = machine.fd.create_vcpu(index.into()).map_err(os("KVM_CREATE_VCPU"))?;
        let cpuid = cpuid::for_vcpu(&machine.host.cpuid, index, machine.vcpus);
        fd.set_cpuid2(&cpuid::for_kernel(&cpuid)?).map_err(os("KVM_SET_CPUID2"))?;
        machine.offer_tsc_offset(tsc::offset(&fd));
        let page = Arc::new(RunPage::map(&fd, machine.fd.run_size())?);
        let kicker = Arc::new(Kicker::new(Arc::clone(&page)));
        Ok(Self { parts: Parts { fd, page, kicker, cpuid, machine } })
    }
}

impl KvmUnboundVcpu {
    /// Gives a new vCPU the registers that `change` makes of its reset state: general, segment and control registers
    /// and XCR0. For the probe, which needs no more and whose caller waits.
    pub(super) fn start_at(&self, change: impl FnOnce(&mut x86::VcpuState)) -> Result<(), HvError> {
        let fd = &self.parts.fd;
        let sregs = convert::sregs_from_kernel(&fd.get_sregs().map_err(os("KVM_GET_SREGS"))?);
        let mut state = x86::VcpuState { sregs, xcr0: 1, ..Default::default() };
        change(&mut state);
        fd.set_sregs(&convert::sregs_to_kernel(&state.sregs)).map_err(os("KVM_SET_SREGS"))?;
        fd.set_regs(&convert::regs_to_kernel(&state.regs)).map_err(os("KVM_SET_REGS"))?;
        fd.set_xcrs(&convert::xcr0_to_kernel(state.xcr0)).map_err(os("KVM_SET_XCRS"))
    }
}

impl UnboundVcpu for KvmUnboundVcpu {
    fn kicker(&self) -> Arc<dyn Kick> {
        Arc::clone(&self.parts.kicker) as Arc<dyn Kick>
    }

    fn bind(self: Box<Self>) -> Result<Box<dyn Vcpu>, HvError> {
        self.parts.kicker.bind()?;
        Ok(Box::new(KvmVcpu { parts: self.parts, transfer: None, owed: false, stash: None, _bound: PhantomData }))
    }
}

impl Drop for KvmVcpu {
    fn drop(&mut self) {
        self.parts.kicker.unbind();
    }
}

impl Vcpu for KvmVcpu {
    fn run(&mut self) -> Result<Exit, HvError> {
        self.refuse_unanswered()?;
        if let Some(exit) = self.next_element().or_else(|| self.stash.take()) {
            return Ok(exit);
        }
        loop {
            match self.enter()? {
                Entered::Interrupted if self.parts.kicker.take() => return Ok(Exit::Kicked),
                Entered::Interrupted => {}
                Entered::Access(transfer) => {
                    self.transfer = Some(transfer);
                    if let Some(exit) = self.next_element() {
                        return Ok(exit);
                    }
                }
                Entered::Other(exit) => return Ok(exit),
            }
        }
    }

    fn complete(&mut self, reply: Reply) -> Result<(), HvError> {
        let Some(transfer) = self.transfer.as_mut().filter(|transfer| transfer.waits()) else {
            return Err(HvError::WrongReply { detail: "no exit waits for a reply" });
        };
        let Reply::Read(value) = reply else {
            return Err(HvError::WrongReply { detail: "a read waits, the reply is not data" });
        };
        transfer.answer(&self.parts.page, value);
        Ok(())
    }

    fn save(&mut self) -> Result<VcpuState, HvError> {
        self.settle()?;
        let Parts { fd, machine, cpuid, .. } = &self.parts;
        Ok(VcpuState::X86(Box::new(state::save(fd, machine, cpuid)?)))
    }

    fn restore(&mut self, state: &VcpuState) -> Result<(), HvError> {
        self.settle()?;
        let Parts { fd, machine, cpuid, .. } = &self.parts;
        let state = state::check(state, machine, cpuid, fd.get_tsc_khz().unwrap_or(0))?;
        state::restore(fd, machine, state)
    }
}

impl KvmVcpu {
    fn refuse_unanswered(&self) -> Result<(), HvError> {
        match self.transfer.as_ref().filter(|transfer| transfer.waits()) {
            Some(transfer) => Err(HvError::ExitInFlight { exit: transfer.name() }),
            None => Ok(()),
        }
    }

    fn next_element(&mut self) -> Option<Exit> {
        let exit = self.transfer.as_mut()?.next(&self.parts.page);
        if exit.is_none() {
            self.transfer = None;
        }
        exit
    }

    /// Makes the kernel finish the I/O it owes, without running the guest. Where that leads to another exit (the
    /// write of a read-modify-write), the next `run` gives it and this is refused until then.
    fn settle(&mut self) -> Result<(), HvError> {
        let unfinished = self.transfer.as_ref().filter(|transfer| transfer.waits() || !transfer.finished());
        if let Some(transfer) = unfinished {
            return Err(HvError::ExitInFlight { exit: transfer.name() });
        }
        if let Some(exit) = &self.stash {
            return Err(HvError::ExitInFlight { exit: exit.name() });
        }
        if !self.owed {
            return Ok(());
        }
        self.parts.kicker.hold_back();
        let entered = self.enter();
        self.parts.kicker.let_go();
        self.transfer = None;
        match entered? {
            Entered::Interrupted => Ok(()),
            Entered::Access(transfer) => {
                let exit = transfer.name();
                self.transfer = Some(transfer);
                Err(HvError::ExitInFlight { exit })
            }
            Entered::Other(exit) => {
                let name = exit.name();
                self.stash = Some(exit);
                Err(HvError::ExitInFlight { exit: name })
            }
        }
    }

    /// One `KVM_RUN`.
    fn enter(&mut self) -> Result<Entered, HvError> {
        let Parts { fd, page, .. } = &self.parts;
        if let Err(source) = page.enter(fd.as_raw_fd()) {
            // A vCPU that waits for its start-up interrupt comes back with EAGAIN after it.
            return match source.kind() {
                io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock => {
                    self.owed = false;
                    Ok(Entered::Interrupted)
                }
                _ => Err(HvError::Os { operation: "KVM_RUN", source }),
            };
        }
        let entered = decode(page);
        self.owed = matches!(entered, Entered::Access(_));
        Ok(entered)
    }
}

/// The kernel's exit in the seam's words.
fn decode(page: &RunPage) -> Entered {
    let internal = |detail: String| Entered::Other(Exit::Fault(Fault::Internal { detail }));
    match page.exit_reason() {
        KVM_EXIT_IO => Transfer::from_port(page.port(), page)
            .map_or_else(|| internal(format!("port exit {:?} makes no sense", page.port())), Entered::Access),
        KVM_EXIT_MMIO => Transfer::from_mmio(page.mmio())
            .map_or_else(|| internal(format!("memory exit {:?} makes no sense", page.mmio())), Entered::Access),
        KVM_EXIT_INTR | KVM_EXIT_IRQ_WINDOW_OPEN => Entered::Interrupted,
        KVM_EXIT_HLT => Entered::Other(Exit::Halted { deadline_ns: None }),
        KVM_EXIT_SHUTDOWN => Entered::Other(Exit::Fault(Fault::TripleFault)),
        KVM_EXIT_FAIL_ENTRY => {
            let reason = u64::from(page.record_u32(1)) << 32 | u64::from(page.record_u32(0));
            Entered::Other(Exit::Fault(Fault::EntryFailed { reason }))
        }
        KVM_EXIT_INTERNAL_ERROR => internal(internal_error(page)),
        KVM_EXIT_SYSTEM_EVENT => match page.record_u32(0) {
            KVM_SYSTEM_EVENT_SHUTDOWN => Entered::Other(Exit::PowerOff),
            KVM_SYSTEM_EVENT_RESET => Entered::Other(Exit::Reset),
            event => internal(format!("KVM system event {event}")),
        },
        reason => internal(format!("KVM exit reason {reason}")),
    }
}

fn internal_error(page: &RunPage) -> String {
    match page.record_u32(0) {
        KVM_INTERNAL_ERROR_EMULATION => "KVM cannot emulate an instruction of the guest".to_owned(),
        KVM_INTERNAL_ERROR_DELIVERY_EV => "KVM met an exit it cannot handle while delivering an event".to_owned(),
        suberror => format!("KVM internal error {suberror}"),
    }
}

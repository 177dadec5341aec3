//! The vCPU loop: one thread each, exits carried to the buses, everything else reported.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use supermachine_hv::{Exit, Fault, HvError, Reply, UnboundVcpu, Vcpu};

use crate::boot::{self, Entry};
use crate::bus::{Bus, Request};
use crate::gate::{Gate, Passage};

/// Why a vCPU will not run again.
#[derive(Debug)]
pub enum VcpuEnd {
    /// The guest reset or powered off the machine: for a microVM both are its end.
    GuestReset,
    /// The guest's state went beyond repair.
    Fault(Fault),
    /// The back end failed.
    Hypervisor(HvError),
}

/// Counters of one vCPU, read by other threads.
#[derive(Debug, Default)]
pub struct Counters {
    /// Exits that the vmm handled.
    pub exits: AtomicU64,
    /// CPU time of the thread in nanoseconds, as of the last kick.
    pub cpu_ns: AtomicU64,
}

/// What a vCPU thread works with.
pub struct Worker {
    /// Index of the vCPU.
    pub index: u32,
    /// Where the boot CPU starts; none for the others.
    pub entry: Option<Entry>,
    /// Memory-mapped devices.
    pub mmio: Arc<Bus>,
    /// Port devices.
    pub pio: Arc<Bus>,
    /// Pause and stop.
    pub gate: Arc<Gate>,
    /// Counters.
    pub counters: Arc<Counters>,
    /// Called once, from the vCPU's thread, if the vCPU ends by itself.
    pub report: Box<dyn FnOnce(VcpuEnd) + Send>,
}

/// Starts the thread of one vCPU.
///
/// # Errors
/// The host has no thread to give.
pub fn spawn(vcpu: Box<dyn UnboundVcpu>, worker: Worker) -> io::Result<thread::JoinHandle<()>> {
    worker.gate.enter(vcpu.kicker());
    let gate = worker.gate.clone();
    let started = thread::Builder::new().name(format!("vcpu-{}", worker.index)).spawn(move || worker.work(vcpu));
    if started.is_err() {
        gate.leave();
    }
    started
}

impl Worker {
    fn work(self, vcpu: Box<dyn UnboundVcpu>) {
        let end = self.start(vcpu).unwrap_or_else(|error| Some(VcpuEnd::Hypervisor(error)));
        self.gate.leave();
        if let Some(end) = end {
            (self.report)(end);
        }
    }

    /// `None` where the gate stopped the vCPU.
    fn start(&self, vcpu: Box<dyn UnboundVcpu>) -> Result<Option<VcpuEnd>, HvError> {
        let mut vcpu = vcpu.bind()?;
        if let Some(entry) = self.entry {
            let reset = vcpu.save()?;
            vcpu.restore(&boot::boot_state(reset, entry))?;
        }
        while self.gate.pass() == Passage::Run {
            if let Some(end) = self.step(vcpu.as_mut())? {
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    /// Runs to the next exit and answers it.
    fn step(&self, vcpu: &mut dyn Vcpu) -> Result<Option<VcpuEnd>, HvError> {
        let mut asked = Request::None;
        match vcpu.run()? {
            Exit::MmioRead { gpa, size } => vcpu.complete(Reply::Read(self.mmio.read(gpa, size)))?,
            Exit::MmioWrite { gpa, size, value } => asked = self.mmio.write(gpa, size, value),
            Exit::PioRead { port, size } => vcpu.complete(Reply::Read(self.pio.read(port.into(), size)))?,
            Exit::PioWrite { port, size, value } => asked = self.pio.write(port.into(), size, value.into()),
            // No hypercall is offered to x86 guests; the convention for an unknown one is -1000 (ENOSYS of KVM).
            Exit::Hypercall { .. } => vcpu.complete(Reply::Hypercall((-1000i64).cast_unsigned()))?,
            // Back ends without an interrupt controller inside wait here for a kick; both of ours have one, so a halt
            // that comes out means that nothing can wake the guest.
            Exit::Halted { .. } | Exit::Reset | Exit::PowerOff => return Ok(Some(VcpuEnd::GuestReset)),
            Exit::Kicked => self.counters.cpu_ns.store(thread_cpu_ns(), Ordering::Relaxed),
            Exit::Fault(fault) => return Ok(Some(VcpuEnd::Fault(fault))),
        }
        self.counters.exits.fetch_add(1, Ordering::Relaxed);
        Ok((asked == Request::Reset).then_some(VcpuEnd::GuestReset))
    }
}

/// CPU time of the calling thread in nanoseconds.
fn thread_cpu_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID);
    now.map_or(0, |time| u64::try_from(std::time::Duration::from(time).as_nanos()).unwrap_or(u64::MAX))
}

//! The vCPU loop: one thread each, exits carried to the buses, everything else reported.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::thread;

use supermachine_hv::{Exit, Fault, HvError, Reply, UnboundVcpu, Vcpu, VcpuState};

use crate::boot::{self, Entry};
use crate::bus::{Bus, Request};
use crate::gate::{Gate, Passage, Passer, Seen};
use crate::kept::Keeper;

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
    /// CPU time of the thread in nanoseconds, as of the last sample.
    pub cpu_ns: AtomicU64,
}

/// What a vCPU starts from.
pub enum Start {
    /// The kernel's entry point: the boot CPU of a new machine.
    Entry(Entry),
    /// The reset state: the other CPUs of a new machine, until the boot CPU starts them.
    Reset,
    /// A saved state. How that went is told before the first run: no vCPU may run while another is not yet restored,
    /// for an interrupt that one sends would be lost to the other.
    Saved {
        /// Untrusted.
        state: Box<VcpuState>,
        /// Where to tell.
        restored: Sender<Result<(), HvError>>,
    },
}

/// What a vCPU thread works with.
pub struct Worker {
    /// Index of the vCPU.
    pub index: u32,
    /// Where it begins.
    pub start: Start,
    /// Memory-mapped devices.
    pub mmio: Arc<Bus>,
    /// Port devices.
    pub pio: Arc<Bus>,
    /// Pause and stop.
    pub gate: Arc<Gate>,
    /// Counters.
    pub counters: Arc<Counters>,
    /// Of a machine from a snapshot: what is kept beside that.
    pub keeper: Option<Arc<Keeper>>,
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

/// A vCPU on its thread.
struct Running<'a> {
    vcpu: Box<dyn Vcpu>,
    /// Whether the last exit was a kick, or there was none.
    at_rest: bool,
    counters: &'a Counters,
}

impl Passer for Running<'_> {
    fn sample(&self) {
        self.counters.cpu_ns.store(thread_cpu_ns(), Ordering::Relaxed);
    }

    fn at_rest(&self) -> bool {
        self.at_rest
    }

    fn save(&mut self) -> Result<VcpuState, HvError> {
        self.vcpu.save()
    }
}

impl Worker {
    fn work(mut self, vcpu: Box<dyn UnboundVcpu>) {
        let start = std::mem::replace(&mut self.start, Start::Reset);
        let end = match begin(vcpu, start) {
            Ok(Some(vcpu)) => self.run(vcpu).unwrap_or_else(|error| Some(VcpuEnd::Hypervisor(error))),
            Ok(None) => None,
            Err(error) => Some(VcpuEnd::Hypervisor(error)),
        };
        self.gate.leave();
        if let Some(end) = end {
            (self.report)(end);
        }
    }

    /// `None` where the gate stopped the vCPU: most machines from a snapshot end so.
    fn run(&self, vcpu: Box<dyn Vcpu>) -> Result<Option<VcpuEnd>, HvError> {
        let mut running = Running { vcpu, at_rest: true, counters: &self.counters };
        let mut seen = Seen::default();
        if let Some(keeper) = &self.keeper {
            keeper.recall(self.index, running.vcpu.as_mut());
            while self.gate.is_shut() && running.vcpu.ahead() {}
        }
        while self.gate.pass(self.index, &mut seen, &mut running) == Passage::Run {
            let exit = running.vcpu.run()?;
            running.at_rest = exit == Exit::Kicked;
            if let Some(end) = self.answer(running.vcpu.as_mut(), exit)? {
                return Ok(Some(end));
            }
        }
        if let Some(keeper) = &self.keeper {
            keeper.keep(self.index, running.vcpu.as_ref());
        }
        Ok(None)
    }

    /// Answers an exit.
    fn answer(&self, vcpu: &mut dyn Vcpu, exit: Exit) -> Result<Option<VcpuEnd>, HvError> {
        let mut asked = Request::None;
        match exit {
            Exit::MmioRead { gpa, size } => vcpu.complete(Reply::Read(self.mmio.read(gpa, size)))?,
            Exit::MmioWrite { gpa, size, value } => asked = self.mmio.write(gpa, size, value),
            Exit::PioRead { port, size } => vcpu.complete(Reply::Read(self.pio.read(port.into(), size)))?,
            Exit::PioWrite { port, size, value } => asked = self.pio.write(port.into(), size, value.into()),
            // No hypercall is offered to x86 guests; the convention for an unknown one is -1000 (ENOSYS of KVM).
            Exit::Hypercall { .. } => vcpu.complete(Reply::Hypercall((-1000i64).cast_unsigned()))?,
            // Back ends without an interrupt controller inside wait here for a kick; both of ours have one, so a halt
            // that comes out means that nothing can wake the guest.
            Exit::Halted { .. } | Exit::Reset | Exit::PowerOff => return Ok(Some(VcpuEnd::GuestReset)),
            // Whoever kicked waits at the gate.
            Exit::Kicked => {}
            Exit::Fault(fault) => return Ok(Some(VcpuEnd::Fault(fault))),
        }
        self.counters.exits.fetch_add(1, Ordering::Relaxed);
        Ok((asked == Request::Reset).then_some(VcpuEnd::GuestReset))
    }
}

/// A vCPU bound to the calling thread, in the state to start from; none if whoever waits for that was told of a failure.
fn begin(vcpu: Box<dyn UnboundVcpu>, start: Start) -> Result<Option<Box<dyn Vcpu>>, HvError> {
    let (state, restored) = match start {
        Start::Saved { state, restored } => (state, restored),
        Start::Reset => return vcpu.bind().map(Some),
        Start::Entry(entry) => {
            let mut vcpu = vcpu.bind()?;
            let reset = vcpu.save()?;
            vcpu.restore(&boot::boot_state(reset, entry))?;
            return Ok(Some(vcpu));
        }
    };
    let begun = vcpu.bind().and_then(|mut vcpu| vcpu.restore(&state).map(|()| vcpu));
    let (told, vcpu) = match begun {
        Ok(vcpu) => (restored.send(Ok(())), Some(vcpu)),
        Err(error) => (restored.send(Err(error)), None),
    };
    // Without a listener the machine was given up.
    Ok(vcpu.filter(|_| told.is_ok()))
}

/// CPU time of the calling thread in nanoseconds.
fn thread_cpu_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID);
    now.map_or(0, |time| u64::try_from(std::time::Duration::from(time).as_nanos()).unwrap_or(u64::MAX))
}

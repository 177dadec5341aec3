//! A back end whose machines are saved, thrown away and made anew all the time, while the vmm around them notices
//! nothing: the soft back end behind the seam's own traits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use supermachine_hv::{
    Capabilities, Exit, GuestMemory, HvError, Hypervisor, Kept, Kick, Reply, UnboundVcpu, Vcpu, VcpuState, Vm,
    VmConfig, VmState,
};
use supermachine_hv_soft::SoftHypervisor;

/// Longest time from a machine's start to its end.
const LONGEST_NS: u64 = 3_000_000;
/// Of how many exits one is a cut.
const EXITS_PER_CUT: u64 = 256;
/// Of how many cuts one goes through JSON, as a snapshot's states do.
const JSON_EVERY: u32 = 3;
/// Of how many cuts one has its decoded code kept, for all machines after it.
const KEPT_EVERY: u32 = 8;
/// Data register of the serial port.
const SERIAL: u16 = 0x3f8;

/// What happened, for the test to look at.
#[derive(Debug, Default, Clone)]
pub(crate) struct Record {
    /// Everything that the guest wrote to the serial port.
    pub(crate) console: Vec<u8>,
    /// Cuts where guest code was interrupted.
    pub(crate) kicks: u32,
    /// Cuts after an exit.
    pub(crate) exits: u32,
    /// Exits after which the vCPU was in the middle of something and could not be saved.
    pub(crate) refused: u32,
    /// How often decoded code was kept.
    pub(crate) kept: u32,
}

impl Record {
    pub(crate) fn cuts(&self) -> u32 {
        self.kicks + self.exits
    }
}

/// Random numbers (SplitMix64).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % limit
    }
}

/// See the module.
pub(crate) struct Cutting {
    /// Where the cuts fall; none where there are to be none.
    pub(crate) random: Option<Random>,
    pub(crate) record: Arc<Mutex<Record>>,
}

impl Hypervisor for Cutting {
    fn capabilities(&self) -> Capabilities {
        SoftHypervisor::default().capabilities()
    }

    fn create_vm(&self, config: VmConfig) -> Result<Arc<dyn Vm>, HvError> {
        let memory = config.memory.clone();
        let now = Arc::new(RwLock::new(SoftHypervisor::default().create_vm(config)?));
        Ok(Arc::new(CutVm { now, memory, random: self.random, record: self.record.clone() }))
    }
}

/// A machine that is another one each time one looks.
struct CutVm {
    now: Arc<RwLock<Arc<dyn Vm>>>,
    memory: GuestMemory,
    random: Option<Random>,
    record: Arc<Mutex<Record>>,
}

impl CutVm {
    fn now(&self) -> Arc<dyn Vm> {
        self.now.read().expect("nobody panics with the lock").clone()
    }
}

impl Vm for CutVm {
    fn create_vcpu(&self, index: u32) -> Result<Box<dyn UnboundVcpu>, HvError> {
        let inner = self.now().create_vcpu(index)?;
        let current = Arc::new(Mutex::new(inner.kicker()));
        let kick = Arc::new(OuterKick { asked: AtomicBool::new(false), due: AtomicBool::new(false), current });
        let (vm, memory, record) = (self.now.clone(), self.memory.clone(), self.record.clone());
        Ok(Box::new(CutUnbound { inner, kick, vm, memory, random: self.random, record }))
    }

    fn set_irq_line(&self, gsi: u32, level: bool) -> Result<(), HvError> {
        // The lock is held until the interrupt is on its way: a machine at rest gets none.
        self.now.read().expect("nobody panics with the lock").set_irq_line(gsi, level)
    }

    fn save(&self) -> Result<VmState, HvError> {
        self.now().save()
    }

    fn restore(&self, state: &VmState) -> Result<(), HvError> {
        self.now().restore(state)
    }
}

/// Kicks whichever machine is the present one: for the vmm, and for the alarm.
struct OuterKick {
    /// The vmm asked.
    asked: AtomicBool,
    /// It is time for a cut.
    due: AtomicBool,
    current: Arc<Mutex<Arc<dyn Kick>>>,
}

impl Kick for OuterKick {
    fn kick(&self) {
        self.asked.store(true, Ordering::SeqCst);
        self.current.lock().expect("nobody panics with the lock").kick();
    }
}

struct CutUnbound {
    inner: Box<dyn UnboundVcpu>,
    kick: Arc<OuterKick>,
    vm: Arc<RwLock<Arc<dyn Vm>>>,
    memory: GuestMemory,
    random: Option<Random>,
    record: Arc<Mutex<Record>>,
}

impl UnboundVcpu for CutUnbound {
    fn kicker(&self) -> Arc<dyn Kick> {
        self.kick.clone()
    }

    fn bind(self: Box<Self>) -> Result<Box<dyn Vcpu>, HvError> {
        let CutUnbound { inner, kick, vm, memory, random, record } = *self;
        let cuts = random.map(|random| (random, start_alarm(kick.clone())));
        let mut vcpu = CutVcpu { inner: inner.bind()?, kick, vm, memory, cuts, record, kept: None };
        vcpu.set_alarm();
        Ok(Box::new(vcpu))
    }
}

/// A thread that kicks whatever machine there is, each time after the delay that it is sent; ends with the sender.
fn start_alarm(kick: Arc<OuterKick>) -> Sender<Instant> {
    let (alarm, times) = channel::<Instant>();
    thread::spawn(move || {
        for time in times {
            // The only way to wait for a time that is no event's.
            while let Some(left) = time.checked_duration_since(Instant::now()) {
                thread::park_timeout(left);
            }
            kick.due.store(true, Ordering::SeqCst);
            kick.current.lock().expect("nobody panics with the lock").kick();
        }
    });
    alarm
}

struct CutVcpu {
    inner: Box<dyn Vcpu>,
    kick: Arc<OuterKick>,
    vm: Arc<RwLock<Arc<dyn Vm>>>,
    memory: GuestMemory,
    cuts: Option<(Random, Sender<Instant>)>,
    record: Arc<Mutex<Record>>,
    /// Decoded code of an earlier machine.
    kept: Option<Kept>,
}

impl CutVcpu {
    fn set_alarm(&mut self) {
        if let Some((random, alarm)) = &mut self.cuts {
            let delay = Duration::from_nanos(random.below(LONGEST_NS));
            alarm.send(Instant::now() + delay).expect("the alarm lives");
        }
    }

    /// Goes on in a new machine over the same memory. After a kick that must be possible.
    fn cut(&mut self, kicked: bool) -> Result<(), HvError> {
        let mut now = self.vm.write().expect("nobody panics with the lock");
        let mut record = self.record.lock().expect("nobody panics with the lock");
        let vcpu_state = match self.inner.save() {
            Err(HvError::ExitInFlight { .. }) if !kicked => {
                record.refused += 1;
                return Ok(());
            }
            other => other?,
        };
        let (vm_state, vcpu_state) = through_json(record.cuts(), now.save()?, vcpu_state);
        let vm = SoftHypervisor::default().create_vm(VmConfig { memory: self.memory.clone(), vcpus: 1 })?;
        let vcpu = vm.create_vcpu(0)?;
        *self.kick.current.lock().expect("nobody panics with the lock") = vcpu.kicker();
        let mut vcpu = vcpu.bind()?;
        vm.restore(&vm_state)?;
        vcpu.restore(&vcpu_state)?;
        if record.cuts().is_multiple_of(KEPT_EVERY)
            && let Some(kept) = self.inner.keep(1, &|_| true)
        {
            self.kept = Some(Arc::new(kept));
            record.kept += 1;
        }
        if let Some(kept) = &self.kept {
            vcpu.recall(kept.clone());
        }
        (self.inner, *now) = (vcpu, vm);
        *(if kicked { &mut record.kicks } else { &mut record.exits }) += 1;
        Ok(())
    }
}

fn through_json(number: u32, vm: VmState, vcpu: VcpuState) -> (VmState, VcpuState) {
    if !number.is_multiple_of(JSON_EVERY) {
        return (vm, vcpu);
    }
    let vm = serde_json::to_string(&vm).expect("a machine's state is data");
    let vcpu = serde_json::to_string(&vcpu).expect("a vCPU's state is data");
    (serde_json::from_str(&vm).expect("and back"), serde_json::from_str(&vcpu).expect("and back"))
}

impl Vcpu for CutVcpu {
    fn run(&mut self) -> Result<Exit, HvError> {
        if self.cuts.as_mut().is_some_and(|(random, _)| random.below(EXITS_PER_CUT) == 0) {
            self.cut(false)?;
        }
        loop {
            if self.kick.asked.swap(false, Ordering::SeqCst) {
                return Ok(Exit::Kicked);
            }
            // A kick that the machine before this one took with it.
            if self.kick.due.swap(false, Ordering::SeqCst) {
                self.cut(false)?;
                self.set_alarm();
            }
            match self.inner.run()? {
                Exit::Kicked if self.kick.due.swap(false, Ordering::SeqCst) => {
                    self.cut(true)?;
                    self.set_alarm();
                }
                Exit::Kicked => {}
                exit => {
                    if let Exit::PioWrite { port: SERIAL, value, .. } = exit {
                        self.record.lock().expect("nobody panics with the lock").console.push(value as u8);
                    }
                    return Ok(exit);
                }
            }
        }
    }

    fn complete(&mut self, reply: Reply) -> Result<(), HvError> {
        self.inner.complete(reply)
    }

    fn save(&mut self) -> Result<VcpuState, HvError> {
        self.inner.save()
    }

    fn restore(&mut self, state: &VcpuState) -> Result<(), HvError> {
        self.inner.restore(state)
    }
}

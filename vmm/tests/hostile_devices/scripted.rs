//! A back end whose vCPU runs no code: it makes the exits of a script, as fast as the vmm answers them. Interrupts go to
//! the soft back end's controllers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use supermachine_hv::{
    Capabilities, Exit, GuestMemory, HvError, Hypervisor, Kick, Reply, UnboundVcpu, Vcpu, VcpuState, Vm, VmConfig,
    VmState,
};
use supermachine_hv_soft::SoftHypervisor;

/// What the guest does: exits in bursts, until there are no more.
pub(crate) trait Script: Send {
    /// The next exits; none is the guest's end.
    fn burst(&mut self, memory: &GuestMemory, out: &mut VecDeque<Exit>);
    /// The value that a read gave.
    fn answer(&mut self, exit: &Exit, value: u64);
}

/// Makes one guest's script; taken by its only vCPU.
pub(crate) type NewScript = Arc<dyn Fn() -> Box<dyn Script> + Send + Sync>;

/// See the module.
pub(crate) struct Scripted(pub(crate) NewScript);

impl Hypervisor for Scripted {
    fn capabilities(&self) -> Capabilities {
        SoftHypervisor::default().capabilities()
    }

    fn create_vm(&self, config: VmConfig) -> Result<Arc<dyn Vm>, HvError> {
        let memory = config.memory.clone();
        let inner = SoftHypervisor::default().create_vm(config)?;
        Ok(Arc::new(ScriptedVm { inner, memory, script: self.0.clone() }))
    }
}

struct ScriptedVm {
    inner: Arc<dyn Vm>,
    memory: GuestMemory,
    script: NewScript,
}

impl Vm for ScriptedVm {
    fn create_vcpu(&self, index: u32) -> Result<Box<dyn UnboundVcpu>, HvError> {
        let inner = self.inner.create_vcpu(index)?;
        let (memory, script) = (self.memory.clone(), (self.script)());
        Ok(Box::new(ScriptedUnbound { inner, memory, script, kick: Arc::default() }))
    }

    fn set_irq_line(&self, gsi: u32, level: bool) -> Result<(), HvError> {
        self.inner.set_irq_line(gsi, level)
    }

    fn save(&self) -> Result<VmState, HvError> {
        self.inner.save()
    }

    fn restore(&self, state: &VmState) -> Result<(), HvError> {
        self.inner.restore(state)
    }
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Kick for Flag {
    fn kick(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct ScriptedUnbound {
    inner: Box<dyn UnboundVcpu>,
    memory: GuestMemory,
    script: Box<dyn Script>,
    kick: Arc<Flag>,
}

impl UnboundVcpu for ScriptedUnbound {
    fn kicker(&self) -> Arc<dyn Kick> {
        self.kick.clone()
    }

    fn bind(self: Box<Self>) -> Result<Box<dyn Vcpu>, HvError> {
        let ScriptedUnbound { inner, memory, script, kick } = *self;
        Ok(Box::new(ScriptedVcpu { inner: inner.bind()?, memory, script, kick, todo: VecDeque::new(), waiting: None }))
    }
}

struct ScriptedVcpu {
    inner: Box<dyn Vcpu>,
    memory: GuestMemory,
    script: Box<dyn Script>,
    kick: Arc<Flag>,
    todo: VecDeque<Exit>,
    waiting: Option<Exit>,
}

impl Vcpu for ScriptedVcpu {
    fn run(&mut self) -> Result<Exit, HvError> {
        if self.kick.0.swap(false, Ordering::SeqCst) {
            return Ok(Exit::Kicked);
        }
        if let Some(exit) = &self.waiting {
            return Err(HvError::ExitInFlight { exit: exit.name() });
        }
        if self.todo.is_empty() {
            self.script.burst(&self.memory, &mut self.todo);
        }
        let exit = self.todo.pop_front().unwrap_or(Exit::PowerOff);
        self.waiting = exit.needs_reply().then(|| exit.clone());
        Ok(exit)
    }

    fn complete(&mut self, reply: Reply) -> Result<(), HvError> {
        match (self.waiting.take(), reply) {
            (Some(exit), Reply::Read(value) | Reply::Hypercall(value)) => {
                self.script.answer(&exit, value);
                Ok(())
            }
            (None, _) => Err(HvError::WrongReply { detail: "no exit waits" }),
        }
    }

    fn save(&mut self) -> Result<VcpuState, HvError> {
        self.inner.save()
    }

    fn restore(&mut self, state: &VcpuState) -> Result<(), HvError> {
        self.inner.restore(state)
    }
}

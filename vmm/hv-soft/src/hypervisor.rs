//! The seam's traits over the engine.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use supermachine_hv::x86::RunState;
use supermachine_hv::{
    Capabilities, ChipState, Exit, HvError, Hypervisor, HypervisorKind, Idle, Kept, Kick, Reply, UnboundVcpu, Vcpu,
    VcpuState, Vm, VmConfig, VmState,
};

use crate::chips::ioapic::{IoApic, PINS};
use crate::chips::legacy::Legacy;
use crate::chips::shared::{Board, Shared};
use crate::cpu::Cpu;
use crate::cpuid::Model;
use crate::engine::Engine;
use crate::mem::Ram;

/// vCPUs in one machine.
const MAX_VCPUS: u32 = 1;
/// Names of the chips in a saved machine.
const IOAPIC: &str = "ioapic";
const LEGACY: &str = "legacy";
/// The time-stamp counter at the time of [`VmState::clock_ns`].
const TSC: &str = "tsc";

/// The soft back end. Needs nothing from the host but memory and a clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SoftHypervisor {
    model: Model,
}

impl SoftHypervisor {
    /// A back end whose guests see this CPU model.
    pub fn new(model: Model) -> Self {
        SoftHypervisor { model }
    }
}

fn too_many(what: &'static str, asked: u64, limit: u64) -> HvError {
    HvError::Limit { kind: HypervisorKind::Soft, what, asked, limit }
}

impl Hypervisor for SoftHypervisor {
    fn capabilities(&self) -> Capabilities {
        Capabilities { kind: HypervisorKind::Soft, cpu_model: self.model.name().to_owned(), max_vcpus: MAX_VCPUS }
    }

    fn create_vm(&self, config: VmConfig) -> Result<Arc<dyn Vm>, HvError> {
        if config.vcpus > MAX_VCPUS {
            return Err(too_many("vCPUs", config.vcpus.into(), MAX_VCPUS.into()));
        }
        let ram = Ram::new(config.memory)?;
        Ok(Arc::new(SoftVm { board: Board::new(), ram: Mutex::new(Some(ram)), model: self.model }))
    }
}

struct SoftVm {
    board: Arc<Board>,
    /// Goes to the vCPU when that is made.
    ram: Mutex<Option<Ram>>,
    model: Model,
}

impl Vm for SoftVm {
    fn create_vcpu(&self, index: u32) -> Result<Box<dyn UnboundVcpu>, HvError> {
        let mut ram = self.ram.lock().unwrap_or_else(PoisonError::into_inner);
        if index >= MAX_VCPUS {
            return Err(too_many("vCPU index", index.into(), u64::from(MAX_VCPUS) - 1));
        }
        let Some(ram) = ram.take() else {
            return Err(too_many("vCPUs of index 0", 2, 1));
        };
        let shared = self.board.add_vcpu();
        let cpu = Cpu::new(ram, shared.clone(), index, self.model);
        Ok(Box::new(SoftUnbound { cpu, shared }))
    }

    fn set_irq_line(&self, gsi: u32, level: bool) -> Result<(), HvError> {
        if gsi as usize >= PINS {
            return Err(too_many("interrupt line", gsi.into(), PINS as u64 - 1));
        }
        self.board.set_line(gsi, level);
        Ok(())
    }

    fn save(&self) -> Result<VmState, HvError> {
        let chip = |name: &str, bytes| ChipState { name: name.to_owned(), bytes };
        let (tsc, clock_ns) = self.board.clock.now();
        let (ioapic, legacy) = (self.board.ioapic().save(), self.board.legacy().save());
        let chips = vec![chip(IOAPIC, ioapic), chip(LEGACY, legacy), chip(TSC, tsc.to_le_bytes().to_vec())];
        Ok(VmState { chips, clock_ns })
    }

    fn restore(&self, state: &VmState) -> Result<(), HvError> {
        let bad = |problem: String| HvError::BadState { field: "chips", problem };
        let bytes = |name: &str| {
            let mut found = state.chips.iter().filter(|c| c.name == name);
            match (found.next(), found.next()) {
                (Some(c), None) => Ok(&c.bytes),
                _ => Err(bad(format!("chip {name} is not there exactly once"))),
            }
        };
        if let Some(c) = state.chips.iter().find(|c| ![IOAPIC, LEGACY, TSC].contains(&c.name.as_str())) {
            return Err(bad(format!("chip {:?} does not exist here", c.name)));
        }
        let size = |name: &str| bad(format!("chip {name} has the wrong length"));
        let ioapic = IoApic::load(bytes(IOAPIC)?).ok_or_else(|| size(IOAPIC))?;
        let legacy = Legacy::load(bytes(LEGACY)?).ok_or_else(|| size(LEGACY))?;
        let tsc = bytes(TSC)?.as_slice().try_into().map_err(|_| size(TSC))?;
        *self.board.ioapic() = ioapic;
        *self.board.legacy() = legacy;
        self.board.clock.restore(u64::from_le_bytes(tsc), state.clock_ns);
        self.board.device_activity();
        Ok(())
    }

    fn skip_idle(&self, within: Duration, patience: Duration) -> Idle {
        self.board.skip_idle(within, patience)
    }
}

struct SoftUnbound {
    cpu: Box<Cpu>,
    shared: Arc<Shared>,
}

impl UnboundVcpu for SoftUnbound {
    fn kicker(&self) -> Arc<dyn Kick> {
        Arc::new(SoftKick(self.shared.clone()))
    }

    fn bind(self: Box<Self>) -> Result<Box<dyn Vcpu>, HvError> {
        Ok(Box::new(SoftVcpu { engine: Engine::new(self.cpu, RunState::Runnable), _not_send: PhantomData }))
    }
}

struct SoftKick(Arc<Shared>);

impl Kick for SoftKick {
    fn kick(&self) {
        self.0.kick();
    }
}

struct SoftVcpu {
    engine: Engine,
    _not_send: PhantomData<*const ()>,
}

impl Drop for SoftVcpu {
    fn drop(&mut self) {
        let (adopted, decoded) = self.engine.kept_and_decoded();
        log::info!(
            "soft vCPU ran about {} guest instructions; {adopted} ops were kept, {decoded} decoded",
            self.engine.instructions
        );
    }
}

impl Vcpu for SoftVcpu {
    fn run(&mut self) -> Result<Exit, HvError> {
        self.engine.run()
    }

    fn complete(&mut self, reply: Reply) -> Result<(), HvError> {
        self.engine.complete(reply)
    }

    fn save(&mut self) -> Result<VcpuState, HvError> {
        Ok(VcpuState::X86(Box::new(self.engine.save()?)))
    }

    fn restore(&mut self, state: &VcpuState) -> Result<(), HvError> {
        match state {
            VcpuState::X86(s) => self.engine.restore(s),
            _ => Err(HvError::BadState { field: "architecture", problem: "is not x86-64".to_owned() }),
        }
    }

    fn recall(&mut self, kept: Kept) {
        self.engine.recall(kept);
    }

    fn ahead(&mut self) -> bool {
        self.engine.ahead()
    }

    fn keep(&self, least: usize, unchanged: &dyn Fn(u64) -> bool) -> Option<Vec<u8>> {
        self.engine.keep(least, unchanged)
    }
}

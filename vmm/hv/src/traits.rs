//! The three traits of the seam and the two small types around them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{Exit, HvError, Reply, VcpuState, VmState};

/// Guest RAM as this process maps it. Cloning is cheap: regions are reference counted.
pub type GuestMemory = vm_memory::GuestMemoryMmap<()>;

/// What a back end keeps of a vCPU besides its state, to be faster when that state is restored again: a mapped file, most
/// often.
pub type Kept = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// The back ends there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HypervisorKind {
    /// Linux `/dev/kvm`.
    Kvm,
    /// Hypervisor.framework on Apple silicon.
    Hvf,
    /// The CPU emulator in this process.
    Soft,
}

impl fmt::Display for HypervisorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HypervisorKind::Kvm => "kvm",
            HypervisorKind::Hvf => "hvf",
            HypervisorKind::Soft => "soft",
        })
    }
}

/// What a back end can do on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// Which back end this is.
    pub kind: HypervisorKind,
    /// Name of the CPU model that guests see; part of a snapshot's key.
    pub cpu_model: String,
    /// Most vCPUs in one machine.
    pub max_vcpus: u32,
}

/// What a machine is made of before it has vCPUs.
pub struct VmConfig {
    /// All guest RAM. Mapped for the life of the machine; no address outside it reaches host memory.
    pub memory: GuestMemory,
    /// Number of vCPUs that [`Vm::create_vcpu`] will be asked for, indices `0..vcpus`.
    pub vcpus: u32,
}

/// A back end. Making one is the back end's own constructor; it proves that the host can be used at all.
pub trait Hypervisor: Send + Sync {
    /// Limits and names; constant for the life of the object.
    fn capabilities(&self) -> Capabilities;

    /// Makes a machine with its interrupt controllers in their reset state.
    ///
    /// # Errors
    /// [`HvError::Limit`] for too many vCPUs, [`HvError::Os`] where the host refuses.
    fn create_vm(&self, config: VmConfig) -> Result<Arc<dyn Vm>, HvError>;
}

/// One virtual machine: memory, interrupt controllers and clocks, everything that is not a vCPU.
///
/// All methods may be called from any thread.
pub trait Vm: Send + Sync {
    /// Makes vCPU `index`; each index once, before any vCPU runs.
    fn create_vcpu(&self, index: u32) -> Result<Box<dyn UnboundVcpu>, HvError>;

    /// Sets the level of interrupt line `gsi` (x86: an IOAPIC pin). An edge is a call with `true` and then `false`.
    ///
    /// Safe to call while vCPUs run; wakes a vCPU that sleeps in a halt.
    fn set_irq_line(&self, gsi: u32, level: bool) -> Result<(), HvError>;

    /// Interrupt controllers and clock. Every vCPU must be out of [`Vcpu::run`].
    fn save(&self) -> Result<VmState, HvError>;

    /// Puts back what [`save`](Vm::save) gave, before any vCPU's state is restored. The state is untrusted.
    fn restore(&self, state: &VmState) -> Result<(), HvError>;

    /// Waits, for `patience` at most, until every vCPU is in a halt inside its `run`; then, if the first of their timers
    /// is at most `within` away, moves all clocks of the guest on to it, so that the guest's idle time is over at once.
    fn skip_idle(&self, within: Duration, patience: Duration) -> Idle {
        let _ = (within, patience);
        Idle::Untold
    }
}

/// What [`Vm::skip_idle`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// The back end is not told of halts, or its guests' time is the host's.
    Untold,
    /// A vCPU did not come to a halt in time.
    Busy,
    /// Every vCPU waits in a halt, and none of their timers is as near as that.
    Quiet,
    /// Every vCPU waited in a halt, the first of their timers was this far away, and for the guest that time is over.
    Passed(Duration),
}

/// A vCPU that no thread owns yet.
pub trait UnboundVcpu: Send {
    /// A handle that interrupts this vCPU's `run` from any thread, valid for the life of the handle.
    fn kicker(&self) -> Arc<dyn Kick>;

    /// Ties the vCPU to the calling thread; the result cannot leave it (it is not [`Send`]).
    fn bind(self: Box<Self>) -> Result<Box<dyn Vcpu>, HvError>;
}

/// Interrupts a running vCPU.
pub trait Kick: Send + Sync {
    /// Makes the current or, if none is under way, the next [`Vcpu::run`] return [`Exit::Kicked`].
    ///
    /// Kicks do not add up: one `Kicked` answers all kicks before it.
    fn kick(&self);
}

/// A vCPU bound to its thread.
pub trait Vcpu {
    /// Runs guest code until something needs the vmm. A halt waits inside for an interrupt or a kick where the
    /// back end can (KVM with its own irqchip, soft), else gives [`Exit::Halted`].
    ///
    /// # Errors
    /// [`HvError::ExitInFlight`] while an exit that [needs a reply](Exit::needs_reply) has none.
    fn run(&mut self) -> Result<Exit, HvError>;

    /// Answers the exit that waits. The effect on the guest (the register that is loaded) may happen at the next
    /// `run` or `save`, never before this returns and never not at all.
    ///
    /// # Errors
    /// [`HvError::WrongReply`] where nothing waits or the reply is of another kind.
    fn complete(&mut self, reply: Reply) -> Result<(), HvError>;

    /// The whole state of this vCPU, with no exit in flight.
    ///
    /// After [`Exit::Kicked`] it is never refused. After another exit, finishing what the guest was in the middle
    /// of may make one more exit (the write of a read-modify-write, the next element of a string): then it is
    /// refused, and the next [`run`](Vcpu::run) gives that exit.
    ///
    /// # Errors
    /// [`HvError::ExitInFlight`] while an exit waits for its reply, or is waiting to be given.
    fn save(&mut self) -> Result<VcpuState, HvError>;

    /// Replaces the whole state. A new vCPU is in the architecture's reset state (x86: vCPU 0 runnable, the
    /// others wait for INIT/SIPI). The state is untrusted and is checked before anything is changed.
    ///
    /// # Errors
    /// [`HvError::BadState`] with the field that is wrong; [`HvError::ExitInFlight`] as for `save`.
    fn restore(&mut self, state: &VcpuState) -> Result<(), HvError>;

    /// Gives back what [`keep`](Vcpu::keep) gave in an earlier life of the machine whose state was just restored. The guest
    /// sees no difference. Untrusted: what is damaged or does not fit is left unused.
    fn recall(&mut self, kept: Kept) {
        drop(kept);
    }

    /// Does a little, some tens of microseconds, of the work on what was recalled that would otherwise be done as the guest
    /// comes to it; says whether there may be more.
    fn ahead(&mut self) -> bool {
        false
    }

    /// What would make the next machine faster that is restored from the state that this one was restored from; nothing
    /// where it would be less than `least` instructions, or what there was is better. `unchanged` says of the guest
    /// physical address of a page whether the page is still what it was then; of others nothing is kept.
    fn keep(&self, least: usize, unchanged: &dyn Fn(u64) -> bool) -> Option<Vec<u8>> {
        let _ = (least, unchanged);
        None
    }
}

//! Builds a machine: memory, devices, buses and vCPUs, in the fixed shape that `docs/architecture.md` lists.

mod disks;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, channel};

use supermachine_agent_protocol::spec::{GUEST_CID, SHARES_TAG};
use supermachine_devices::RestoreError;
use supermachine_devices::balloon::Balloon;
use supermachine_devices::fs::{Fs, FsConfig, FsState};
use supermachine_devices::rng::Rng;
use supermachine_devices::rtc::Rtc;
use supermachine_devices::virtio::{Transport, TransportState, VirtioDevice};
use supermachine_devices::vsock::{Dialer, Vsock};
use supermachine_hv::{Capabilities, GuestMemory, HvError, Hypervisor, VcpuState, Vm, VmConfig};
use supermachine_snapshot::{SnapshotId, Span};

use crate::attach::{Attached, Clock, IrqLine, ResetPort, SerialPort, Service};
use crate::backend::console::Console;
use crate::backend::disk::DiskError;
use crate::backend::host::{HostClock, HostEntropy, Reclaimer};
use crate::backend::share::{Bell, Ringer, ServeError, Share};
use crate::boot::{self, BootError, BootSource, Entry};
use crate::bus::{Bus, BusError, Mapped};
use crate::events::{Event, EventSender};
use crate::freeze::{DevicesState, Held, MachineState, Saved, Snapshot};
use crate::gate::{Gate, Hold};
use crate::kept::Keeper;
use crate::layout;
use crate::memory::{self, MemoryError};
use crate::settings::Settings;
use crate::vcpu::{self, Counters, Start, Worker};

pub use disks::Backing;
use disks::DiskSlot;

/// Kernel command line before the devices and the user's part; `docs/kernel.md` says why each word is there.
const CMDLINE: &str = include_str!("../../kernel/cmdline.x86_64");

/// A machine that cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// Guest RAM.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Kernel, initramfs or command line.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// A disk image.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The device for shared directories.
    #[error(transparent)]
    Share(#[from] ServeError),
    /// The block device has a backing already.
    #[error("disk {slot} has a backing already")]
    Occupied {
        /// Index of the device.
        slot: usize,
    },
    /// The guest of the snapshot knows another disk.
    #[error("disk {slot} had {saved} bytes when the machine was saved, and has {here} here")]
    OtherDisk {
        /// Index of the device.
        slot: usize,
        /// Its size when it was saved.
        saved: u64,
        /// Its size here.
        here: u64,
    },
    /// There is no such block device.
    #[error("there is no disk {slot}, the machine has {disks}")]
    NoSlot {
        /// What was asked for.
        slot: usize,
        /// How many there are.
        disks: usize,
    },
    /// The back end.
    #[error(transparent)]
    Hypervisor(#[from] HvError),
    /// The memory map.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// A saved device that cannot be.
    #[error("snapshot: {device}")]
    Restore {
        /// Which device.
        device: &'static str,
        /// What is wrong with it.
        #[source]
        source: RestoreError,
    },
    /// A saved machine of another shape than this one's.
    #[error("snapshot: {what} are {saved} in it, {here} here")]
    Shape {
        /// What there are.
        what: &'static str,
        /// How many there were.
        saved: usize,
        /// How many there are.
        here: usize,
    },
    /// The machine ended while it was restored.
    #[error("the machine ended while it was restored")]
    Ended,
    /// Something of the host.
    #[error("{what}")]
    Host {
        /// What was wanted.
        what: &'static str,
        /// Why it is not there.
        #[source]
        source: io::Error,
    },
}

/// A machine whose vCPUs may run.
pub struct Machine {
    /// What the back end said of itself.
    pub capabilities: Capabilities,
    /// Guest RAM in bytes.
    pub memory_bytes: u64,
    /// Pause, resume and stop.
    pub gate: Arc<Gate>,
    /// One per vCPU.
    pub counters: Vec<Arc<Counters>>,
    /// Kernel console.
    pub console: Arc<Console>,
    /// Bytes that the guest gave back.
    pub reclaimed: Arc<AtomicU64>,
    /// The vsock device.
    pub vsock: Arc<Attached<Vsock>>,
    rng: Arc<Attached<Rng>>,
    balloon: Arc<Attached<Balloon>>,
    serial: Arc<SerialPort>,
    disks: Vec<DiskSlot>,
    /// All virtio devices by index, for the event loop.
    virtio: Vec<Arc<dyn Service>>,
    mmio: Arc<Bus>,
    pio: Arc<Bus>,
    memory: GuestMemory,
    /// Pages that the snapshot had from which the machine was made.
    origin: Option<Vec<Span>>,
    /// Identity of that snapshot, if it needs no other beneath it.
    base: Option<SnapshotId>,
    begin: Begin,
    keeper: Option<Arc<Keeper>>,
    share: Option<Share>,
    vm: Arc<dyn Vm>,
}

/// What the vCPUs start from.
enum Begin {
    /// The boot CPU from the kernel's entry.
    Boot(Entry),
    /// Saved states.
    Saved(Vec<VcpuState>),
}

/// The parts that are being put together.
struct Builder<'a> {
    vm: Arc<dyn Vm>,
    memory: GuestMemory,
    events: &'a EventSender,
    virtio: Vec<Arc<dyn Service>>,
    mmio: Vec<Mapped>,
}

impl Builder<'_> {
    /// Puts a virtio device into the next window and onto the next interrupt line.
    fn attach<D: VirtioDevice + 'static>(&mut self, transport: Transport<D>) -> Arc<Attached<D>> {
        let index = self.virtio.len();
        let line = IrqLine::new(self.vm.clone(), layout::VIRTIO_FIRST_GSI + index as u32);
        let attached = Arc::new(Attached::new(transport, index, self.memory.clone(), line, self.events.clone()));
        let start = layout::VIRTIO_MMIO + index as u64 * layout::VIRTIO_MMIO_SIZE;
        self.mmio.push((start..start + layout::VIRTIO_MMIO_SIZE, attached.clone()));
        self.virtio.push(attached.clone());
        attached
    }

    /// A transport as it was saved, around its restored device.
    fn restored<D: VirtioDevice>(
        &self,
        name: &'static str,
        device: Result<D, RestoreError>,
        transport: TransportState,
    ) -> Result<Transport<D>, MachineError> {
        let transport = device.and_then(|device| Transport::restore(transport, device, &self.memory));
        transport.map_err(|source| MachineError::Restore { device: name, source })
    }

    fn attach_shares(&mut self, saved: Option<Saved<FsState>>) -> Result<Share, MachineError> {
        let bell = Arc::<Bell>::default();
        let (config, ringer) = (FsConfig { tag: SHARES_TAG.to_owned() }, Box::new(Ringer(bell.clone())));
        let transport = match saved {
            None => Transport::new(Fs::new(config, ringer)),
            Some(Saved { transport, device }) => {
                self.restored("shares", Fs::restore(config, device, ringer), transport)?
            }
        };
        let (device, memory) = (self.attach(transport), self.memory.clone());
        Ok(Share::serve(device, bell, memory)?)
    }
}

/// Host ends that all devices of a machine share or have.
struct HostEnds {
    dialer: Box<dyn Dialer>,
    entropy: HostEntropy,
    reclaimed: Arc<AtomicU64>,
    console: Arc<Console>,
}

/// All devices in their places.
struct Attachments {
    vsock: Arc<Attached<Vsock>>,
    rng: Arc<Attached<Rng>>,
    balloon: Arc<Attached<Balloon>>,
    serial: Arc<SerialPort>,
    disks: Vec<DiskSlot>,
    share: Option<Share>,
    virtio: Vec<Arc<dyn Service>>,
    mmio: Arc<Bus>,
    pio: Arc<Bus>,
}

impl Builder<'_> {
    /// All devices in the machine's order: in their reset state, or as they were saved.
    fn devices(
        mut self,
        host: HostEnds,
        settings: &Settings,
        saved: Option<DevicesState>,
    ) -> Result<Attachments, MachineError> {
        let HostEnds { dialer, entropy, reclaimed, console } = host;
        let (entropy, reclaimer) = (Box::new(entropy), Box::new(Reclaimer { memory: self.memory.clone(), reclaimed }));
        let line = IrqLine::new(self.vm.clone(), layout::SERIAL_GSI);
        let (disks, share, vsock, rng, balloon, serial);
        match saved {
            None => {
                disks = self.attach_disks(&settings.disks, None)?;
                share = settings.shares.then(|| self.attach_shares(None)).transpose()?;
                vsock = Transport::new(Vsock::new(GUEST_CID, dialer));
                rng = Transport::new(Rng::new(entropy));
                balloon = Transport::new(Balloon::new(reclaimer));
                serial = SerialPort::new(line, console);
            }
            Some(saved) => {
                check_shape(&saved, settings)?;
                let bad_serial = |source| MachineError::Restore { device: "serial port", source };
                disks = self.attach_disks(&settings.disks, Some(saved.disks))?;
                share = saved.shares.map(|fs| self.attach_shares(Some(fs))).transpose()?;
                vsock = self.restored("vsock", Vsock::restore(saved.vsock.device, dialer), saved.vsock.transport)?;
                rng = self.restored("rng", Ok(Rng::new(entropy)), saved.rng)?;
                let device = Balloon::restore(saved.balloon.device, reclaimer);
                balloon = self.restored("balloon", Ok(device), saved.balloon.transport)?;
                serial = SerialPort::restore(saved.serial, line, console).map_err(bad_serial)?;
            }
        }
        let (vsock, rng, balloon, serial) =
            (self.attach(vsock), self.attach(rng), self.attach(balloon), Arc::new(serial));
        let pio = Arc::new(Bus::new(ports(&serial))?);
        let Self { virtio, mmio, .. } = self;
        Ok(Attachments { vsock, rng, balloon, serial, disks, share, virtio, mmio: Arc::new(Bus::new(mmio)?), pio })
    }
}

/// The saved machine must have the devices that this one is to have.
fn check_shape(saved: &DevicesState, settings: &Settings) -> Result<(), MachineError> {
    let (disks, shares) = (saved.disks.len(), usize::from(saved.shares.is_some()));
    if disks != settings.disks.len() {
        return Err(MachineError::Shape { what: "disks", saved: disks, here: settings.disks.len() });
    }
    if shares != usize::from(settings.shares) {
        return Err(MachineError::Shape { what: "shares", saved: shares, here: settings.shares.into() });
    }
    Ok(())
}

/// The devices on x86 ports.
fn ports(serial: &Arc<SerialPort>) -> Vec<Mapped> {
    let range = |start: u16, count: u64| u64::from(start)..u64::from(start) + count;
    vec![
        (range(layout::SERIAL_PORT, 8), serial.clone()),
        (range(layout::I8042_PORT, 5), Arc::new(ResetPort::default())),
        (range(layout::RTC_PORT, 2), Arc::new(Clock::new(Rtc::new(Box::new(HostClock))))),
    ]
}

/// Proof that all vCPUs are on their threads, where those of a snapshot wait. Without [`Machine::enter`] they wait until the
/// machine's end.
pub struct Ready {
    hold: Option<Hold>,
    outcomes: Receiver<Result<(), HvError>>,
}

impl Drop for Ready {
    fn drop(&mut self) {
        // Nothing of a machine runs that could not be entered.
        std::mem::forget(self.hold.take());
    }
}

impl Machine {
    /// Builds the machine and loads the kernel; no vCPU runs yet.
    pub fn build(
        settings: &Settings,
        hypervisor: &dyn Hypervisor,
        events: &EventSender,
        dialer: Box<dyn Dialer>,
    ) -> Result<Self, MachineError> {
        let memory = memory::allocate(settings.memory_bytes)?;
        Self::make(settings, hypervisor, events, dialer, memory, None)
    }

    /// Makes a machine that goes on from a snapshot once it is started. The snapshot is untrusted; what `settings` say
    /// of disks is bound to the saved devices in order.
    pub fn restore(
        settings: &Settings,
        snapshot: Snapshot,
        hypervisor: &dyn Hypervisor,
        events: &EventSender,
        dialer: Box<dyn Dialer>,
    ) -> Result<Self, MachineError> {
        let Snapshot { state, memory, spans, full } = snapshot;
        let made = Self::make(settings, hypervisor, events, dialer, memory, Some(state))?;
        Ok(Self { origin: Some(spans), base: full, ..made })
    }

    fn make(
        settings: &Settings,
        hypervisor: &dyn Hypervisor,
        events: &EventSender,
        dialer: Box<dyn Dialer>,
        memory: GuestMemory,
        saved: Option<MachineState>,
    ) -> Result<Self, MachineError> {
        let capabilities = hypervisor.capabilities();
        let entropy = HostEntropy::open().map_err(|source| MachineError::Host { what: "/dev/urandom", source })?;
        let vm = hypervisor.create_vm(VmConfig { memory: memory.clone(), vcpus: settings.vcpus })?;
        let (console, reclaimed) = (Arc::new(Console::new(settings.console)), Arc::<AtomicU64>::default());

        let (virtio, mmio) = (Vec::new(), Vec::new());
        let builder = Builder { vm: vm.clone(), memory: memory.clone(), events, virtio, mmio };
        let host = HostEnds { dialer, entropy, reclaimed: reclaimed.clone(), console: console.clone() };
        let (saved_devices, saved_cpus) = saved.map(|state| (state.devices, (state.vm, state.vcpus))).unzip();
        let devices = builder.devices(host, settings, saved_devices)?;
        let begin = match saved_cpus {
            Some((chips, vcpus)) => {
                vm.restore(&chips)?;
                Begin::Saved(vcpus)
            }
            None => Begin::Boot(load(settings, &memory, devices.virtio.len())?),
        };
        let Attachments { vsock, rng, balloon, serial, disks, share, virtio, mmio, pio } = devices;
        Ok(Self {
            capabilities,
            memory_bytes: settings.memory_bytes,
            gate: Arc::default(),
            counters: (0..settings.vcpus).map(|_| Arc::default()).collect(),
            console,
            reclaimed,
            vsock,
            rng,
            balloon,
            serial,
            disks,
            virtio,
            mmio,
            pio,
            keeper: Keeper::new(settings, memory.clone()),
            memory,
            origin: None,
            base: None,
            begin,
            share,
            vm,
        })
    }

    /// Starts all vCPUs. One that ends by itself sends [`Event::VcpuEnded`].
    pub fn start(&self, events: &EventSender) -> Result<(), MachineError> {
        self.enter(self.ready(events)?)
    }

    /// Brings all vCPUs to their threads; those of a snapshot do not run before [`enter`](Self::enter), and do what they can
    /// until then.
    pub fn ready(&self, events: &EventSender) -> Result<Ready, MachineError> {
        let hold = matches!(self.begin, Begin::Saved(_)).then(|| self.gate.hold());
        let (restored, outcomes) = channel();
        let indices = 0..self.counters.len() as u32;
        let vcpus = indices.map(|index| self.vm.create_vcpu(index)).collect::<Result<Vec<_>, _>>()?;
        for ((vcpu, counters), index) in vcpus.into_iter().zip(&self.counters).zip(0..) {
            let events = events.clone();
            let start = match &self.begin {
                Begin::Boot(entry) if index == 0 => Start::Entry(*entry),
                Begin::Boot(_) => Start::Reset,
                Begin::Saved(states) => {
                    let state = states.get(index as usize).cloned().ok_or(MachineError::Ended)?;
                    Start::Saved { state: Box::new(state), restored: restored.clone() }
                }
            };
            let worker = Worker {
                index,
                start,
                mmio: self.mmio.clone(),
                pio: self.pio.clone(),
                gate: self.gate.clone(),
                counters: counters.clone(),
                keeper: self.keeper.clone(),
                report: Box::new(move |end| events.send(Event::VcpuEnded { index, end })),
            };
            vcpu::spawn(vcpu, worker).map_err(|source| MachineError::Host { what: "vCPU thread", source })?;
        }
        Ok(Ready { hold, outcomes })
    }

    /// Lets the vCPUs of a snapshot run, once the last of them and all devices have their states.
    pub fn enter(&self, mut ready: Ready) -> Result<(), MachineError> {
        if let Begin::Saved(states) = &self.begin {
            for _ in states {
                let restored = ready.outcomes.recv().map_err(|_| MachineError::Ended);
                restored.and_then(|outcome| Ok(outcome?)).inspect_err(|_| self.gate.stop())?;
            }
            // Interrupts that these raise reach vCPUs that will not be overwritten any more.
            self.virtio.iter().for_each(|device| device.service());
        }
        drop(ready.hold.take());
        Ok(())
    }

    /// Keeps every device still and its state to be read, while no vCPU runs.
    pub fn quiesce(&self) -> Held<'_> {
        Held {
            vsock: self.vsock.quiesce(),
            rng: self.rng.quiesce(),
            balloon: self.balloon.quiesce(),
            disks: self.disks.iter().map(|disk| disk.device.quiesce()).collect(),
            shares: self.share.as_ref().map(|share| share.device().quiesce()),
            serial: &self.serial,
        }
    }

    /// Interrupt controllers and clock.
    pub fn vm(&self) -> &dyn Vm {
        self.vm.as_ref()
    }

    /// Pages of RAM that may not be zero without having been written, if the machine came from a snapshot.
    pub fn origin(&self) -> Option<&[Span]> {
        self.origin.as_deref()
    }

    /// The full snapshot that the machine came from, over which it can be saved.
    pub fn base(&self) -> Option<SnapshotId> {
        self.base
    }

    /// Guest RAM.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// Lets virtio device `index` work on what waits.
    pub fn service(&self, index: usize) {
        if let Some(device) = self.virtio.get(index) {
            device.service();
        }
    }

    /// The device for shared directories, if the machine has one.
    pub fn share(&self) -> Option<&Share> {
        self.share.as_ref()
    }
}

/// Loads the kernel for a machine with this many virtio devices.
fn load(settings: &Settings, memory: &GuestMemory, virtio: usize) -> Result<Entry, MachineError> {
    let cmdline = cmdline(virtio, &settings.cmdline);
    log::debug!("kernel command line: {cmdline}");
    let source = BootSource {
        kernel: &settings.kernel,
        initramfs: settings.initramfs.as_deref(),
        cmdline: &cmdline,
        vcpus: settings.vcpus,
    };
    Ok(boot::load(memory, &source)?)
}

/// The whole kernel command line for a machine with this many virtio devices.
fn cmdline(devices: usize, extra: &str) -> String {
    use std::fmt::Write;
    let mut line = CMDLINE.trim().to_owned();
    for (index, gsi) in (0..devices as u64).zip(layout::VIRTIO_FIRST_GSI..) {
        let address = layout::VIRTIO_MMIO + index * layout::VIRTIO_MMIO_SIZE;
        // Writing to a string cannot fail.
        let _ = write!(line, " virtio_mmio.device=4K@{address:#x}:{gsi}");
    }
    if !extra.is_empty() {
        line.push(' ');
        line.push_str(extra);
    }
    line
}

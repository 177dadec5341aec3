//! Builds a machine: memory, devices, buses and vCPUs, in the fixed shape that `docs/architecture.md` lists.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use supermachine_agent_protocol::spec::GUEST_CID;
use supermachine_devices::balloon::Balloon;
use supermachine_devices::blk::{Blk, BlkConfig, BlkError};
use supermachine_devices::rng::Rng;
use supermachine_devices::rtc::Rtc;
use supermachine_devices::virtio::VirtioDevice;
use supermachine_devices::vsock::{Dialer, Vsock};
use supermachine_hv::{Capabilities, GuestMemory, HvError, Hypervisor, Vm, VmConfig};

use crate::attach::{Attached, Clock, IrqLine, ResetPort, SerialPort, Service};
use crate::backend::console::Console;
use crate::backend::disk::{DiskCounters, DiskError, FileDisk};
use crate::backend::host::{HostClock, HostEntropy, Reclaimer};
use crate::boot::{self, BootError, BootSource, Entry};
use crate::bus::{Bus, BusError, Mapped};
use crate::events::{Event, EventSender};
use crate::gate::Gate;
use crate::layout;
use crate::memory::{self, MemoryError};
use crate::settings::{Disk, Settings};
use crate::vcpu::{self, Counters, Worker};

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
    /// A disk that cannot be attached to its device.
    #[error("disk {slot}")]
    Attach {
        /// Index of the device.
        slot: usize,
        /// Why.
        #[source]
        source: BlkError,
    },
    /// The block device has a backing already.
    #[error("disk {slot} has a backing already")]
    Occupied {
        /// Index of the device.
        slot: usize,
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

/// One block device and its counters.
struct DiskSlot {
    device: Arc<Attached<Blk>>,
    counters: Arc<DiskCounters>,
    state: Mutex<SlotState>,
}

/// What is behind a block device.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SlotState {
    Empty,
    ReadOnly,
    Writable,
}

impl SlotState {
    fn backed(read_only: bool) -> Self {
        if read_only { Self::ReadOnly } else { Self::Writable }
    }
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
    disks: Vec<DiskSlot>,
    /// All virtio devices by index, for the event loop.
    virtio: Vec<Arc<dyn Service>>,
    mmio: Arc<Bus>,
    pio: Arc<Bus>,
    entry: Entry,
    vm: Arc<dyn Vm>,
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
    fn attach<D: VirtioDevice + 'static>(&mut self, device: D) -> Arc<Attached<D>> {
        let index = self.virtio.len();
        let line = IrqLine::new(self.vm.clone(), layout::VIRTIO_FIRST_GSI + index as u32);
        let attached = Arc::new(Attached::new(device, index, self.memory.clone(), line, self.events.clone()));
        let start = layout::VIRTIO_MMIO + index as u64 * layout::VIRTIO_MMIO_SIZE;
        self.mmio.push((start..start + layout::VIRTIO_MMIO_SIZE, attached.clone()));
        self.virtio.push(attached.clone());
        attached
    }

    fn attach_disks(&mut self, disks: &[Disk]) -> Result<Vec<DiskSlot>, MachineError> {
        let mut slots = Vec::new();
        for (slot, disk) in disks.iter().enumerate() {
            let read_only = matches!(disk, Disk::File { read_only: true, .. } | Disk::Empty { read_only: true });
            let config = BlkConfig { read_only, discard: false, id: format!("disk{slot}") };
            let counters = Arc::<DiskCounters>::default();
            let mut blk = Blk::new(config);
            if let Disk::File { path, read_only } = disk {
                let backend = FileDisk::open(path, *read_only, counters.clone())?;
                blk.set_backend(Box::new(backend)).map_err(|source| MachineError::Attach { slot, source })?;
            }
            let empty = matches!(disk, Disk::Empty { .. });
            let state = Mutex::new(if empty { SlotState::Empty } else { SlotState::backed(read_only) });
            slots.push(DiskSlot { device: self.attach(blk), counters, state });
        }
        Ok(slots)
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
        let capabilities = hypervisor.capabilities();
        let memory = memory::allocate(settings.memory_bytes)?;
        let entropy = HostEntropy::open().map_err(|source| MachineError::Host { what: "/dev/urandom", source })?;
        let vm = hypervisor.create_vm(VmConfig { memory: memory.clone(), vcpus: settings.vcpus })?;
        let (console, reclaimed) = (Arc::new(Console::new(settings.console)), Arc::<AtomicU64>::default());

        let (virtio, mmio) = (Vec::new(), Vec::new());
        let mut builder = Builder { vm: vm.clone(), memory: memory.clone(), events, virtio, mmio };
        let vsock = builder.attach(Vsock::new(GUEST_CID, dialer));
        builder.attach(Rng::new(Box::new(entropy)));
        let reclaimer = Reclaimer { memory: memory.clone(), reclaimed: reclaimed.clone() };
        builder.attach(Balloon::new(Box::new(reclaimer)));
        let disks = builder.attach_disks(&settings.disks)?;
        let Builder { virtio, mmio, .. } = builder;

        let cmdline = cmdline(virtio.len(), &settings.cmdline);
        log::debug!("kernel command line: {cmdline}");
        let source = BootSource {
            kernel: &settings.kernel,
            initramfs: settings.initramfs.as_deref(),
            cmdline: &cmdline,
            vcpus: settings.vcpus,
        };
        Ok(Self {
            capabilities,
            memory_bytes: settings.memory_bytes,
            gate: Arc::default(),
            counters: (0..settings.vcpus).map(|_| Arc::default()).collect(),
            pio: Arc::new(Bus::new(ports(&vm, &console))?),
            mmio: Arc::new(Bus::new(mmio)?),
            entry: boot::load(&memory, &source)?,
            console,
            reclaimed,
            vsock,
            disks,
            virtio,
            vm,
        })
    }

    /// Starts all vCPUs. One that ends by itself sends [`Event::VcpuEnded`].
    pub fn start(&self, events: &EventSender) -> Result<(), MachineError> {
        let indices = 0..self.counters.len() as u32;
        let vcpus = indices.map(|index| self.vm.create_vcpu(index)).collect::<Result<Vec<_>, _>>()?;
        for ((vcpu, counters), index) in vcpus.into_iter().zip(&self.counters).zip(0..) {
            let events = events.clone();
            let worker = Worker {
                index,
                entry: (index == 0).then_some(self.entry),
                mmio: self.mmio.clone(),
                pio: self.pio.clone(),
                gate: self.gate.clone(),
                counters: counters.clone(),
                report: Box::new(move |end| events.send(Event::VcpuEnded { index, end })),
            };
            vcpu::spawn(vcpu, worker).map_err(|source| MachineError::Host { what: "vCPU thread", source })?;
        }
        Ok(())
    }

    /// Lets virtio device `index` work on what waits.
    pub fn service(&self, index: usize) {
        if let Some(device) = self.virtio.get(index) {
            device.service();
        }
    }

    /// Gives an empty block device its backing.
    pub fn attach_disk(&self, slot: usize, path: &Path, read_only: bool) -> Result<(), MachineError> {
        let missing = MachineError::NoSlot { slot, disks: self.disks.len() };
        let DiskSlot { device, counters, state } = self.disks.get(slot).ok_or(missing)?;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if *state != SlotState::Empty {
            return Err(MachineError::Occupied { slot });
        }
        let backend = FileDisk::open(path, read_only, counters.clone())?;
        let attached = device.host(|blk| blk.set_backend(Box::new(backend)));
        attached.map_err(|source| MachineError::Attach { slot, source })?;
        *state = SlotState::backed(read_only);
        Ok(())
    }

    /// Whether the guest may hold writes that a disk image has not seen.
    pub fn has_writable_disks(&self) -> bool {
        let writable =
            |disk: &DiskSlot| *disk.state.lock().unwrap_or_else(PoisonError::into_inner) == SlotState::Writable;
        self.disks.iter().any(writable)
    }

    /// Bytes read and written by each block device.
    pub fn disk_bytes(&self) -> impl Iterator<Item = (u64, u64)> {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        self.disks.iter().map(move |disk| (load(&disk.counters.read_bytes), load(&disk.counters.written_bytes)))
    }
}

/// The devices on x86 ports.
fn ports(vm: &Arc<dyn Vm>, console: &Arc<Console>) -> Vec<Mapped> {
    let range = |start: u16, count: u64| u64::from(start)..u64::from(start) + count;
    let serial = SerialPort::new(IrqLine::new(vm.clone(), layout::SERIAL_GSI), console.clone());
    vec![
        (range(layout::SERIAL_PORT, 8), Arc::new(serial)),
        (range(layout::I8042_PORT, 5), Arc::new(ResetPort::default())),
        (range(layout::RTC_PORT, 2), Arc::new(Clock::new(Rtc::new(Box::new(HostClock))))),
    ]
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

//! Attaches device models to the machine: a lock, guest memory, an interrupt line and the event loop around each.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use supermachine_devices::i8042::{I8042, I8042Effect};
use supermachine_devices::rtc::Rtc;
use supermachine_devices::serial::{Serial, SerialState};
use supermachine_devices::virtio::{MmioDevice, Transport, VirtioDevice};
use supermachine_devices::{Effects, GuestMemory, RestoreError};
use supermachine_hv::Vm;

use crate::backend::console::Console;
use crate::bus::{BusDevice, Request};
use crate::events::{Event, EventSender};

/// An input pin of the interrupt controller.
#[derive(Clone)]
pub struct IrqLine {
    vm: Arc<dyn Vm>,
    gsi: u32,
    failed: Arc<AtomicBool>,
    /// Held over an edge: one that begins while another is high would be none.
    edge: Arc<Mutex<()>>,
}

impl IrqLine {
    /// Pin `gsi` of `vm`.
    pub fn new(vm: Arc<dyn Vm>, gsi: u32) -> Self {
        Self { vm, gsi, failed: Arc::default(), edge: Arc::default() }
    }

    /// Sets the level. A failure is logged once: the guest decides how often this runs.
    pub fn set(&self, level: bool) {
        if let Err(error) = self.vm.set_irq_line(self.gsi, level)
            && !self.failed.swap(true, Ordering::Relaxed)
        {
            log::error!("interrupt line {}: {error}", self.gsi);
        }
    }

    /// Raises an edge.
    pub fn pulse(&self) {
        let _edge = self.edge.lock().unwrap_or_else(PoisonError::into_inner);
        self.set(true);
        self.set(false);
    }
}

/// What the event loop needs of an attached device, whatever its type.
pub trait Service: Send + Sync {
    /// Lets the device work on what waits.
    fn service(&self);
}

/// A virtio device behind its registers.
pub struct Attached<D> {
    transport: Mutex<Transport<D>>,
    memory: GuestMemory,
    line: IrqLine,
    events: EventSender,
    /// Index in the machine's list of virtio devices.
    index: usize,
    failed: AtomicBool,
    /// Whether the event loop was asked to go on with this device and has not come to it.
    queued: AtomicBool,
}

impl<D: VirtioDevice> Attached<D> {
    /// Attaches a device behind its transport, new or restored.
    pub fn new(transport: Transport<D>, index: usize, memory: GuestMemory, line: IrqLine, events: EventSender) -> Self {
        let transport = Mutex::new(transport);
        Self { transport, memory, line, events, index, failed: AtomicBool::new(false), queued: AtomicBool::new(false) }
    }

    /// Does a host operation on the device and lets the guest know what came of it.
    pub fn host<R>(&self, operation: impl FnOnce(&mut D) -> R) -> R {
        let mut transport = self.lock();
        let result = operation(transport.device_mut());
        let effects = transport.service(&self.memory);
        self.carry_out(effects, transport);
        result
    }

    /// Does a host operation on the device that is no news to the guest.
    pub fn quietly<R>(&self, operation: impl FnOnce(&mut D) -> R) -> R {
        operation(self.lock().device_mut())
    }

    /// Looks at the device.
    pub fn inspect<R>(&self, look: impl FnOnce(&D) -> R) -> R {
        look(self.lock().device())
    }

    /// Keeps everybody else off the device: while the value lives it neither works nor raises interrupts.
    pub fn quiesce(&self) -> MutexGuard<'_, Transport<D>> {
        self.lock()
    }

    /// Whoever has the lock finds no interrupt still on its way: it is raised before the lock is given back.
    fn carry_out(&self, effects: Effects, mut transport: MutexGuard<'_, Transport<D>>) {
        if let Some(failure) = transport.take_failure()
            && !self.failed.swap(true, Ordering::Relaxed)
        {
            log::warn!("virtio device {} stopped: {failure}", self.index);
        }
        if effects.interrupt {
            self.line.pulse();
        }
        drop(transport);
        if effects.again && !self.queued.swap(true, Ordering::Relaxed) {
            self.events.send(Event::Service(self.index));
        }
    }

    /// A device does not panic while it is locked; a poisoned lock is as good.
    fn lock(&self) -> MutexGuard<'_, Transport<D>> {
        self.transport.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: VirtioDevice> BusDevice for Attached<D> {
    fn read(&self, offset: u64, data: &mut [u8]) {
        self.lock().read(offset, data);
    }

    fn write(&self, offset: u64, data: &[u8]) -> Request {
        let mut transport = self.lock();
        let effects = transport.write(offset, data, &self.memory);
        self.carry_out(effects, transport);
        Request::None
    }
}

impl<D: VirtioDevice> Service for Attached<D> {
    fn service(&self) {
        self.queued.store(false, Ordering::Relaxed);
        self.host(|_| ());
    }
}

/// The serial port; its output goes to the console.
pub struct SerialPort {
    serial: Mutex<Serial>,
    line: IrqLine,
    console: Arc<Console>,
}

impl SerialPort {
    /// A port in its reset state.
    pub fn new(line: IrqLine, console: Arc<Console>) -> Self {
        Self { serial: Mutex::new(Serial::new()), line, console }
    }

    /// A port as it was saved.
    ///
    /// # Errors
    /// The state is not one that a guest can bring the port into.
    pub fn restore(state: SerialState, line: IrqLine, console: Arc<Console>) -> Result<Self, RestoreError> {
        Ok(Self { serial: Mutex::new(Serial::restore(state)?), line, console })
    }

    /// State to save, while no vCPU runs.
    pub fn save(&self) -> SerialState {
        self.serial.lock().unwrap_or_else(PoisonError::into_inner).save()
    }

    fn with<R>(&self, access: impl FnOnce(&mut Serial) -> R) -> R {
        let mut serial = self.serial.lock().unwrap_or_else(PoisonError::into_inner);
        let result = access(&mut serial);
        if let Some(level) = serial.take_level_change() {
            self.line.set(level);
        }
        result
    }
}

impl BusDevice for SerialPort {
    fn read(&self, offset: u64, data: &mut [u8]) {
        read_bytes(offset, data, |register| self.with(|serial| serial.read(register)));
    }

    fn write(&self, offset: u64, data: &[u8]) -> Request {
        for (register, value) in registers(offset, data) {
            if let Some(byte) = self.with(|serial| serial.write(register, value)) {
                self.console.put(byte);
            }
        }
        Request::None
    }
}

/// The keyboard controller, of which only the reset line is wired.
#[derive(Default)]
pub struct ResetPort(Mutex<I8042>);

impl BusDevice for ResetPort {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let i8042 = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        read_bytes(offset, data, |register| i8042.read(register));
    }

    fn write(&self, offset: u64, data: &[u8]) -> Request {
        let i8042 = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (register, value) in registers(offset, data) {
            if let Some(I8042Effect::Reset) = i8042.write(register, value) {
                return Request::Reset;
            }
        }
        Request::None
    }
}

/// The CMOS clock.
pub struct Clock(Mutex<Rtc>);

impl Clock {
    /// Attaches a clock.
    pub fn new(rtc: Rtc) -> Self {
        Self(Mutex::new(rtc))
    }
}

impl BusDevice for Clock {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let rtc = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        read_bytes(offset, data, |register| rtc.read(register));
    }

    fn write(&self, offset: u64, data: &[u8]) -> Request {
        let mut rtc = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (register, value) in registers(offset, data) {
            rtc.write(register, value);
        }
        Request::None
    }
}

/// A wide access to byte-wide registers is one access to each in turn.
fn registers(offset: u64, data: &[u8]) -> impl Iterator<Item = (u8, u8)> {
    (offset as u8..).zip(data.iter().copied())
}

fn read_bytes(offset: u64, data: &mut [u8], mut read: impl FnMut(u8) -> u8) {
    for (register, byte) in (offset as u8..).zip(data.iter_mut()) {
        *byte = read(register);
    }
}

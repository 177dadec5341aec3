//! Registers in, queue work and effects out.

use super::persist::status_is_reachable;
use super::spec;
use super::state::TransportState;
use crate::virtio::spec::{feature, status};
use crate::virtio::{DeviceError, Progress, Queue, VirtioDevice};
use crate::{Effects, GuestMemory};

/// A device on the MMIO bus, of whatever type.
pub trait MmioDevice: Send {
    /// Reads `data.len()` bytes at `offset` in the device's region. What no register answers reads as zero.
    fn read(&mut self, offset: u64, data: &mut [u8]);

    /// Writes `data` at `offset` in the device's region. What no register takes is ignored.
    fn write(&mut self, offset: u64, data: &[u8], mem: &GuestMemory) -> Effects;

    /// Lets the device work on what waits: after a host event, after [`Effects::again`] and once after a restore.
    fn service(&mut self, mem: &GuestMemory) -> Effects;

    /// State of the transport; the device's own state is saved through its own type.
    fn save_transport(&self) -> TransportState;
}

/// A virtio device behind virtio-mmio registers.
#[derive(Debug)]
pub struct Transport<D> {
    pub(super) device: D,
    pub(super) queues: Vec<Queue>,
    pub(super) status: u32,
    pub(super) driver_features: u64,
    pub(super) device_features_sel: u32,
    pub(super) driver_features_sel: u32,
    pub(super) queue_sel: u32,
    pub(super) interrupt_status: u32,
    pub(super) config_generation: u32,
    /// What made the device stop, until somebody asks.
    pub(super) failure: Option<DeviceError>,
}

impl<D: VirtioDevice> Transport<D> {
    /// A transport in its reset state.
    pub fn new(device: D) -> Self {
        let queues = device.queue_max_sizes().iter().map(|max| Queue::new(*max)).collect();
        Self {
            device,
            queues,
            status: 0,
            driver_features: 0,
            device_features_sel: 0,
            driver_features_sel: 0,
            queue_sel: 0,
            interrupt_status: 0,
            config_generation: 0,
            failure: None,
        }
    }

    /// The device, for host operations. Call [`service`](MmioDevice::service) after one that gives the guest something.
    pub fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }

    /// The device, to look at.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// Whether the driver is ready and the device has not failed.
    pub fn is_running(&self) -> bool {
        const STOPPED: u32 = status::DEVICE_NEEDS_RESET | status::FAILED;
        self.status & status::DRIVER_OK != 0 && self.status & STOPPED == 0
    }

    /// Whether an interrupt waits for the driver's acknowledgement: the line's level, for level-triggered wiring.
    pub fn interrupt_pending(&self) -> bool {
        self.interrupt_status != 0
    }

    /// What made the device stop since the last call. A guest can cause this as often as it likes: do not log each.
    pub fn take_failure(&mut self) -> Option<DeviceError> {
        self.failure.take()
    }

    pub(super) fn features(&self) -> u64 {
        self.device.features() | feature::VERSION_1 | feature::EVENT_IDX | feature::INDIRECT_DESC
    }

    fn selected(&mut self) -> Option<&mut Queue> {
        self.queues.get_mut(self.queue_sel as usize)
    }

    fn read_register(&mut self, offset: u64) -> u32 {
        match offset {
            spec::MAGIC_VALUE => spec::MAGIC,
            spec::VERSION_REG => spec::VERSION,
            spec::DEVICE_ID => self.device.device_type(),
            spec::VENDOR_ID_REG => spec::VENDOR_ID,
            spec::DEVICE_FEATURES => half(self.features(), self.device_features_sel),
            spec::QUEUE_NUM_MAX => self.selected().map_or(0, |queue| u32::from(queue.max_size())),
            spec::QUEUE_READY => self.selected().map_or(0, |queue| u32::from(queue.is_ready())),
            spec::INTERRUPT_STATUS => self.interrupt_status,
            spec::STATUS => self.status,
            spec::SHM_LEN_LOW | spec::SHM_LEN_HIGH | spec::SHM_BASE_LOW | spec::SHM_BASE_HIGH => spec::SHM_NONE,
            spec::CONFIG_GENERATION => self.config_generation,
            _ => 0,
        }
    }

    fn write_register(&mut self, offset: u64, value: u32, mem: &GuestMemory) -> Effects {
        match offset {
            spec::DEVICE_FEATURES_SEL => self.device_features_sel = value,
            spec::DRIVER_FEATURES_SEL => self.driver_features_sel = value,
            spec::DRIVER_FEATURES => self.write_driver_features(value),
            spec::QUEUE_SEL => self.queue_sel = value,
            spec::QUEUE_NUM..=spec::QUEUE_READY | spec::QUEUE_DESC_LOW..=spec::QUEUE_DEVICE_HIGH => {
                return self.write_queue_register(offset, value, mem);
            }
            spec::QUEUE_NOTIFY => return self.notify(value, mem),
            spec::INTERRUPT_ACK => self.interrupt_status &= !value,
            spec::STATUS => return self.write_status(value, mem),
            _ => {}
        }
        Effects::NONE
    }

    fn write_driver_features(&mut self, value: u32) {
        if self.status & (status::DRIVER | status::FEATURES_OK) != status::DRIVER {
            return;
        }
        let (mask, shift) = match self.driver_features_sel {
            0 => (u64::from(u32::MAX), 0),
            1 => (u64::from(u32::MAX) << 32, 32),
            _ => return,
        };
        self.driver_features = (self.driver_features & !mask) | (u64::from(value) << shift);
    }

    /// Queues are set up between FEATURES_OK and DRIVER_OK; only disabling one is possible later.
    fn write_queue_register(&mut self, offset: u64, value: u32, mem: &GuestMemory) -> Effects {
        let setup = self.status & (status::FEATURES_OK | status::DRIVER_OK) == status::FEATURES_OK;
        let event_idx = self.driver_features & feature::EVENT_IDX != 0;
        let Some(queue) = self.selected() else { return Effects::NONE };
        if offset == spec::QUEUE_READY && value == 0 {
            queue.disable();
        }
        if !setup || queue.is_ready() {
            return Effects::NONE;
        }
        match offset {
            spec::QUEUE_NUM => queue.set_size(u16::try_from(value).unwrap_or(0)),
            spec::QUEUE_DESC_LOW => set_low(queue.desc_table_mut(), value),
            spec::QUEUE_DESC_HIGH => set_high(queue.desc_table_mut(), value),
            spec::QUEUE_DRIVER_LOW => set_low(queue.avail_ring_mut(), value),
            spec::QUEUE_DRIVER_HIGH => set_high(queue.avail_ring_mut(), value),
            spec::QUEUE_DEVICE_LOW => set_low(queue.used_ring_mut(), value),
            spec::QUEUE_DEVICE_HIGH => set_high(queue.used_ring_mut(), value),
            spec::QUEUE_READY if value == 1 => {
                if let Err(error) = queue.enable(mem, event_idx) {
                    return self.fail(error.into());
                }
            }
            _ => {}
        }
        Effects::NONE
    }

    /// The status only grows, in the order of virtio 1.2 §3.1.1, until a write of zero resets the device.
    fn write_status(&mut self, value: u32, mem: &GuestMemory) -> Effects {
        if value == 0 {
            self.reset();
            return Effects::NONE;
        }
        let mut next = (self.status | value) & !status::DEVICE_NEEDS_RESET;
        if value & self.status & !status::DEVICE_NEEDS_RESET != self.status & !status::DEVICE_NEEDS_RESET {
            return Effects::NONE;
        }
        if self.status & status::FEATURES_OK == 0 && !self.accepts(self.driver_features) {
            next &= !status::FEATURES_OK;
        }
        if !status_is_reachable(next) {
            return Effects::NONE;
        }
        let activated = next & !self.status & status::DRIVER_OK != 0;
        self.status = next | (self.status & status::DEVICE_NEEDS_RESET);
        if activated && self.is_running() {
            self.device.activate(self.driver_features);
            // Drivers may notify before they set DRIVER_OK; those notifications had to wait.
            return self.work(mem, None);
        }
        Effects::NONE
    }

    fn reset(&mut self) {
        let Self {
            device,
            queues,
            status,
            driver_features,
            device_features_sel,
            driver_features_sel,
            queue_sel,
            interrupt_status,
            config_generation,
            failure: _,
        } = self;
        device.reset();
        // The driver reads the configuration after a reset; what changed before is no news to it.
        if device.take_config_change() {
            *config_generation = config_generation.wrapping_add(1);
        }
        queues.iter_mut().for_each(Queue::reset);
        (*status, *driver_features, *interrupt_status) = (0, 0, 0);
        (*device_features_sel, *driver_features_sel, *queue_sel) = (0, 0, 0);
    }

    fn notify(&mut self, index: u32, mem: &GuestMemory) -> Effects {
        match usize::try_from(index) {
            Ok(index) if index < self.queues.len() => self.work(mem, Some(index)),
            _ => Effects::NONE,
        }
    }

    /// Runs the device on one queue or on all of them and gathers what the driver has to hear.
    fn work(&mut self, mem: &GuestMemory, index: Option<usize>) -> Effects {
        let mut effects = Effects::NONE;
        if self.is_running() {
            let done = match index {
                Some(index) => self.device.process_queue(index, mem, &mut self.queues),
                None => self.device.service(mem, &mut self.queues),
            };
            match done.and_then(|progress| Ok((progress, self.take_queue_interrupts(mem)?))) {
                Ok((progress, interrupt)) => {
                    effects.again = progress == Progress::More;
                    effects.interrupt = interrupt;
                }
                Err(error) => effects.merge(self.fail(error)),
            }
        }
        effects.merge(self.announce_config());
        effects
    }

    fn take_queue_interrupts(&mut self, mem: &GuestMemory) -> Result<bool, DeviceError> {
        let mut wanted = false;
        for queue in &mut self.queues {
            wanted |= queue.take_interrupt(mem)?;
        }
        if wanted {
            self.interrupt_status |= spec::INTERRUPT_VRING;
        }
        Ok(wanted)
    }

    fn announce_config(&mut self) -> Effects {
        if !self.device.take_config_change() {
            return Effects::NONE;
        }
        self.config_generation = self.config_generation.wrapping_add(1);
        if self.status & status::DRIVER_OK == 0 {
            return Effects::NONE;
        }
        self.interrupt_status |= spec::INTERRUPT_CONFIG;
        Effects { interrupt: true, again: false }
    }

    /// Stops the device until the driver resets it (virtio 1.2 §2.1.2).
    fn fail(&mut self, error: DeviceError) -> Effects {
        self.failure = Some(error);
        self.status |= status::DEVICE_NEEDS_RESET;
        if self.status & status::DRIVER_OK == 0 {
            return Effects::NONE;
        }
        self.interrupt_status |= spec::INTERRUPT_CONFIG;
        Effects { interrupt: true, again: false }
    }
}

impl<D: VirtioDevice> MmioDevice for Transport<D> {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(offset) = offset.checked_sub(spec::CONFIG) {
            self.device.read_config(offset, data);
        } else if offset.is_multiple_of(4) && data.len() == 4 {
            data.copy_from_slice(&self.read_register(offset).to_le_bytes());
        }
    }

    fn write(&mut self, offset: u64, data: &[u8], mem: &GuestMemory) -> Effects {
        if let Some(offset) = offset.checked_sub(spec::CONFIG) {
            self.device.write_config(offset, data);
            return self.announce_config();
        }
        match <[u8; 4]>::try_from(data) {
            Ok(bytes) if offset.is_multiple_of(4) => self.write_register(offset, u32::from_le_bytes(bytes), mem),
            _ => Effects::NONE,
        }
    }

    fn service(&mut self, mem: &GuestMemory) -> Effects {
        self.work(mem, None)
    }

    fn save_transport(&self) -> TransportState {
        self.save()
    }
}

fn half(value: u64, select: u32) -> u32 {
    match select {
        0 => (value & u64::from(u32::MAX)) as u32,
        1 => (value >> 32) as u32,
        _ => 0,
    }
}

fn set_low(address: &mut u64, value: u32) {
    *address = (*address & !u64::from(u32::MAX)) | u64::from(value);
}

fn set_high(address: &mut u64, value: u32) {
    *address = (*address & u64::from(u32::MAX)) | (u64::from(value) << 32);
}

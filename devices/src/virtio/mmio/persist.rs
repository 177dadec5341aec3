//! Saving a transport, and the constructor that distrusts what was saved.

use super::spec;
use super::state::TransportState;
use super::transport::Transport;
use crate::virtio::spec::{feature, status};
use crate::virtio::{Queue, VirtioDevice};
use crate::{GuestMemory, RestoreError};

impl<D: VirtioDevice> Transport<D> {
    /// Puts a saved transport around a device that was itself restored, and activates it where the driver was ready.
    ///
    /// # Errors
    /// The state is not one that a driver can bring this device into.
    pub fn restore(state: TransportState, device: D, mem: &GuestMemory) -> Result<Self, RestoreError> {
        let mut this = Self::new(device);
        this.check(&state)?;
        let TransportState {
            device_type: _,
            status,
            driver_features,
            device_features_sel,
            driver_features_sel,
            queue_sel,
            interrupt_status,
            config_generation,
            queues: saved,
        } = state;
        let event_idx = driver_features & feature::EVENT_IDX != 0;
        for (index, (state, queue)) in saved.into_iter().zip(&mut this.queues).enumerate() {
            *queue = Queue::restore(state, queue.max_size(), event_idx, mem)
                .map_err(|source| RestoreError::Queue { index, source })?;
        }
        if status & status::DRIVER_OK != 0 {
            this.device.activate(driver_features);
        }
        Ok(Self {
            status,
            driver_features,
            device_features_sel,
            driver_features_sel,
            queue_sel,
            interrupt_status,
            config_generation,
            ..this
        })
    }

    /// Everything but the queues' own addresses.
    fn check(&self, state: &TransportState) -> Result<(), RestoreError> {
        let field = |field, value| Err(RestoreError::Field { field, value });
        if state.device_type != self.device.device_type() {
            return field("device_type", u64::from(state.device_type));
        }
        if !status_is_reachable(state.status) {
            return field("status", u64::from(state.status));
        }
        let negotiated = state.status & status::FEATURES_OK != 0;
        if negotiated && !self.accepts(state.driver_features) {
            return field("driver_features", state.driver_features);
        }
        if state.interrupt_status & !(spec::INTERRUPT_VRING | spec::INTERRUPT_CONFIG) != 0 {
            return field("interrupt_status", u64::from(state.interrupt_status));
        }
        if state.queues.len() != self.queues.len() {
            return field("queues", state.queues.len() as u64);
        }
        if !negotiated && state.queues.iter().any(|queue| queue.ready) {
            return field("queue.ready", 1);
        }
        Ok(())
    }

    /// Whether a driver may settle on these features.
    pub(super) fn accepts(&self, driver_features: u64) -> bool {
        driver_features & !self.features() == 0 && driver_features & feature::VERSION_1 != 0
    }

    pub(super) fn save(&self) -> TransportState {
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
        TransportState {
            device_type: device.device_type(),
            status: *status,
            driver_features: *driver_features,
            device_features_sel: *device_features_sel,
            driver_features_sel: *driver_features_sel,
            queue_sel: *queue_sel,
            interrupt_status: *interrupt_status,
            config_generation: *config_generation,
            queues: queues.iter().map(Queue::save).collect(),
        }
    }
}

/// Each step needs the ones before it; FAILED and DEVICE_NEEDS_RESET may come at any time.
pub(super) fn status_is_reachable(status: u32) -> bool {
    const STEPS: [u32; 5] = [
        0,
        status::ACKNOWLEDGE,
        status::ACKNOWLEDGE | status::DRIVER,
        status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK,
        status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK | status::DRIVER_OK,
    ];
    STEPS.contains(&(status & !(status::FAILED | status::DEVICE_NEEDS_RESET)))
}

//! Saved state of a transport.

use serde::{Deserialize, Serialize};

use crate::virtio::QueueState;

/// Registers and queues of one transport; untrusted when it comes back. The device's own state is separate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransportState {
    /// Device type number.
    pub device_type: u32,
    /// Device status bits.
    pub status: u32,
    /// Features the driver accepted.
    pub driver_features: u64,
    /// Selected half of the device features.
    pub device_features_sel: u32,
    /// Selected half of the driver features.
    pub driver_features_sel: u32,
    /// Selected queue.
    pub queue_sel: u32,
    /// Interrupt status bits.
    pub interrupt_status: u32,
    /// Configuration generation.
    pub config_generation: u32,
    /// Every queue in order.
    pub queues: Vec<QueueState>,
}

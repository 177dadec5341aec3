//! What all virtio devices share: the device trait, queues, buffers and the MMIO transport.

mod buffers;
mod device;
mod mmio;
mod queue;
pub mod spec;
#[cfg(test)]
pub(crate) mod testing;

pub use buffers::{Buffers, MemoryError};
pub use device::{DeviceError, Progress, VirtioDevice};
pub(crate) use device::{Served, read_config_bytes, serve};
pub use mmio::{MMIO_REGION_SIZE, MmioDevice, Transport, TransportState};
pub use queue::{Chain, Queue, QueueError, QueueState};

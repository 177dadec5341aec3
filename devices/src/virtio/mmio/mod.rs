//! The virtio-mmio transport, version 2 (virtio 1.2 §4.2).

mod persist;
mod spec;
mod state;
#[cfg(test)]
mod tests;
mod transport;

pub use spec::REGION_SIZE as MMIO_REGION_SIZE;
pub use state::TransportState;
pub use transport::{MmioDevice, Transport};

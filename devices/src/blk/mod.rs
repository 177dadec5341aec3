//! virtio-blk: requests from a queue to a backend that the owner supplies, at once or later.

mod backend;
mod device;
mod request;
mod spec;
mod state;
#[cfg(test)]
mod tests;

pub use backend::BlockBackend;
pub use device::{Blk, BlkConfig};
pub use spec::SECTOR_SIZE;
pub use state::BlkState;

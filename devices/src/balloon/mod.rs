//! virtio-balloon: memory the guest gives back, by request (inflation) or by itself (free page reporting).

mod device;
mod spec;
mod state;
#[cfg(test)]
mod tests;

pub use device::{Balloon, MemoryReclaimer};
pub use spec::PAGE_SIZE;
pub use state::BalloonState;

//! virtio-rng: entropy from a source that the owner supplies.

mod device;
#[cfg(test)]
mod tests;

pub use device::{EntropySource, Rng};

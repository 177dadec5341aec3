//! The clock of an MC146818: wall time to read, nothing to set.

mod device;
mod spec;
#[cfg(test)]
mod tests;

pub use device::{Rtc, WallClock};

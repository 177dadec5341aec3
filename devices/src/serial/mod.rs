//! A 16550A UART: registers in, bytes and an interrupt level out.

mod device;
mod spec;
mod state;
#[cfg(test)]
mod tests;

pub use device::Serial;
pub use spec::{FIFO_SIZE, REGISTER_COUNT};
pub use state::SerialState;

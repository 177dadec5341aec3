//! Saved state of a UART.

use serde::{Deserialize, Serialize};

/// Registers and waiting input; untrusted when it comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SerialState {
    /// Interrupt enable register.
    pub interrupt_enable: u8,
    /// Line control register.
    pub line_control: u8,
    /// Modem control register.
    pub modem_control: u8,
    /// Scratch register.
    pub scratch: u8,
    /// Divisor latch.
    pub divisor: u16,
    /// Whether the FIFOs are enabled.
    pub fifo_enabled: bool,
    /// Whether the "transmitter empty" interrupt waits.
    pub transmit_pending: bool,
    /// Whether a byte was lost since the line status was last read.
    pub overrun: bool,
    /// Bytes that wait for the guest.
    pub input: Vec<u8>,
}

//! The reset line of a PC's keyboard controller, and nothing else of it.

#[cfg(test)]
mod tests;

/// Offset of the status (read) and command (write) port, from the data port.
const COMMAND: u8 = 4;
/// Pulses the output lines with bit 0 low, which is the CPU's reset (IBM PC AT technical reference, §1, 8042 commands).
const PULSE_RESET: u8 = 0xfe;

/// What a write asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum I8042Effect {
    /// Reset the machine.
    Reset,
}

/// A keyboard controller without a keyboard. It has no state.
#[derive(Debug, Clone, Copy, Default)]
pub struct I8042;

impl I8042 {
    /// A controller.
    #[must_use]
    pub fn new() -> Self {
        Self
    }

    /// Reads a port, 0 for data (0x60) or 4 for status (0x64): no data, and always ready for a command.
    #[must_use]
    pub fn read(&self, _offset: u8) -> u8 {
        0
    }

    /// Writes a port, 0 for data (0x60) or 4 for commands (0x64).
    #[must_use]
    pub fn write(&self, offset: u8, value: u8) -> Option<I8042Effect> {
        (offset == COMMAND && value == PULSE_RESET).then_some(I8042Effect::Reset)
    }
}

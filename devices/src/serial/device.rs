//! The UART. Transmission takes no time, so the transmitter is always empty.

use std::collections::VecDeque;

use super::{SerialState, spec};
use crate::RestoreError;

/// A 16550A. After any call, ask [`take_level_change`](Self::take_level_change) and move the interrupt line.
#[derive(Debug)]
pub struct Serial {
    interrupt_enable: u8,
    line_control: u8,
    modem_control: u8,
    scratch: u8,
    divisor: u16,
    fifo_enabled: bool,
    transmit_pending: bool,
    overrun: bool,
    input: VecDeque<u8>,
    /// Level the owner was last told.
    told_level: bool,
}

impl Default for Serial {
    fn default() -> Self {
        Self::new()
    }
}

impl Serial {
    /// A UART after reset.
    #[must_use]
    pub fn new() -> Self {
        Self {
            interrupt_enable: 0,
            line_control: 0,
            modem_control: 0,
            scratch: 0,
            divisor: spec::DEFAULT_DIVISOR,
            fifo_enabled: false,
            transmit_pending: false,
            overrun: false,
            input: VecDeque::with_capacity(spec::FIFO_SIZE),
            told_level: false,
        }
    }

    /// A UART as it was saved. The line's level is reported anew if it is high.
    ///
    /// # Errors
    /// A register has bits it cannot have, or there is too much input.
    pub fn restore(state: SerialState) -> Result<Self, RestoreError> {
        let SerialState {
            interrupt_enable,
            line_control,
            modem_control,
            scratch,
            divisor,
            fifo_enabled,
            transmit_pending,
            overrun,
            input,
        } = state;
        let field = |field, value| Err(RestoreError::Field { field, value });
        if interrupt_enable & !spec::IER_MASK != 0 {
            return field("interrupt_enable", u64::from(interrupt_enable));
        }
        if modem_control & !spec::MCR_MASK != 0 {
            return field("modem_control", u64::from(modem_control));
        }
        if input.len() > spec::FIFO_SIZE {
            return field("input", input.len() as u64);
        }
        Ok(Self {
            interrupt_enable,
            line_control,
            modem_control,
            scratch,
            divisor,
            fifo_enabled,
            transmit_pending,
            overrun,
            input: input.into(),
            told_level: false,
        })
    }

    /// State to save.
    #[must_use]
    pub fn save(&self) -> SerialState {
        let Self {
            interrupt_enable,
            line_control,
            modem_control,
            scratch,
            divisor,
            fifo_enabled,
            transmit_pending,
            overrun,
            input,
            told_level: _,
        } = self;
        SerialState {
            interrupt_enable: *interrupt_enable,
            line_control: *line_control,
            modem_control: *modem_control,
            scratch: *scratch,
            divisor: *divisor,
            fifo_enabled: *fifo_enabled,
            transmit_pending: *transmit_pending,
            overrun: *overrun,
            input: input.iter().copied().collect(),
        }
    }

    /// Reads the register at `offset`; there are eight.
    pub fn read(&mut self, offset: u8) -> u8 {
        let [divisor_low, divisor_high] = self.divisor.to_le_bytes();
        match offset {
            spec::DATA if self.dlab() => divisor_low,
            spec::IER if self.dlab() => divisor_high,
            spec::DATA => self.input.pop_front().unwrap_or(0),
            spec::IER => self.interrupt_enable,
            spec::IIR_FCR => self.read_interrupt_identification(),
            spec::LCR => self.line_control,
            spec::MCR => self.modem_control,
            spec::LSR => self.read_line_status(),
            spec::MSR => self.modem_status(),
            spec::SCR => self.scratch,
            _ => 0,
        }
    }

    /// Writes the register at `offset`. Gives the byte that was sent, if one was.
    pub fn write(&mut self, offset: u8, value: u8) -> Option<u8> {
        let [divisor_low, divisor_high] = self.divisor.to_le_bytes();
        match offset {
            spec::DATA if self.dlab() => self.divisor = u16::from_le_bytes([value, divisor_high]),
            spec::IER if self.dlab() => self.divisor = u16::from_le_bytes([divisor_low, value]),
            spec::DATA => return self.transmit(value),
            spec::IER => {
                // Enabling the interrupt while the transmitter is empty raises it at once; Linux probes for that.
                let newly = value & !self.interrupt_enable;
                self.transmit_pending |= newly & spec::IER_TRANSMIT_EMPTY != 0;
                self.interrupt_enable = value & spec::IER_MASK;
            }
            spec::IIR_FCR => self.write_fifo_control(value),
            spec::LCR => self.line_control = value,
            spec::MCR => self.modem_control = value & spec::MCR_MASK,
            spec::SCR => self.scratch = value,
            _ => {}
        }
        None
    }

    /// Takes bytes from the host as far as there is room and gives how many it took.
    pub fn receive(&mut self, bytes: &[u8]) -> usize {
        if self.in_loopback() {
            return 0;
        }
        let count = bytes.len().min(self.room());
        self.input.extend(bytes.iter().take(count));
        count
    }

    /// Bytes that [`receive`](Self::receive) has room for.
    #[must_use]
    pub fn room(&self) -> usize {
        spec::FIFO_SIZE.saturating_sub(self.input.len())
    }

    /// Level of the interrupt output.
    #[must_use]
    pub fn interrupt_level(&self) -> bool {
        self.interrupt_source() != spec::IIR_NONE
    }

    /// The new level, if it is another than at the last call.
    pub fn take_level_change(&mut self) -> Option<bool> {
        let level = self.interrupt_level();
        (std::mem::replace(&mut self.told_level, level) != level).then_some(level)
    }

    fn dlab(&self) -> bool {
        self.line_control & spec::LCR_DLAB != 0
    }

    fn in_loopback(&self) -> bool {
        self.modem_control & spec::MCR_LOOP != 0
    }

    fn transmit(&mut self, value: u8) -> Option<u8> {
        self.transmit_pending = true;
        if !self.in_loopback() {
            return Some(value);
        }
        if self.room() == 0 {
            self.overrun = true;
        } else {
            self.input.push_back(value);
        }
        None
    }

    /// Highest source that is both enabled and pending.
    fn interrupt_source(&self) -> u8 {
        let enabled = |bit| self.interrupt_enable & bit != 0;
        if enabled(spec::IER_LINE) && self.overrun {
            spec::IIR_LINE
        } else if enabled(spec::IER_RECEIVED) && !self.input.is_empty() {
            spec::IIR_RECEIVED
        } else if enabled(spec::IER_TRANSMIT_EMPTY) && self.transmit_pending {
            spec::IIR_TRANSMIT_EMPTY
        } else {
            spec::IIR_NONE
        }
    }

    /// Reading it clears "transmitter empty" where that is what it says.
    fn read_interrupt_identification(&mut self) -> u8 {
        let source = self.interrupt_source();
        if source == spec::IIR_TRANSMIT_EMPTY {
            self.transmit_pending = false;
        }
        if self.fifo_enabled { source | spec::IIR_FIFOS_ON } else { source }
    }

    fn write_fifo_control(&mut self, value: u8) {
        let enable = value & spec::FCR_ENABLE != 0;
        // Input from the host survives the FIFO being switched, and even the clear of a driver that starts up would
        // lose what was typed early; but a driver that asks for a clear gets one.
        if enable && value & spec::FCR_CLEAR_RECEIVE != 0 {
            self.input.clear();
        }
        self.fifo_enabled = enable;
    }

    fn read_line_status(&mut self) -> u8 {
        let mut status = spec::LSR_TRANSMIT_EMPTY | spec::LSR_IDLE;
        if !self.input.is_empty() {
            status |= spec::LSR_DATA_READY;
        }
        if std::mem::take(&mut self.overrun) {
            status |= spec::LSR_OVERRUN;
        }
        status
    }

    /// In loopback the four outputs are the four inputs; else the other end is there and ready.
    fn modem_status(&self) -> u8 {
        if !self.in_loopback() {
            return spec::MSR_CTS | spec::MSR_DSR | spec::MSR_DCD;
        }
        let pairs = [
            (spec::MCR_RTS, spec::MSR_CTS),
            (spec::MCR_DTR, spec::MSR_DSR),
            (spec::MCR_OUT1, spec::MSR_RI),
            (spec::MCR_OUT2, spec::MSR_DCD),
        ];
        pairs.iter().filter(|(output, _)| self.modem_control & output != 0).fold(0, |status, (_, input)| status | input)
    }
}

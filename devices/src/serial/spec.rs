//! Register layout of the PC16550D (National Semiconductor data sheet, §8).

/// Registers, one byte each.
pub const REGISTER_COUNT: u8 = 8;
/// Bytes from the host that wait for the guest. The chip has 16; the guest cannot tell a deeper one.
pub const FIFO_SIZE: usize = 64;

/// RBR on read, THR on write; divisor latch low with DLAB.
pub(super) const DATA: u8 = 0;
/// Interrupt enable; divisor latch high with DLAB.
pub(super) const IER: u8 = 1;
/// IIR on read, FCR on write.
pub(super) const IIR_FCR: u8 = 2;
pub(super) const LCR: u8 = 3;
pub(super) const MCR: u8 = 4;
pub(super) const LSR: u8 = 5;
pub(super) const MSR: u8 = 6;
pub(super) const SCR: u8 = 7;

pub(super) const IER_RECEIVED: u8 = 0x01;
pub(super) const IER_TRANSMIT_EMPTY: u8 = 0x02;
pub(super) const IER_LINE: u8 = 0x04;
pub(super) const IER_MASK: u8 = 0x0f;

pub(super) const IIR_NONE: u8 = 0x01;
pub(super) const IIR_TRANSMIT_EMPTY: u8 = 0x02;
pub(super) const IIR_RECEIVED: u8 = 0x04;
pub(super) const IIR_LINE: u8 = 0x06;
pub(super) const IIR_FIFOS_ON: u8 = 0xc0;

pub(super) const FCR_ENABLE: u8 = 0x01;
pub(super) const FCR_CLEAR_RECEIVE: u8 = 0x02;

pub(super) const LCR_DLAB: u8 = 0x80;

pub(super) const MCR_DTR: u8 = 0x01;
pub(super) const MCR_RTS: u8 = 0x02;
pub(super) const MCR_OUT1: u8 = 0x04;
pub(super) const MCR_OUT2: u8 = 0x08;
pub(super) const MCR_LOOP: u8 = 0x10;
pub(super) const MCR_MASK: u8 = 0x1f;

pub(super) const LSR_DATA_READY: u8 = 0x01;
pub(super) const LSR_OVERRUN: u8 = 0x02;
pub(super) const LSR_TRANSMIT_EMPTY: u8 = 0x20;
pub(super) const LSR_IDLE: u8 = 0x40;

pub(super) const MSR_CTS: u8 = 0x10;
pub(super) const MSR_DSR: u8 = 0x20;
pub(super) const MSR_RI: u8 = 0x40;
pub(super) const MSR_DCD: u8 = 0x80;

/// 9600 baud from the usual 1.8432 MHz clock.
pub(super) const DEFAULT_DIVISOR: u16 = 12;

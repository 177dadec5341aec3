//! Register numbers of the MC146818 (Motorola data sheet, table "address map"), and the century byte PCs add.

pub(super) const SECONDS: u8 = 0x00;
pub(super) const MINUTES: u8 = 0x02;
pub(super) const HOURS: u8 = 0x04;
pub(super) const DAY_OF_WEEK: u8 = 0x06;
pub(super) const DAY_OF_MONTH: u8 = 0x07;
pub(super) const MONTH: u8 = 0x08;
pub(super) const YEAR: u8 = 0x09;
pub(super) const REGISTER_A: u8 = 0x0a;
pub(super) const REGISTER_B: u8 = 0x0b;
pub(super) const REGISTER_D: u8 = 0x0d;
pub(super) const CENTURY: u8 = 0x32;

/// Time base 32.768 kHz, no update in progress.
pub(super) const A_VALUE: u8 = 0x26;
/// 24-hour mode, BCD.
pub(super) const B_VALUE: u8 = 0x02;
/// RAM and time are valid.
pub(super) const D_VALUE: u8 = 0x80;
/// Bit 7 of the index port masks NMIs.
pub(super) const INDEX_MASK: u8 = 0x7f;

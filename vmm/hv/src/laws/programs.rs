//! Machine code of the laws' guests, each instruction with its assembly beside it.
//!
//! A program ends by writing port F4h. RAM below 20000h is the machine's; programs keep their data from there.

pub(crate) mod compute;
pub(crate) mod fault;
pub(crate) mod interrupt;
pub(crate) mod io;
pub(crate) mod kick;
pub(crate) mod smp;
pub(crate) mod state;

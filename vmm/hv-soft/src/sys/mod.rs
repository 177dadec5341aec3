//! System level: exceptions, segments, control registers, MSRs, and transfers between privilege levels.

pub(crate) mod control;
pub(crate) mod exception;
pub(crate) mod fxsave;
pub(crate) mod msr;
pub(crate) mod random;
pub(crate) mod segments;
pub(crate) mod transfer;

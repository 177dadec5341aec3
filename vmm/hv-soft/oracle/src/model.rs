//! What is compared with the host: a CPU that runs one instruction.

use crate::generate::Case;
use crate::state::{CpuState, Fault};

/// A CPU model under test. Its memory is the layout's, filled by the caller.
pub trait Model {
    /// Replaces the code pages.
    fn set_code(&mut self, code: &[u8]);
    /// Writes into the window, whatever its protection.
    fn write_window(&mut self, offset: usize, bytes: &[u8]);
    /// Reads the window.
    fn read_window(&mut self, offset: usize, bytes: &mut [u8]);
    /// Runs `case` from `state` and puts what it leaves into `state`, also where it faults.
    fn step(&mut self, case: &Case, state: &mut CpuState) -> Result<(), ModelStop>;
}

/// Why the model's instruction did not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelStop {
    /// An exception.
    Fault(Fault),
    /// Something no user instruction may cause.
    Wrong(&'static str),
}

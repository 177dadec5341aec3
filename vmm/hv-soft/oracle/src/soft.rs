//! The soft back end as a [`Model`]: its memory with page tables that map exactly the layout.

use supermachine_hv::{GuestMemory, HvError};
use supermachine_hv_soft::single::{SingleStepper, Stopped, UserState};
use vm_memory::{Bytes, GuestAddress};

use crate::forms::CpuModel;
use crate::generate::Case;
use crate::layout::{CODE_BASE, CODE_LEN, FS_BASE, GS_BASE, Landing, PAGE, WINDOW_BASE, WINDOW_LEN, WINDOW_RW_LEN};
use crate::model::{Model, ModelStop};
use crate::state::{CpuState, Fault, PAGE_FAULT};

const MEMORY_LEN: usize = 1 << 20;
/// Guest physical addresses of the tables, from the top level down, and of what they map.
const PML4: u64 = 0x1000;
const DIRECTORY_POINTERS: u64 = 0x2000;
const DIRECTORY: u64 = 0x3000;
const CODE_TABLE: u64 = 0x4000;
const WINDOW_TABLE: u64 = 0x5000;
const CODE: u64 = 0x1_0000;
const WINDOW: u64 = 0x2_0000;
/// Page table entry bits (Intel SDM vol. 3, 4.5.4).
const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const NO_EXECUTE: u64 = 1 << 63;

/// The soft back end's CPU and its memory.
pub struct Soft {
    stepper: SingleStepper,
    memory: GuestMemory,
    /// Run cases as blocks, as the product does, not one instruction at a time.
    blocks: bool,
}

impl Soft {
    /// A CPU of this model that runs cases as decoded blocks, or each instruction alone.
    ///
    /// # Errors
    /// Where memory cannot be had.
    pub fn new(model: CpuModel, blocks: bool) -> Result<Self, HvError> {
        let unavailable = |error: &dyn std::fmt::Display| HvError::Unavailable {
            kind: supermachine_hv::HypervisorKind::Soft,
            reason: error.to_string(),
        };
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY_LEN)]).map_err(|error| unavailable(&error))?;
        for (address, entry) in tables() {
            memory.write_slice(&entry.to_le_bytes(), GuestAddress(address)).map_err(|error| unavailable(&error))?;
        }
        let model = match model {
            CpuModel::V1 => supermachine_hv_soft::Model::V1,
            CpuModel::V2 => supermachine_hv_soft::Model::V2,
        };
        let stepper = SingleStepper::new(model, memory.clone(), PML4, [FS_BASE, GS_BASE])?;
        Ok(Soft { stepper, memory, blocks })
    }
}

/// All page table entries as (guest physical address, value).
fn tables() -> Vec<(u64, u64)> {
    let all = PRESENT | WRITABLE | USER | ACCESSED | DIRTY;
    let directory = |linear: u64| DIRECTORY + 8 * (linear >> 21);
    let leaf = |table: u64, linear: u64| table + 8 * (linear >> 12 & 511);
    let mut entries = vec![
        (PML4, DIRECTORY_POINTERS | all),
        (DIRECTORY_POINTERS, DIRECTORY | all),
        (directory(CODE_BASE), CODE_TABLE | all),
        (directory(WINDOW_BASE), WINDOW_TABLE | all),
    ];
    for offset in (0..CODE_LEN as u64).step_by(PAGE) {
        entries.push((leaf(CODE_TABLE, CODE_BASE + offset), (CODE + offset) | (all & !WRITABLE)));
    }
    for offset in (0..WINDOW_LEN as u64).step_by(PAGE) {
        let rights = if offset < WINDOW_RW_LEN as u64 { all } else { all & !WRITABLE };
        entries.push((leaf(WINDOW_TABLE, WINDOW_BASE + offset), (WINDOW + offset) | rights | NO_EXECUTE));
    }
    entries
}

// The accesses below are inside the memory that `new` made, so they cannot fail; if they did, the comparison would.
impl Model for Soft {
    fn set_code(&mut self, code: &[u8]) {
        let _inside = self.memory.write_slice(code, GuestAddress(CODE));
    }

    fn write_window(&mut self, offset: usize, bytes: &[u8]) {
        let _inside = self.memory.write_slice(bytes, GuestAddress(WINDOW + offset as u64));
    }

    fn read_window(&mut self, offset: usize, bytes: &mut [u8]) {
        let _inside = self.memory.read_slice(bytes, GuestAddress(WINDOW + offset as u64));
    }

    fn step(&mut self, case: &Case, state: &mut CpuState) -> Result<(), ModelStop> {
        let mut user = UserState { fx: state.fx, gpr: state.gpr, rflags: state.rflags, rip: state.rip };
        let result = if self.blocks {
            self.stepper.step_block(&mut user, case.landings()[Landing::Next as usize])
        } else {
            self.stepper.step(&mut user)
        };
        (state.fx, state.gpr, state.rflags, state.rip) = (user.fx, user.gpr, user.rflags, user.rip);
        result.map_err(|stopped| match stopped {
            Stopped::Exception { vector, error, address } => {
                let address = if vector == PAGE_FAULT { address } else { 0 };
                ModelStop::Fault(Fault { vector, error, address })
            }
            Stopped::Other(reason) => ModelStop::Wrong(reason),
        })
    }
}

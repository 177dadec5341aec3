//! The session catches a model that is wrong in one small thing, and only then.

use crate::forms::{CpuModel, catalogue};
use crate::generate::Case;
use crate::model::{Model, ModelStop};
use crate::session::{Mismatch, Plan, Session};
use crate::soft::Soft;
use crate::state::{CpuState, RAX};

/// What is wrong with the model.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lie {
    Nothing,
    Register,
    Carry,
    Fault,
    /// A byte that no case watches.
    StrayWrite,
}

struct Liar {
    soft: Soft,
    lie: Lie,
    steps: u32,
}

impl Model for Liar {
    fn set_code(&mut self, code: &[u8]) {
        self.soft.set_code(code);
    }

    fn write_window(&mut self, offset: usize, bytes: &[u8]) {
        self.soft.write_window(offset, bytes);
    }

    fn read_window(&mut self, offset: usize, bytes: &mut [u8]) {
        self.soft.read_window(offset, bytes);
    }

    fn step(&mut self, case: &Case, state: &mut CpuState) -> Result<(), ModelStop> {
        self.steps += 1;
        let before = *state;
        let result = self.soft.step(case, state);
        if !self.steps.is_multiple_of(100) {
            return result;
        }
        match self.lie {
            Lie::Nothing => {}
            Lie::Register => state.gpr[RAX] ^= 1 << 40,
            Lie::Carry => state.rflags ^= 1,
            Lie::Fault => {
                *state = before;
                return Err(ModelStop::Wrong("a lie"));
            }
            Lie::StrayWrite => self.soft.write_window(0x1700, &self.steps.to_le_bytes()),
        }
        result
    }
}

fn run(lie: Lie, only: &str) -> Vec<Mismatch> {
    let (forms, _) = catalogue(CpuModel::V2, only);
    let plan = Plan { seed: 7, give_up_after: u64::MAX, follow: false };
    let liar = Liar { soft: Soft::new(CpuModel::V2, false).unwrap(), lie, steps: 0 };
    let mut session = Session::new(liar, forms, CpuModel::V2, plan).unwrap();
    (0..20).flat_map(|batch| session.batch(batch).unwrap()).collect()
}

#[test]
fn an_honest_model_passes() {
    for only in ["Add_", "Mov_r", "Cmpxchg", "Push", "Imul_"] {
        let found = run(Lie::Nothing, only);
        assert!(found.is_empty(), "{only}: {:?}", found[0].fields);
    }
}

#[test]
fn each_lie_is_found_with_its_field() {
    for (lie, field) in [(Lie::Register, "rax"), (Lie::Carry, "rflags"), (Lie::Fault, "end")] {
        let found = run(lie, "Add_");
        assert!(found.len() >= 20, "{field}: {}", found.len());
        let named = found.iter().filter(|one| one.fields.iter().any(|text| text.starts_with(field))).count();
        assert_eq!(named, found.len(), "{field}");
    }
}

#[test]
fn a_write_that_nobody_watches_is_found() {
    let found = run(Lie::StrayWrite, "Lea_");
    assert!(!found.is_empty());
    assert!(found.iter().all(|one| one.fields[0].starts_with("window+")), "{:?}", found[0].fields);
}

#[test]
fn a_mismatch_comes_again_from_its_numbers() {
    let first = run(Lie::Nothing, "Sub_");
    assert!(first.is_empty());
    let (one, two) = (run(Lie::Register, "Sub_"), run(Lie::Register, "Sub_"));
    assert_eq!(one.len(), two.len());
    assert!(one.iter().zip(&two).all(|(a, b)| (a.batch, a.index, a.case.code()) == (b.batch, b.index, b.case.code())));
}

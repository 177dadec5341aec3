//! The session catches a model that is wrong in one small thing, and only then.

use iced_x86::{Mnemonic, OpKind};

use crate::forms::{CpuModel, catalogue};
use crate::generate::Case;
use crate::model::{Model, ModelStop};
use crate::report;
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
    /// ADC computes its carry as ADD may: the sum is below the first operand. Wrong only where the second operand is
    /// all ones and a carry comes in.
    CarryOfAdc,
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
        if self.lie == Lie::CarryOfAdc && result.is_ok() {
            carry_of_adc(case, &before, state);
        }
        if !self.steps.is_multiple_of(100) {
            return result;
        }
        match self.lie {
            Lie::Nothing | Lie::CarryOfAdc => {}
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

/// Sets the carry of an ADC on two registers as `a + b + carry < a`.
fn carry_of_adc(case: &Case, before: &CpuState, after: &mut CpuState) {
    let instruction = &case.instruction;
    let registers = [0, 1].iter().all(|&operand| instruction.op_kind(operand) == OpKind::Register);
    let bits = 8 * instruction.op0_register().size() as u32;
    if instruction.mnemonic() != Mnemonic::Adc || !registers || bits < 16 {
        return;
    }
    let value = |operand| before.gpr[instruction.op_register(operand).number()] & (u64::MAX >> (64 - bits));
    let sum = value(0).wrapping_add(value(1)).wrapping_add(before.rflags & 1) & (u64::MAX >> (64 - bits));
    after.rflags = after.rflags & !1 | u64::from(sum < value(0));
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
fn a_wrong_carry_is_found_among_all_forms() {
    let (forms, _) = catalogue(CpuModel::V2, "");
    let plan = Plan { seed: 7, give_up_after: u64::MAX, follow: false };
    let liar = Liar { soft: Soft::new(CpuModel::V2, false).unwrap(), lie: Lie::CarryOfAdc, steps: 0 };
    let mut session = Session::new(liar, forms, CpuModel::V2, plan).unwrap();
    // A quarter of a million cases of which some hundred are such ADCs, and few of those on registers with these operands.
    let found: Vec<_> = (0..1_000).flat_map(|batch| session.batch(batch).unwrap()).collect();
    println!("{} found", found.len());
    for one in found.iter().take(3) {
        let (form, _) = session.counts().nth(one.case.form).unwrap();
        println!("{}", report::mismatch(one, form, "soft-oracle --model v2 --seed 7"));
    }
    assert!(!found.is_empty());
    assert!(found.iter().all(|one| one.case.instruction.mnemonic() == Mnemonic::Adc));
    let only_flags = |one: &Mismatch| one.fields.len() == 1 && one.fields[0].starts_with("rflags: ");
    assert!(found.iter().all(only_flags));
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

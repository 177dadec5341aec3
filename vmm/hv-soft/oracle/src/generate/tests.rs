//! What the generator promises.

use super::*;
use crate::forms::catalogue;

#[test]
fn every_form_of_the_catalogue_can_be_made() {
    let (forms, _) = catalogue(CpuModel::V2, "");
    let count = forms.len();
    let mut generator = Generator::new(forms, CpuModel::V2, false);
    let mut pool = Pool::default();
    let mut rng = Rng::new(1, 2);
    for form in 0..count {
        pool.clear();
        let made = (0..60).filter(|&index| generator.case_of(form, &mut rng, index, &mut pool).is_some()).count();
        assert!(made > 15, "{:?} could be made {made} times of 60", generator.forms()[form].code);
    }
}

#[test]
fn what_is_encoded_decodes_to_the_same_form() {
    let (forms, _) = catalogue(CpuModel::V2, "");
    let mut generator = Generator::new(forms, CpuModel::V2, false);
    let mut pool = Pool::default();
    let mut rng = Rng::new(3, 4);
    for index in 0..20_000 {
        pool.clear();
        let Some(case) = generator.case(&mut rng, index % 64, &mut pool) else { continue };
        let options = DecoderOptions::FORCE_RESERVED_NOP;
        let plain = Decoder::with_ip(64, case.code(), case.state.rip, DecoderOptions::NONE).decode();
        let reserved = Decoder::with_ip(64, case.code(), case.state.rip, options).decode();
        let code = case.instruction.code();
        let no_operation = plain.mnemonic() == iced_x86::Mnemonic::Nop; // XCHG of the accumulator with itself
        assert!(
            no_operation || plain.code() == code || reserved.code() == code,
            "{code:?} became {:?}: {:x?}",
            plain.code(),
            case.code()
        );
    }
}

#[test]
fn the_same_numbers_give_the_same_case() {
    let mut pool = Pool::default();
    let mut make = || {
        let (forms, _) = catalogue(CpuModel::V1, "add");
        pool.clear();
        Generator::new(forms, CpuModel::V1, false).case(&mut Rng::new(9, 9), 3, &mut pool)
    };
    let (first, second) = (make().unwrap(), make().unwrap());
    assert_eq!(first.code(), second.code());
    assert_eq!(first.state.gpr, second.state.gpr);
}

//! What CPUID does not declare is undefined, so that a guest that tries finds out.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use iced_x86::{Code, CpuidFeature};
use supermachine_soft_oracle::forms::{CpuModel, Form, Lanes, catalogue};
use supermachine_soft_oracle::generate::{Generator, Pool};
use supermachine_soft_oracle::layout::{CODE_LEN, INT3};
use supermachine_soft_oracle::model::{Model, ModelStop};
use supermachine_soft_oracle::rng::Rng;
use supermachine_soft_oracle::soft::Soft;
use supermachine_soft_oracle::state::Fault;

/// Declared, but with results of the machine's own, so not in the catalogue; or hints and new meanings of old
/// encodings, which older processors run as no operation or as the old instruction.
fn excused(feature: CpuidFeature) -> bool {
    use CpuidFeature::*;
    let own = matches!(feature, CPUID | TSC | RDTSCP | RDRAND | RDSEED);
    let hint = matches!(feature, CET_SS | CLDEMOTE | PREFETCHW | PREFETCHWT1 | PREFETCHITI);
    own || hint || matches!(feature, BMI1 | LZCNT)
}

fn undeclared(model: CpuModel) -> Vec<Form> {
    let (tested, left) = catalogue(model, "");
    let known = |code: Code| tested.iter().any(|form| form.code == code) || left.iter().any(|form| form.code == code);
    Code::values()
        .filter(|&code| code.op_code().is_instruction() && code.op_code().mode64() && !known(code))
        // These leave the machine.
        .filter(|code| !matches!(code, Code::Vmcall | Code::Vmmcall))
        .filter(|code| !code.cpuid_features().iter().any(|&feature| excused(feature)))
        .map(|code| Form {
            code,
            kinds: code.op_code().op_kinds().to_vec(),
            lanes: Lanes::Integer,
            stack: false,
            x87: false,
            privileged: false,
        })
        .collect()
}

#[test]
fn what_v1_does_not_declare_is_undefined() {
    undeclared_instructions_are_undefined(CpuModel::V1);
}

#[test]
fn what_v2_does_not_declare_is_undefined() {
    undeclared_instructions_are_undefined(CpuModel::V2);
}

fn undeclared_instructions_are_undefined(model: CpuModel) {
    let forms = undeclared(model);
    let mut soft = Soft::new(model, false).unwrap();
    let mut generator = Generator::new(forms.clone(), model, false);
    let (mut pool, mut rng) = (Pool::default(), Rng::new(1, 1));
    let mut code = vec![INT3; CODE_LEN];
    let mut made = 0;
    let undefined = Err(ModelStop::Fault(Fault { vector: 6, error: 0, address: 0 }));
    for (number, form) in forms.iter().enumerate() {
        for _ in 0..20 {
            pool.clear();
            // Operands that the catalogue never has (YMM, masks) are not made.
            let Some(case) = generator.case_of(number, &mut rng, 1, &mut pool) else { continue };
            made += 1;
            case.place.write(&mut code, case.code());
            soft.set_code(&code);
            let mut state = case.state;
            let result = soft.step(&case, &mut state);
            // An instruction of the kernel may fault for being that.
            let privileged = Err(ModelStop::Fault(Fault { vector: 13, error: 0, address: 0 }));
            let allowed = result == undefined || form.code.op_code().must_be_cpl0() && result == privileged;
            assert!(allowed, "{:?} {:x?}: {result:?}", form.code, case.code());
        }
    }
    assert!(made > 5_000, "{made}");
}

//! What a run says: mismatches as one-line reproducers, counts per form, figures.

use std::time::Duration;

use iced_x86::{Decoder, DecoderOptions, Formatter, InstructionInfoFactory, IntelFormatter, OpAccess, Register};

use crate::compare::hex;
use crate::forms::{Form, Left};
use crate::generate::Case;
use crate::session::{Count, Mismatch};
use crate::state::GPR_NAMES;

/// One mismatch as text: how to get it again, the instruction, its inputs, what differs.
pub fn mismatch(found: &Mismatch, form: &Form, command: &str) -> String {
    let case = &found.case;
    let mut text = format!(
        "MISMATCH {:?}: {}\n  again: {command} --batch {} --index {}\n  code: {} at {:#x}\n  input:{}\n",
        form.code,
        disassembly(case),
        found.batch,
        found.index,
        case.code().iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        case.state.rip,
        inputs(case, form),
    );
    for (offset, bytes) in &found.memory {
        let shown = &bytes[..bytes.len().min(32)];
        text += &format!("  memory: window+{offset:#x} {}\n", hex(shown));
    }
    for field in &found.fields {
        text += &format!("  {field}\n");
    }
    text
}

fn disassembly(case: &Case) -> String {
    let mut decoder = Decoder::with_ip(64, case.code(), case.state.rip, DecoderOptions::FORCE_RESERVED_NOP);
    let (mut all, mut formatter) = (Vec::new(), IntelFormatter::new());
    while decoder.can_decode() {
        let mut text = String::new();
        formatter.format(&decoder.decode(), &mut text);
        all.push(text);
    }
    all.join("; ")
}

/// The registers that the instruction reads.
fn inputs(case: &Case, form: &Form) -> String {
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(&case.instruction);
    let mut text = format!(" rflags={:#x}", case.state.rflags);
    let mut seen = Vec::new();
    for used in info.used_registers() {
        let register = used.register().full_register();
        if used.access() == OpAccess::Write || seen.contains(&register) {
            continue;
        }
        seen.push(register);
        if register.is_gpr() {
            let number = register as usize - Register::RAX as usize;
            text += &format!(" {}={:#x}", GPR_NAMES[number], case.state.gpr[number]);
        } else if register.is_vector_register() {
            let number = register.number();
            text += &format!(" xmm{number}={}", hex(case.state.xmm(number)));
        }
    }
    if case.state.mxcsr() != 0x1f80 {
        text += &format!(" mxcsr={:#x}", case.state.mxcsr());
    }
    if form.x87 {
        text += &format!(" fcw={:#x} fsw={:#x} tags={:#x}", case.state.fx16(0), case.state.fx16(2), case.state.fx[4]);
        for index in 0..8 {
            text += &format!(" st{index}={}", hex(case.state.st(index)));
        }
    }
    text
}

/// Counts per form and the forms left out.
pub fn coverage<'a>(counts: impl Iterator<Item = (&'a Form, Count)>, left: &[Left]) -> String {
    let mut text = String::new();
    for (form, count) in counts {
        let Count { cases, faults, mismatches } = count;
        text += &format!("form {:?} cases {cases} faults {faults} mismatches {mismatches}\n", form.code);
    }
    for form in left {
        text += &format!("left {:?}: {}\n", form.code, form.reason);
    }
    text
}

/// The last lines: `name value unit bound`.
pub fn figures<'a>(counts: impl Iterator<Item = (&'a Form, Count)>, left: &[Left], time: Duration) -> String {
    let (mut total, mut forms, mut never, mut clean, mut differ) = (Count::default(), 0, 0, 0, 0);
    for (_, count) in counts {
        forms += 1;
        never += usize::from(count.cases == 0);
        clean += usize::from(count.cases > 0 && count.cases == count.faults);
        differ += usize::from(count.mismatches > 0);
        total.cases += count.cases;
        total.faults += count.faults;
        total.mismatches += count.mismatches;
    }
    let rate = total.cases as f64 / time.as_secs_f64().max(1e-9);
    format!(
        "oracle-cases {} cases >0\noracle-faults {} cases >0\noracle-rate {rate:.0} cases/s >100000\n\
         oracle-forms {forms} forms >0\noracle-forms-left-out {} forms -\noracle-forms-not-reached {never} forms -\n\
         oracle-forms-only-faulting {clean} forms -\noracle-forms-differing {differ} forms =0\n\
         oracle-mismatches {} cases =0\n",
        total.cases,
        total.faults,
        left.len(),
        total.mismatches,
    )
}

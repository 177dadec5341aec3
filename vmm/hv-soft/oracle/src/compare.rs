//! Compares what both sides left.

use crate::generate::Case;
use crate::mask::{self, Mask, same_f32_lanes, same_f80};
use crate::model::ModelStop;
use crate::state::{CpuState, Fault, GPR_NAMES, Outcome, PAGE_FAULT, WATCH_LEN};

/// What the model made of a case.
#[derive(Clone, Copy)]
pub struct Modelled {
    /// State afterwards.
    pub state: CpuState,
    /// Why it did not complete.
    pub stop: Option<ModelStop>,
    /// The watched places.
    pub watch: [[u8; WATCH_LEN]; 2],
}

/// Whether everything that counts is equal.
pub fn same(case: &Case, native: &Outcome, model: &Modelled) -> bool {
    if !same_end(case, native.fault, model.stop) || native.watch != model.watch {
        return false;
    }
    let (a, b) = (&native.state, &model.state);
    let mask = mask_for(case, native.fault);
    a.gpr == b.gpr
        && a.rip == b.rip
        && (a.rflags ^ b.rflags) & !mask.flags == 0
        && (a.fx[..FX_EXACT] == b.fx[..FX_EXACT] && a.fx[24..28] == b.fx[24..28] || same_header(a, b, mask))
        && same_registers(a, b, mask)
}

/// Processors differ in which of the pages of a long operand they try first, so of its page fault only that it is one is
/// compared; and in which of CMPS's two operands, so there only that it is a fault.
fn same_end(case: &Case, native: Option<Fault>, model: Option<ModelStop>) -> bool {
    use iced_x86::Mnemonic::*;
    let mnemonic = case.instruction.mnemonic();
    let long = matches!(mnemonic, Fldenv | Fnstenv) || case.instruction.memory_size().size() > 16;
    match (native, model) {
        (Some(native), Some(ModelStop::Fault(model))) if long && native.vector == PAGE_FAULT => {
            (native.error | 1, native.vector) == (model.error | 1, model.vector)
        }
        (Some(_), Some(ModelStop::Fault(_))) if matches!(mnemonic, Cmpsb | Cmpsw | Cmpsd | Cmpsq) => true,
        _ => native.map(ModelStop::Fault) == model,
    }
}

/// Control, status and tag words.
const FX_EXACT: usize = 5;

fn same_header(a: &CpuState, b: &CpuState, mask: Mask) -> bool {
    a.fx16(0) == b.fx16(0)
        && (a.fx16(2) ^ b.fx16(2)) & !mask.status == 0
        && a.fx[4] == b.fx[4]
        && a.mxcsr() == b.mxcsr()
}

fn same_registers(a: &CpuState, b: &CpuState, mask: Mask) -> bool {
    (0..8).all(|index| same_f80(a.st(index), b.st(index), mask.st))
        && (a.fx[160..416] == b.fx[160..416]
            || (0..16).all(|index| same_f32_lanes(a.xmm(index), b.xmm(index), mask.xmm)))
}

fn mask_for(case: &Case, fault: Option<Fault>) -> Mask {
    if fault.is_some() { mask::NOTHING } else { mask::after(case) }
}

/// The differing fields, each as `name native … model …`.
pub fn differences(case: &Case, native: &Outcome, model: &Modelled) -> Vec<String> {
    let mask = mask_for(case, native.fault);
    let (a, b) = (&native.state, &model.state);
    let mut all = Vec::new();
    if !same_end(case, native.fault, model.stop) {
        all.push(format!("end: native {}, model {}", end(native.fault.map(ModelStop::Fault)), end(model.stop)));
    }
    let mut word = |name: &str, a: u64, b: u64| {
        if a != b {
            all.push(format!("{name}: native {a:#x}, model {b:#x}"));
        }
    };
    word("rip", a.rip, b.rip);
    for (index, name) in GPR_NAMES.iter().enumerate() {
        word(name, a.gpr[index], b.gpr[index]);
    }
    word("rflags", a.rflags & !mask.flags, b.rflags & !mask.flags);
    word("fcw", a.fx16(0).into(), b.fx16(0).into());
    word("fsw", (a.fx16(2) & !mask.status).into(), (b.fx16(2) & !mask.status).into());
    word("tags", a.fx[4].into(), b.fx[4].into());
    word("mxcsr", a.mxcsr().into(), b.mxcsr().into());
    let mut bytes = |name: String, a: &[u8], b: &[u8]| all.push(format!("{name}: native {}, model {}", hex(a), hex(b)));
    for index in 0..8 {
        if !same_f80(a.st(index), b.st(index), mask.st) {
            bytes(format!("st{index}"), a.st(index), b.st(index));
        }
    }
    for index in 0..16 {
        if !same_f32_lanes(a.xmm(index), b.xmm(index), mask.xmm) {
            bytes(format!("xmm{index}"), a.xmm(index), b.xmm(index));
        }
    }
    for (index, (a, b)) in native.watch.iter().zip(&model.watch).enumerate() {
        if let Some(first) = a.iter().zip(b).position(|(a, b)| a != b) {
            let last = WATCH_LEN.min(first + 16);
            bytes(format!("window+{:#x}", case.watch[index] as usize + first), &a[first..last], &b[first..last]);
        }
    }
    all
}

fn end(stop: Option<ModelStop>) -> String {
    match stop {
        None => "completes".to_owned(),
        Some(ModelStop::Fault(Fault { vector: PAGE_FAULT, error, address })) => {
            format!("#PF({error:#x}) at {address:#x}")
        }
        Some(ModelStop::Fault(Fault { vector, error, .. })) => format!("{}({error:#x})", vector_name(vector)),
        Some(ModelStop::Wrong(reason)) => format!("goes wrong ({reason})"),
    }
}

fn vector_name(vector: u8) -> String {
    match vector {
        0 => "#DE",
        1 => "#DB",
        3 => "#BP",
        6 => "#UD",
        7 => "#NM",
        12 => "#SS",
        13 => "#GP",
        16 => "#MF",
        17 => "#AC",
        19 => "#XM",
        _ => return format!("vector {vector}"),
    }
    .to_owned()
}

/// Most significant byte first, as one reads a number.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().rev().map(|byte| format!("{byte:02x}")).collect()
}

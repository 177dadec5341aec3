//! Which instruction forms are tested: everything the model advertises that user mode can run by itself.

use iced_x86::{Code, CpuidFeature, EncodingKind, MandatoryPrefix, Mnemonic, OpCodeOperandKind};

/// CPU models of the soft back end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CpuModel {
    /// x86-64-v1.
    V1,
    /// x86-64-v2.
    V2,
}

/// What lanes an instruction works on: decides which values are interesting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lanes {
    /// Integers of any width.
    Integer,
    /// Single precision.
    F32,
    /// Double precision.
    F64,
}

/// One instruction form.
#[derive(Debug, Clone)]
pub struct Form {
    /// The form.
    pub code: Code,
    /// Its operands.
    pub kinds: Vec<OpCodeOperandKind>,
    /// What it computes on.
    pub lanes: Lanes,
    /// It uses RSP without naming it.
    pub stack: bool,
    /// It uses the x87 or MMX state.
    pub x87: bool,
    /// Only the kernel may run it: it must fault.
    pub privileged: bool,
}

/// A form that is not tested.
#[derive(Debug, Clone, Copy)]
pub struct Left {
    /// The form.
    pub code: Code,
    /// Why.
    pub reason: &'static str,
}

/// All forms of `model` whose name contains `only` (any case), and those left out that the model has.
pub fn catalogue(model: CpuModel, only: &str) -> (Vec<Form>, Vec<Left>) {
    let only = only.to_ascii_lowercase();
    let (mut forms, mut left) = (Vec::new(), Vec::new());
    for code in Code::values() {
        if !advertised(code, model) || !format!("{code:?}").to_ascii_lowercase().contains(&only) {
            continue;
        }
        match left_out(code) {
            Some(reason) => left.push(Left { code, reason }),
            None => forms.push(form(code)),
        }
    }
    (forms, left)
}

/// Whether a decoded instruction may run natively beside the catalogue's own (`INVALID` may).
pub fn may_run(code: Code, model: CpuModel) -> bool {
    code == Code::INVALID || (advertised(code, model) && left_out(code).is_none())
}

fn form(code: Code) -> Form {
    let info = code.op_code();
    let name = format!("{:?}", info.mnemonic()).to_ascii_lowercase();
    let features = code.cpuid_features();
    let x87 = features.iter().any(|feature| {
        use CpuidFeature::{FPU, FPU287, FPU387, MMX};
        matches!(*feature, FPU | FPU287 | FPU387 | MMX)
    });
    Form {
        code,
        kinds: info.op_kinds().to_vec(),
        lanes: lanes(&name),
        stack: info.is_stack_instruction(),
        x87,
        privileged: info.must_be_cpl0() || info.is_privileged() || info.is_input_output(),
    }
}

fn lanes(name: &str) -> Lanes {
    let source = ["ps2", "ss2", "pd2", "sd2", "pi2", "si2", "dq2"].into_iter().find(|mark| name.contains(mark));
    match source.unwrap_or(&name[name.len().saturating_sub(2)..]) {
        "ps" | "ss" | "ps2" | "ss2" => Lanes::F32,
        "pd" | "sd" | "pd2" | "sd2" => Lanes::F64,
        _ => Lanes::Integer,
    }
}

fn advertised(code: Code, model: CpuModel) -> bool {
    let info = code.op_code();
    let v1 = |feature: CpuidFeature| {
        use CpuidFeature::*;
        let base =
            matches!(feature, INTEL8086 | INTEL186 | INTEL286 | INTEL386 | INTEL486 | X64 | MULTIBYTENOP | PAUSE);
        // CET's ENDBR64 is a no-operation everywhere and stands at the start of most functions.
        base || matches!(
            feature,
            CMOV | CX8 | FPU | FPU287 | FPU387 | FXSR | MMX | SSE | SSE2 | CLFSH | CET_IBT | MSR | SYSCALL | FSGSBASE
        )
    };
    let v2 = |feature: CpuidFeature| {
        use CpuidFeature::*;
        matches!(feature, CMPXCHG16B | POPCNT | SSE3 | SSSE3 | SSE4_1 | SSE4_2)
    };
    let lahf = matches!(info.mnemonic(), Mnemonic::Lahf | Mnemonic::Sahf);
    info.is_instruction()
        && info.mode64()
        && code.encoding() == EncodingKind::Legacy
        && code.cpuid_features().iter().all(|&feature| v1(feature) || (model == CpuModel::V2 && v2(feature)))
        && !(lahf && model == CpuModel::V1)
}

fn left_out(code: Code) -> Option<&'static str> {
    use Mnemonic::*;
    let info = code.op_code();
    let kinds = info.op_kinds();
    let segment_load = matches!(info.mnemonic(), Mov | Pop)
        && kinds.first().is_some_and(|kind| {
            use OpCodeOperandKind::{ds, es, fs, gs, seg_reg, ss};
            matches!(*kind, seg_reg | es | ss | ds | fs | gs)
        });
    let reason = match info.mnemonic() {
        _ if info.fwait() => "two instructions: FWAIT and the form without it, tested by themselves",
        _ if segment_load => "loads a segment register: needs descriptor tables, covered by boots",
        Lss | Lfs | Lgs | Retf | Iret | Iretd | Iretq => "far transfer or segment load: covered by boots",
        Call | Jmp if far(code) => "far transfer: covered by boots",
        Lar | Lsl | Verr | Verw | Sldt | Str | Sgdt | Sidt | Smsw => "reads descriptor tables the host hides",
        Syscall | Sysenter | Int | Int1 | Int3 | Into => "enters the kernel",
        Cpuid | Rdtsc | Rdtscp | Rdpmc => "its result is the machine's own",
        Ud0 | Ud1 => "processors disagree about its length",
        Movsxd if code == Code::Movsxd_r16_rm16 => "AMD reads 32 bits, Intel 16",
        _ if matches!(
            code,
            Code::Reservednop_rm16_r16_0F0D | Code::Reservednop_rm32_r32_0F0D | Code::Reservednop_rm64_r64_0F0D
        ) =>
        {
            "undefined on AMD, no operation on Intel"
        }
        Wrfsbase | Wrgsbase => "changes what the native child needs",
        Rsm => "exists in system-management mode only",
        Fneni | Fndisi | Fnsetpm => "does nothing since the 80387 and is not in 64-bit manuals",
        Bswap if code == Code::Bswap_r16 => "its result is undefined",
        _ if branch16(code) => "66 prefix on near branches: AMD cuts RIP to 16 bits, Intel ignores it",
        _ if info.mandatory_prefix() == MandatoryPrefix::None && !info.mode64() => "not in 64-bit mode",
        _ => return None,
    };
    Some(reason)
}

fn far(code: Code) -> bool {
    use Code::*;
    matches!(code, Call_m1616 | Call_m1632 | Call_m1664 | Jmp_m1616 | Jmp_m1632 | Jmp_m1664)
}

fn branch16(code: Code) -> bool {
    use OpCodeOperandKind::{br16_1, br16_2};
    let indirect = matches!(code, Code::Call_rm16 | Code::Jmp_rm16 | Code::Retnw | Code::Retnw_imm16);
    indirect || code.op_code().op_kinds().iter().any(|kind| matches!(*kind, br16_1 | br16_2))
}

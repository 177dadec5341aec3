//! What Intel's processors do otherwise than AMD's. The model does as AMD's; on Intel's hosts alone this table speaks.
//!
//! What goes on from a difference, so that a block's later instructions would see it, is left out before ([`prepare`]).
//! Else the model's result is brought to what Intel's processor would leave ([`as_intel`]), and all of it compared.

use std::sync::OnceLock;

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use crate::compare::Modelled;
use crate::generate::{Case, Pool, Scrub, address};
use crate::layout::WINDOW_RW_LEN;
use crate::state::{CpuState, Outcome, RCX, RDI, RSI, RSP, STATUS_FLAGS};

/// Whether the host is one of Intel's.
pub fn host() -> bool {
    static INTEL: OnceLock<bool> = OnceLock::new();
    *INTEL.get_or_init(|| {
        // UNSAFETY: old compilers count CPUID as unsafe, which every x86-64 processor has.
        #[expect(unsafe_code, reason = "asks CPUID")]
        #[allow(unused_unsafe, reason = "safe in newer compilers")]
        // SAFETY: every x86-64 processor has leaf 0.
        let leaf = unsafe { std::arch::x86_64::__cpuid(0) };
        [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
    })
}

/// Leaves out the operands after which the makers go on differently.
pub(crate) fn prepare(case: &mut Case, pool: &Pool) {
    use Mnemonic::*;
    let instruction = case.instruction;
    match instruction.mnemonic() {
        // With 32-bit addresses and a count of zero Intel clears the upper halves of the registers, AMD leaves them: so
        // they are zero from the start.
        _ if narrow_string(&instruction) && case.state.gpr[RCX] as u32 == 0 => {
            for register in [RCX, RSI, RDI] {
                case.state.gpr[register] &= u64::from(u32::MAX);
            }
        }
        Fst | Fstp | Fist | Fistp | Fisttp | Fbstp if instruction.op0_kind() == OpKind::Memory && !writable(case) => {
            // Of an unmasked x87 exception and a fault of the store Intel takes the exception, AMD the fault: no
            // exception is unmasked. One that waits from before comes first everywhere.
            let (control, status) = (case.state.fx16(0), case.state.fx16(2));
            if status & !control & X87_EXCEPTIONS == 0 {
                case.state.set_fx16(0, control | X87_EXCEPTIONS);
            }
            // Intel stores eight bytes of ten, then faults at the others.
            if instruction.memory_size().size() == 10 {
                case.scrubs[0] = eight_bytes(address_of(case)).unwrap_or_default();
            }
        }
        // A near call to an address that is not canonical faults on both, but on Intel the return address is stored.
        Call if indirect(&instruction) && !goal(case, pool).is_some_and(address::canonical) => {
            case.scrubs[0] = eight_bytes(Some(case.state.gpr[RSP].wrapping_sub(8))).unwrap_or_default();
        }
        _ => {}
    }
}

const X87_EXCEPTIONS: u16 = 0x3f;

/// Where an indirect call goes, as far as that is known before it runs.
fn goal(case: &Case, pool: &Pool) -> Option<u64> {
    if case.instruction.op0_kind() == OpKind::Register {
        return Some(case.state.gpr[case.instruction.op0_register().number()]);
    }
    let poke = &case.pokes[0];
    let there = address_of(case).and_then(address::in_window) == Some(poke.offset as usize);
    pool.get(poke).try_into().ok().filter(|_| there).map(u64::from_le_bytes)
}

fn indirect(call: &Instruction) -> bool {
    matches!(call.op0_kind(), OpKind::Memory | OpKind::Register)
}

/// The eight bytes at an address, if they can be written.
fn eight_bytes(at: Option<u64>) -> Option<Scrub> {
    let offset = at.and_then(address::in_window)?;
    (offset + 8 <= WINDOW_RW_LEN).then_some(Scrub { offset: offset as u32, len: 8 })
}

/// What Intel's processor would leave where the model leaves `model`; `native` decides where Intel's have a choice.
pub(crate) fn as_intel(case: &Case, native: &Outcome, model: &Modelled) -> Modelled {
    use Mnemonic::*;
    let (instruction, faults) = (&case.instruction, native.fault.is_some() && model.stop.is_some());
    let mut intel = *model;
    let state = &mut intel.state;
    // A fault at the first element, with 32-bit addresses: Intel has cleared upper halves that AMD leaves.
    if faults && narrow_string(instruction) {
        for register in [RCX, RSI, RDI] {
            let found = case.state.gpr[register];
            let cleared = found & u64::from(u32::MAX);
            if state.gpr[register] == found && native.state.gpr[register] == cleared {
                state.gpr[register] = cleared;
            }
        }
    }
    match instruction.mnemonic() {
        // Intel gives back the flags from before all of a repeated comparison that faults (SDM vol. 2, REP), AMD those
        // of the last element.
        Scasb | Scasw | Scasd | Scasq | Cmpsb | Cmpsw | Cmpsd | Cmpsq if faults && repeated(instruction) => {
            state.rflags = case.state.rflags & STATUS_FLAGS | state.rflags & !STATUS_FLAGS;
        }
        // The store of an MMX register that faults has set the top of the x87 stack to zero on Intel, except MOVNTQ; on
        // AMD it has done nothing.
        Movd | Movq if faults && instruction.op1_register().is_mm() => top_to_zero(state),
        // What is left of a denormal that they do not change is no underflow to Intel, though that is unmasked.
        Fscale | Fprem | Fprem1 if native.state.st(0) == case.state.st(0) => no_underflow(case, state),
        // Which of several NaNs the sum is: the makers add in another order.
        Dpps => same_nans::<4>(native, state, instruction.op0_register(), |lane| {
            f32::from_le_bytes(lane).is_nan() && lane[2] & 0x40 != 0
        }),
        Dppd => same_nans::<8>(native, state, instruction.op0_register(), |lane| {
            f64::from_le_bytes(lane).is_nan() && lane[6] & 8 != 0
        }),
        _ => {}
    }
    intel
}

fn repeated(instruction: &Instruction) -> bool {
    instruction.has_rep_prefix() || instruction.has_repne_prefix()
}

/// A repeated string instruction with 32-bit addresses.
fn narrow_string(instruction: &Instruction) -> bool {
    let narrow = |operand| matches!(instruction.op_kind(operand), OpKind::MemorySegESI | OpKind::MemoryESEDI);
    repeated(instruction) && (0..instruction.op_count()).any(narrow)
}

/// The linear address of the memory operand, the first.
fn address_of(case: &Case) -> Option<u64> {
    case.instruction.virtual_address(0, 0, |register, _, _| {
        let general = register.is_gpr().then(|| register.full_register().number());
        Some(general.map_or_else(|| address::segment_base(register), |number| case.state.gpr[number]))
    })
}

/// Whether the memory operand may be written.
fn writable(case: &Case) -> bool {
    let end = |offset: usize| offset + case.instruction.memory_size().size();
    address_of(case).and_then(address::in_window).is_some_and(|offset| end(offset) <= WINDOW_RW_LEN)
}

/// Makes the top of the stack zero; the registers stay where they are, the image names them from the top.
fn top_to_zero(state: &mut CpuState) {
    const TOP: u16 = 7 << 11;
    let status = state.fx16(2);
    let top = usize::from((status & TOP) >> 11);
    state.set_fx16(2, status & !TOP);
    state.fx[32..160].rotate_right(16 * top);
}

/// Takes back an unmasked underflow of a denormal in the top of the stack.
fn no_underflow(case: &Case, state: &mut CpuState) {
    const UNDERFLOW: u16 = 1 << 4;
    const SUMMARY: u16 = 0x8080;
    let (control, found, status) = (case.state.fx16(0), case.state.fx16(2), state.fx16(2));
    let denormal = case.state.st(0)[8] == 0 && case.state.st(0)[9] & 0x7f == 0;
    if !denormal || control & UNDERFLOW != 0 || status & !found & UNDERFLOW == 0 {
        return;
    }
    let status = status & !UNDERFLOW;
    let waits = status & !control & X87_EXCEPTIONS != 0;
    state.set_fx16(2, if waits { status } else { status & !SUMMARY });
    state.fx[32..42].copy_from_slice(case.state.st(0));
}

/// Where both sides have a quiet NaN in a lane of `register`, takes the host's.
fn same_nans<const N: usize>(native: &Outcome, state: &mut CpuState, register: Register, nan: fn([u8; N]) -> bool) {
    let number = register.number();
    let (theirs, _) = native.state.xmm(number).as_chunks::<N>();
    let (ours, _) = state.xmm_mut(number).as_chunks_mut::<N>();
    for (ours, theirs) in ours.iter_mut().zip(theirs) {
        if nan(*ours) && nan(*theirs) {
            *ours = *theirs;
        }
    }
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions};

    use super::*;
    use crate::layout::{Place, WINDOW_BASE};
    use crate::model::ModelStop;
    use crate::state::{Fault, PAGE_FAULT, WATCH_LEN};

    fn case(code: &[u8]) -> Case {
        let place = Place::Slot(0);
        let mut bytes = [0; 32];
        bytes[..code.len()].copy_from_slice(code);
        Case {
            form: 0,
            instruction: Decoder::with_ip(64, code, place.site().start, DecoderOptions::NONE).decode(),
            bytes,
            len: code.len(),
            place,
            state: CpuState { rip: place.site().start, ..CpuState::RESET },
            pokes: Default::default(),
            watch: [0, 0],
            scrubs: Default::default(),
        }
    }

    /// `as_intel` where the host left `native`, the model `model`, and both fault or neither does.
    fn brought(case: &Case, native: CpuState, model: CpuState, faults: bool) -> CpuState {
        let fault = faults.then_some(Fault { vector: PAGE_FAULT, error: 4, address: 0 });
        let watch = [[0; WATCH_LEN]; 2];
        let native = Outcome { state: native, fault, watch };
        as_intel(case, &native, &Modelled { state: model, stop: fault.map(ModelStop::Fault), watch }).state
    }

    #[test]
    fn only_a_repeated_comparison_that_faults_gets_its_flags_back() {
        let flags = |code: &[u8], faults| {
            let case = case(code);
            let model = CpuState { rflags: case.state.rflags | 0x41, ..case.state };
            brought(&case, case.state, model, faults).rflags ^ case.state.rflags
        };
        assert_eq!(flags(&[0xf2, 0xae], true), 0, "repne scasb");
        assert_eq!(flags(&[0xf3, 0xa7], true), 0, "repe cmpsd");
        assert_eq!(flags(&[0xf2, 0xae], false), 0x41, "it completes");
        assert_eq!(flags(&[0xae], true), 0x41, "scasb alone");
        assert_eq!(flags(&[0xf3, 0xaa], true), 0x41, "rep stosb");
    }

    #[test]
    fn an_upper_half_may_be_cleared_and_nothing_else() {
        let mut case = case(&[0x67, 0xf3, 0xaa]); // rep stosb [edi]
        case.state.gpr[RDI] = 0x5_2000_0000;
        let rdi = |native: u64, model: u64| {
            let mut states = [case.state; 2];
            (states[0].gpr[RDI], states[1].gpr[RDI]) = (native, model);
            brought(&case, states[0], states[1], true).gpr[RDI]
        };
        assert_eq!(rdi(0x2000_0000, 0x5_2000_0000), 0x2000_0000);
        assert_eq!(rdi(0x2000_0001, 0x5_2000_0000), 0x5_2000_0000, "another value");
        assert_eq!(rdi(0x2000_0000, 0x5_2000_0001), 0x5_2000_0001, "the model went on");
    }

    #[test]
    fn a_count_of_zero_gets_no_upper_halves() {
        let upper = |count: u64, code: &[u8]| {
            let mut case = case(code);
            (case.state.gpr[RCX], case.state.gpr[RDI]) = (count, 0x5_2000_0000);
            prepare(&mut case, &Pool::default());
            (case.state.gpr[RCX] >> 32, case.state.gpr[RDI] >> 32)
        };
        assert_eq!(upper(7 << 32, &[0x67, 0xf3, 0xaa]), (0, 0));
        assert_eq!(upper(7 << 32 | 1, &[0x67, 0xf3, 0xaa]), (7, 5), "a count");
        assert_eq!(upper(7 << 32, &[0xf3, 0xaa]), (7, 5), "64-bit addresses");
        assert_eq!(upper(7 << 32, &[0x67, 0xaa]), (7, 5), "not repeated");
    }

    #[test]
    fn stores_that_would_fault_have_no_unmasked_exception() {
        let prepared = |offset: u64, code: &[u8]| {
            let mut case = case(code);
            case.state.gpr[0] = WINDOW_BASE + offset;
            case.state.set_fx16(0, 0x340);
            prepare(&mut case, &Pool::default());
            (case.state.fx16(0), case.scrubs[0].len)
        };
        let (dword, tbyte) = ([0xd9, 0x18], [0xdb, 0x38]); // fstp [rax]
        let end = WINDOW_RW_LEN as u64;
        assert_eq!(prepared(end - 4, &dword), (0x340, 0));
        assert_eq!(prepared(end - 3, &dword), (0x37f, 0));
        assert_eq!(prepared(end - 10, &tbyte), (0x340, 0));
        assert_eq!(prepared(end - 9, &tbyte), (0x37f, 8));
        assert_eq!(prepared(end - 7, &tbyte), (0x37f, 0));
    }

    #[test]
    fn the_top_of_the_stack_moves_and_the_registers_stay() {
        let case = case(&[0x0f, 0x7f, 0x00]); // movq [rax], mm0
        let mut model = case.state;
        model.set_fx16(2, 0x2500); // top 4: ST0 is register 4
        for index in 0..8 {
            model.fx[32 + 16 * index] = ((index + 4) % 8) as u8;
        }
        let after = brought(&case, model, model, true);
        assert_eq!(after.fx16(2), 0x500);
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(|index| after.st(index)[0]), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(brought(&case, model, model, false).fx16(2), 0x2500, "it completes");
    }

    #[test]
    fn a_nan_is_another_nan_but_no_number() {
        let case = case(&[0x66, 0x0f, 0x3a, 0x40, 0xc1, 0xff]); // dpps xmm0, xmm1, 0xff
        let with = |lanes: [u32; 4]| {
            let mut state = case.state;
            state.xmm_mut(0).copy_from_slice(lanes.map(u32::to_le_bytes).as_flattened());
            state
        };
        let native = with([0x7fc0_0001, 0x7fc0_0001, 0x3f80_0000, 0x3f80_0000]);
        let model = with([0xffc0_0002, 0x7f80_0002, 0x7fc0_0000, 0x3f80_0001]);
        let after = brought(&case, native, model, false);
        let expected = with([0x7fc0_0001, 0x7f80_0002, 0x7fc0_0000, 0x3f80_0001]);
        assert_eq!(after.xmm(0), expected.xmm(0));
    }

    #[test]
    fn a_denormal_that_stays_is_no_underflow() {
        let mut case = case(&[0xd9, 0xfd]); // fscale
        case.state.set_fx16(0, 0x36f);
        case.state.fx[32] = 1;
        let mut model = case.state;
        model.set_fx16(2, 0x8092);
        model.fx[40..42].copy_from_slice(&[0xff, 0x5f]);
        let after = brought(&case, case.state, model, false);
        assert_eq!((after.fx16(2), after.st(0)), (2, case.state.st(0)));
        case.state.set_fx16(0, 0x37f);
        assert_eq!(brought(&case, case.state, model, false).fx16(2), 0x8092, "masked");
    }
}

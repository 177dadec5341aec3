//! Memory operands: an addressing form, a place in or near the window, and register values that lead there.

use iced_x86::{Code, Instruction, Mnemonic, Register};

use crate::layout::{CODE_BASE, FS_BASE, GS_BASE, PAGE, WINDOW_BASE, WINDOW_LEN, WINDOW_RW_LEN};
use crate::rng::Rng;
use crate::state::CpuState;

const GPR64: [Register; 16] = [
    Register::RAX,
    Register::RCX,
    Register::RDX,
    Register::RBX,
    Register::RSP,
    Register::RBP,
    Register::RSI,
    Register::RDI,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];

/// A place to access: usually in the window, sometimes across its edges, seldom somewhere hopeless.
pub(crate) fn target(rng: &mut Rng, size: usize) -> u64 {
    let page = PAGE as u64;
    let across = |rng: &mut Rng, edge: u64| {
        // From just before to just after: covers each way of crossing.
        let at = edge.wrapping_sub(size as u64 + 8).wrapping_add(rng.below(size as u64 + 16));
        if rng.chance(50) { at & !15 } else { at }
    };
    let window = WINDOW_BASE;
    match rng.below(100) {
        0..=54 => {
            let at = window + 256 + 64 * rng.below(40);
            at + if rng.chance(30) { rng.below(64) } else { 16 * rng.below(4) }
        }
        55..=69 => across(rng, window + page),
        70..=76 => across(rng, window),
        77..=82 => across(rng, window + 2 * page),
        83..=87 => window + 2 * page + 16 * rng.below(200) + if rng.chance(30) { rng.below(16) } else { 0 },
        88..=94 => across(rng, window + 3 * page),
        95 => CODE_BASE + 64 * rng.below(90),
        96 => rng.below(page),
        // Which of two faults a long operand meets first is the processor's choice.
        97 if size > 8 => (1 << 47) + 16 * rng.below(1 << 20),
        97 => across(rng, 1 << 47),
        98 if size > 8 => rng.next() & !15,
        98 => rng.next(),
        _ => rng.next() | 0xffff_8000_0000_0000,
    }
}

/// Like [`target`], but in the writable part unless luck has it otherwise: for stacks and strings.
pub(crate) fn usual_target(rng: &mut Rng, size: usize) -> u64 {
    match rng.below(100) {
        0..=84 => WINDOW_BASE + 1024 + 16 * rng.below(300),
        85..=89 => WINDOW_BASE + 1024 + rng.below(4096),
        _ => target(rng, size),
    }
}

/// A place of which 64 bytes are in the writable part.
pub(crate) fn inside(rng: &mut Rng) -> u64 {
    WINDOW_BASE + rng.below(WINDOW_RW_LEN as u64 - 64)
}

/// Offset in the window, if `address` is in it.
pub(crate) fn in_window(address: u64) -> Option<usize> {
    let offset = address.wrapping_sub(WINDOW_BASE);
    (offset < WINDOW_LEN as u64).then_some(offset as usize)
}

/// Whether the upper bits of `address` are all like bit 47.
pub(crate) fn canonical(address: u64) -> bool {
    (address as i64) << 16 >> 16 == address as i64
}

/// Base of a segment in the state every case starts from.
pub(crate) fn segment_base(segment: Register) -> u64 {
    match segment {
        Register::FS => FS_BASE,
        Register::GS => GS_BASE,
        _ => 0,
    }
}

/// An addressing form of which the registers' values are still open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    base: Option<usize>,
    index: Option<usize>,
    scale: u64,
    wide: bool,
}

fn free_register(rng: &mut Rng, avoid: u16) -> Option<usize> {
    let register = rng.below(16) as usize;
    (avoid >> register & 1 == 0).then_some(register)
}

/// Chooses how the memory operand of `instruction` is addressed, registers in the bit set `avoid` excluded, and puts
/// values into `state` so that it leads to `address`.
pub(crate) fn place(rng: &mut Rng, instruction: &mut Instruction, state: &mut CpuState, address: u64, avoid: u16) {
    let segment = match rng.below(100) {
        0..=6 => Register::FS,
        7..=13 => Register::GS,
        14..=17 => rng.pick(&[Register::CS, Register::DS, Register::ES, Register::SS]),
        _ => Register::None,
    };
    // AMD wants the address canonical before the segment's base is added too, Intel only after: not tried.
    let bit_string = matches!(instruction.mnemonic(), Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc);
    let apart = bit_string || canonical(address) && !canonical(address.wrapping_sub(segment_base(segment)));
    let segment = if apart { Register::None } else { segment };
    instruction.set_segment_prefix(segment);
    let effective = address.wrapping_sub(segment_base(segment));
    let near = |value: u64| value as i64 == i64::from(value as i32);
    if rng.chance(8) && near(effective.wrapping_sub(CODE_BASE)) && effective >> 32 == 0 {
        let narrow = rng.chance(10);
        instruction.set_memory_base(if narrow { Register::EIP } else { Register::RIP });
        instruction.set_memory_displ_size(if narrow { 4 } else { 8 });
        instruction.set_memory_displacement64(effective);
        return;
    }
    if rng.chance(5) && near(effective) {
        instruction.set_memory_displ_size(8);
        instruction.set_memory_displacement64(effective);
        return;
    }
    let base = if rng.chance(90) { free_register(rng, avoid) } else { None };
    let index = if rng.chance(45) { free_register(rng, avoid | 1 << 4) } else { None };
    if base.is_none() && index.is_none() {
        return place_last_resort(rng, instruction, state, effective, avoid);
    }
    let wide = effective >> 32 != 0 || rng.chance(88);
    let scale = 1 << rng.below(4);
    solve(rng, instruction, state, effective, Form { base, index, scale, wide });
}

/// `[register]` with a register that may be used, found by trying them in turn.
fn place_last_resort(rng: &mut Rng, instruction: &mut Instruction, state: &mut CpuState, effective: u64, avoid: u16) {
    let first = rng.below(16) as usize;
    let base = (first..first + 16).map(|register| register % 16).find(|register| avoid >> register & 1 == 0);
    let form = Form { base: Some(base.unwrap_or(3)), index: None, scale: 1, wide: true };
    solve(rng, instruction, state, effective, form);
}

fn solve(rng: &mut Rng, instruction: &mut Instruction, state: &mut CpuState, effective: u64, form: Form) {
    let Form { base, index, scale, wide } = form;
    let mut displacement = match rng.below(10) {
        0..=3 => 0,
        4..=6 => i64::from(rng.next() as i8),
        7..=8 => rng.between(-70_000, 70_000),
        _ => i64::from(rng.next() as i32),
    };
    let garbage = if wide { 0 } else { rng.next() << 32 };
    let mask = if wide { u64::MAX } else { u64::from(u32::MAX) };
    let mut set = |register: usize, value: u64| state.gpr[register] = (value & mask) | garbage;
    match (base, index) {
        (Some(base), Some(index)) if base != index => {
            let value = if rng.chance(70) { rng.between(-40, 300) as u64 } else { rng.next() };
            set(index, value);
            set(base, effective.wrapping_sub(value.wrapping_mul(scale)).wrapping_sub(displacement as u64));
        }
        (Some(base), None) => set(base, effective.wrapping_sub(displacement as u64)),
        (_, Some(index)) => {
            let factor = if base.is_some() { scale + 1 } else { scale };
            let value = (effective.wrapping_sub(displacement as u64) as i64).wrapping_div(factor as i64) as u64;
            let rest = effective.wrapping_sub(value.wrapping_mul(factor)) as i64;
            // The rest is the displacement that was meant, up to rounding; where it does not fit, the access goes astray.
            displacement = i64::from(rest as i32);
            set(index, value);
        }
        (None, None) => {}
    }
    let register = |number: usize| if wide { GPR64[number] } else { narrow(number) };
    instruction.set_memory_base(base.map_or(Register::None, register));
    instruction.set_memory_index(index.map_or(Register::None, register));
    instruction.set_memory_index_scale(if index.is_some() { scale as u32 } else { 1 });
    set_displacement(rng, instruction, displacement, base.is_some(), wide);
}

fn set_displacement(rng: &mut Rng, instruction: &mut Instruction, displacement: i64, has_base: bool, wide: bool) {
    let long = if wide { 8 } else { 4 };
    let small = i64::from(displacement as i8) == displacement;
    let size = match displacement {
        _ if !has_base => long,
        0 if rng.chance(70) => 0,
        _ if small && rng.chance(90) => 1,
        _ => long,
    };
    instruction.set_memory_displ_size(size);
    let mask = if wide { u64::MAX } else { u64::from(u32::MAX) };
    instruction.set_memory_displacement64(displacement as u64 & mask);
}

fn narrow(number: usize) -> Register {
    Register::EAX + number as u32
}

/// Whether the form only computes an address.
pub(crate) fn no_access(code: Code) -> bool {
    matches!(code, Code::Lea_r16_m | Code::Lea_r32_m | Code::Lea_r64_m)
}

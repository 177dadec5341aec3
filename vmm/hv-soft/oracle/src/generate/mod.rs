//! Makes cases: a form, its operands and prefixes, and a state in which something interesting happens.

pub(crate) mod address;
mod follow;
mod operands;
mod pool;
mod special;
#[cfg(test)]
mod tests;
mod values;

use iced_x86::{Code, Decoder, DecoderOptions, Encoder, FlowControl, Instruction, OpKind};

pub use pool::Pool;

use crate::forms::{CpuModel, Form, may_run};
use crate::intel;
use crate::layout::{BATCH, Place, Site, WINDOW_LEN};
use crate::native::{POKES, Poke};
use crate::rng::Rng;
use crate::state::{CpuState, RBX, RDI, RSI, RSP, WATCH_LEN};
use operands::Chosen;

/// Bytes of window that both sides clear after the instruction, because processors differ in them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Scrub {
    /// Offset in the window.
    pub offset: u32,
    /// Number of bytes.
    pub len: u32,
}

/// Most scrubbed ranges of a case.
pub const SCRUBS: usize = 3;

/// One instruction and the state it starts from.
#[derive(Clone)]
pub struct Case {
    /// Index of the form in the catalogue.
    pub form: usize,
    /// What runs; after a prefix was thrown in this may be another form than the catalogue's.
    pub instruction: Instruction,
    /// Its bytes.
    pub bytes: [u8; 32],
    /// How many of them.
    pub len: usize,
    /// Where it is.
    pub place: Place,
    /// What it starts from.
    pub state: CpuState,
    /// What is written into the window before.
    pub pokes: [Poke; POKES],
    /// Offsets in the window that are recorded after it.
    pub watch: [u32; 2],
    /// What is cleared after it.
    pub scrubs: [Scrub; SCRUBS],
}

impl Case {
    /// The bytes of the instruction.
    pub fn code(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The addresses of the landings in the order of [`crate::layout::Landing`].
    pub fn landings(&self) -> [u64; 3] {
        let site = self.place.site();
        [site.back, site.forward, site.start + self.len as u64]
    }
}

/// A case being made.
struct Draft<'a> {
    rng: &'a mut Rng,
    form: &'a Form,
    instruction: Instruction,
    chosen: Chosen,
    state: CpuState,
    site: Site,
    /// Where the explicit memory operand shall be.
    target: u64,
    /// Bytes it has.
    size: usize,
    /// What will be there.
    data: Vec<u8>,
    /// What the stack will hold at RSP (or RBP for LEAVE).
    stack: [u8; 8],
    /// Registers that may not address memory, because they have another part to play.
    avoid: u16,
}

/// Makes cases from a catalogue.
pub struct Generator {
    forms: Vec<Form>,
    model: CpuModel,
    encoder: Encoder,
    follow: bool,
}

impl Generator {
    /// A generator for these forms; with `follow`, up to two simple instructions come after the form's.
    pub fn new(forms: Vec<Form>, model: CpuModel, follow: bool) -> Self {
        Generator { forms, model, encoder: Encoder::new(64), follow }
    }

    /// The catalogue.
    pub fn forms(&self) -> &[Form] {
        &self.forms
    }

    /// Case `index` of a batch; `None` when the choice cannot be encoded (for example AH with a REX prefix).
    pub fn case(&mut self, rng: &mut Rng, index: usize, pool: &mut Pool) -> Option<Case> {
        let form = rng.below(self.forms.len() as u64) as usize;
        self.case_of(form, rng, index, pool)
    }

    /// The same for a chosen form.
    pub fn case_of(&mut self, number: usize, rng: &mut Rng, index: usize, pool: &mut Pool) -> Option<Case> {
        let place = place(rng, index);
        let site = place.site();
        let form = &self.forms[number];
        let mut draft = Draft::new(rng, form, site)?;
        special::prepare(&mut draft);
        draft.place_memory();
        draft.prefixes();
        self.encoder.set_buffer(Vec::with_capacity(16));
        let encoded = self.encoder.encode(&draft.instruction, site.start);
        let code = self.encoder.take_buffer();
        let mut case = draft.finish(number, place, pool);
        case.set_code(&code);
        encoded.ok()?;
        if rng.chance(4) && !special::takes_no_noise(form.code) && !case.add_noise(rng, self.model) {
            return None;
        }
        case.state.rip = site.start;
        if intel::host() {
            intel::prepare(&mut case, pool);
        }
        if self.follow {
            follow::append(rng, &mut case, &mut self.encoder);
        }
        Some(case)
    }
}

/// Two places of every batch are at page ends.
fn place(rng: &mut Rng, index: usize) -> Place {
    match index {
        100 => Place::Straddle { head: 1 + rng.below(9) as usize },
        200 => Place::Tail { head: 1 + rng.below(9) as usize },
        _ => Place::Slot(index % BATCH),
    }
}

impl<'a> Draft<'a> {
    fn new(rng: &'a mut Rng, form: &'a Form, site: Site) -> Option<Self> {
        let mut state = CpuState::RESET;
        values::state(rng, &mut state, form.x87);
        let mut instruction = Instruction::default();
        instruction.set_code(form.code);
        let chosen = operands::choose(rng, form, &mut instruction, site)?;
        for register in chosen.xmm.into_iter().flatten().chain([0]) {
            state.xmm_mut(register).copy_from_slice(&values::vector(rng, form.lanes));
        }
        if chosen.mm.iter().any(Option::is_some) {
            for index in 0..8 {
                state.fx[32 + 16 * index..40 + 16 * index].copy_from_slice(&values::vector(rng, form.lanes)[..8]);
            }
        }
        let size = instruction.memory_size().size();
        let target = address::target(rng, size.max(1));
        let data = special::data(rng, form, instruction.memory_size());
        state.gpr[RSP] = address::usual_target(rng, 16) & if rng.chance(85) { !7 } else { !0 };
        let stack = values::integer(rng).to_le_bytes();
        Some(Draft { rng, form, instruction, chosen, state, site, target, size, data, stack, avoid: 0 })
    }

    /// Leads the memory operand, explicit or implied, to its target.
    fn place_memory(&mut self) {
        let wide_garbage = |rng: &mut Rng, wide: bool| if wide { 0 } else { rng.next() << 32 };
        for operand in 0..self.instruction.op_count() {
            let (register, wide) = match self.instruction.op_kind(operand) {
                OpKind::MemorySegRSI => (RSI, true),
                OpKind::MemorySegESI => (RSI, false),
                OpKind::MemoryESRDI | OpKind::MemorySegRDI => (RDI, true),
                OpKind::MemoryESEDI | OpKind::MemorySegEDI => (RDI, false),
                _ => continue,
            };
            let inside = special::must_be_inside(self.form.code);
            let target = if inside { address::inside(self.rng) } else { address::usual_target(self.rng, 16) };
            self.state.gpr[register] = target | wide_garbage(self.rng, wide);
            self.target = self.state.gpr[register];
        }
        if self.chosen.table {
            let al = self.state.gpr[0] & 0xff;
            let narrow = self.instruction.memory_base() == iced_x86::Register::EBX;
            self.state.gpr[RBX] = self.target.wrapping_sub(al) | wide_garbage(self.rng, !narrow);
        }
        if self.chosen.memory.is_none() {
            return;
        }
        if self.chosen.offset_only {
            self.instruction.set_memory_displ_size(8);
            self.instruction.set_memory_displacement64(self.target);
            return;
        }
        if address::no_access(self.form.code) && self.rng.chance(50) {
            self.target = self.rng.next();
        }
        address::place(self.rng, &mut self.instruction, &mut self.state, self.target, self.avoid);
    }

    fn prefixes(&mut self) {
        let info = self.form.code.op_code();
        if info.can_use_lock_prefix() && self.chosen.memory == Some(0) && self.rng.chance(30) {
            self.instruction.set_has_lock_prefix(true);
        }
        if info.can_use_rep_prefix() && self.rng.chance(40) {
            self.instruction.set_has_rep_prefix(true);
        } else if info.can_use_repne_prefix() && self.rng.chance(40) {
            self.instruction.set_has_repne_prefix(true);
        }
        if self.chosen.source && self.rng.chance(15) {
            use iced_x86::Register::{CS, DS, ES, FS, GS, SS};
            let segment = self.rng.pick(&[FS, FS, GS, GS, CS, DS, ES, SS]);
            let wide = self.state.gpr[RSI] >> 32 == 0;
            if wide {
                self.state.gpr[RSI] = self.state.gpr[RSI].wrapping_sub(address::segment_base(segment));
            }
            self.instruction.set_segment_prefix(segment);
        }
    }

    fn finish(mut self, form: usize, place: Place, pool: &mut Pool) -> Case {
        let rsp = self.state.gpr[RSP];
        let mut pokes = [Poke::default(); POKES];
        pokes[0] = pool.poke(self.target, &self.data);
        let call = self.form.code.mnemonic() == iced_x86::Mnemonic::Call;
        if self.form.stack && !call {
            pokes[1] = pool.poke(rsp, &self.stack);
            if special::uses_frame(self.form.code) {
                pokes[2] = pool.poke(self.state.gpr[crate::state::RBP], &self.stack);
            }
        }
        let second = match (self.chosen.source, self.chosen.destination) {
            (false, false) => rsp.wrapping_sub(24),
            _ => self.state.gpr[RDI],
        };
        let watch = [watch(self.target.wrapping_sub(16)), watch(second)];
        let scrubs = special::scrubs(self.form.code, self.target);
        self.data.clear();
        Case {
            form,
            instruction: self.instruction,
            bytes: [0; 32],
            len: 0,
            place,
            state: self.state,
            pokes,
            watch,
            scrubs,
        }
    }
}

fn watch(address: u64) -> u32 {
    address::in_window(address).map_or(0, |offset| offset.min(WINDOW_LEN - WATCH_LEN) as u32)
}

impl Case {
    fn set_code(&mut self, code: &[u8]) {
        self.len = code.len().min(15);
        self.bytes[..self.len].copy_from_slice(&code[..self.len]);
    }

    /// Puts a random prefix in front; `false` if the result may not run.
    fn add_noise(&mut self, rng: &mut Rng, model: CpuModel) -> bool {
        const PREFIXES: [u8; 12] = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x66, 0x67, 0xf2, 0xf3, 0xf0];
        if self.len > 14 {
            return false;
        }
        let mut bytes = [0; 32];
        bytes[0] = rng.pick(&PREFIXES);
        bytes[1..].copy_from_slice(&self.bytes[..31]);
        let mut decoder = Decoder::with_ip(64, &bytes[..self.len + 1], self.place.site().start, DecoderOptions::NONE);
        let decoded = decoder.decode();
        // Without a prefix a reserved no-operation decodes as invalid too: then nothing is known about the host.
        let known = decoded.code() != Code::INVALID || bytes[0] == 0xf0;
        let whole = decoded.code() == Code::INVALID || decoded.len() == self.len + 1;
        let plain = matches!(decoded.flow_control(), FlowControl::Next | FlowControl::Exception);
        if !known || !whole || !plain || !may_run(decoded.code(), model) {
            return false;
        }
        self.bytes = bytes;
        self.len += 1;
        self.instruction = decoded;
        true
    }
}

//! The run loop: blocks, single steps, faults, interrupts, exits.

#[cfg(feature = "oracle")]
pub mod single;

use std::sync::Arc;
use std::time::Duration;

use supermachine_hv::{Exit, Fault, HvError, Reply, x86::RunState};

use crate::chips::shared::Shared;
use crate::code::block::BlockInfo;
use crate::code::{CodeCache, MAX_BLOCK, NO_BLOCK, Source};
use crate::cpu::Cpu;
use crate::decode::{self, Decoded, Flow, MAX_INSTRUCTION, Modes};
use crate::flags::bit;
use crate::mem::{OFFSET, PAGE};
use crate::op::{Op, Stop, slot};
use crate::paging::Access;
use crate::spec::{cr0, cr4};
use crate::sys::exception::{DB, Exception, Origin};

/// Instructions that run alone, remembered by their bytes.
const STEP_CACHE: usize = 256;

/// What a stretch of guest code ended with.
pub(crate) enum Outcome {
    /// Look at interrupts and go on.
    Continue,
    /// Give this to the vmm.
    Exit(Exit),
}

/// One remembered instruction.
struct Stepped {
    bytes: [u8; MAX_INSTRUCTION],
    len: usize,
    offset: u64,
    modes: Modes,
    op: Op,
    flow: Flow,
}

/// A CPU with its decoded code.
pub(crate) struct Engine {
    pub(crate) cpu: Box<Cpu>,
    pub(crate) code: CodeCache,
    /// The same as `cpu.shared`, at hand for the hot loop.
    shared: Arc<Shared>,
    pub(crate) state: RunState,
    /// The exit that waits for an answer.
    pub(crate) waiting: Option<Exit>,
    /// Guest instructions so far, to the nearest slice.
    pub(crate) instructions: u64,
    scratch: Vec<Op>,
    page: Box<[u8; PAGE as usize]>,
    stepped: Vec<Option<Stepped>>,
}

impl Engine {
    pub(crate) fn new(cpu: Box<Cpu>, state: RunState) -> Self {
        Engine {
            shared: cpu.shared.clone(),
            cpu,
            code: CodeCache::default(),
            state,
            waiting: None,
            instructions: 0,
            scratch: Vec::with_capacity(MAX_BLOCK),
            page: Box::new([0; PAGE as usize]),
            stepped: (0..STEP_CACHE).map(|_| None).collect(),
        }
    }

    /// Modes that decoded code depends on.
    fn modes(&self) -> Modes {
        let (c0, c4) = (self.cpu.sys.cr0, self.cpu.sys.cr4);
        let has = |bits: u64, b: u64| bits & b != 0;
        Modes {
            no_fpu: has(c0, cr0::EM | cr0::TS),
            no_wait: has(c0, cr0::TS) && has(c0, cr0::MP),
            no_sse: has(c0, cr0::EM) || !has(c4, cr4::OSFXSR),
        }
    }

    /// Runs until the vmm is needed.
    pub(crate) fn run(&mut self) -> Result<Exit, HvError> {
        if let Some(e) = &self.waiting {
            return Err(HvError::ExitInFlight { exit: e.name() });
        }
        if let Some(reason) = self.cpu.unsupported_mode() {
            return Ok(Exit::Fault(Fault::EntryFailed { reason }));
        }
        loop {
            if let Some(e) = self.cpu.io.take_posted() {
                self.cpu.shared.board.device_activity();
                return Ok(e);
            }
            let outcome = if self.cpu.io.replaying() { self.step() } else { self.turn() };
            if let Outcome::Exit(e) = outcome {
                if e.needs_reply() {
                    self.cpu.shared.board.device_activity();
                    self.waiting = Some(e.clone());
                }
                return Ok(e);
            }
        }
    }

    /// Answers the exit that waits.
    pub(crate) fn complete(&mut self, reply: Reply) -> Result<(), HvError> {
        let value = match (&self.waiting, reply) {
            (Some(Exit::MmioRead { .. } | Exit::PioRead { .. }), Reply::Read(v)) => v,
            (Some(Exit::Hypercall { .. }), Reply::Hypercall(v)) => v,
            (None, _) => return Err(HvError::WrongReply { detail: "no exit waits" }),
            (Some(Exit::Hypercall { .. }), _) => {
                return Err(HvError::WrongReply { detail: "a hypercall waits, a read came" });
            }
            _ => return Err(HvError::WrongReply { detail: "a read waits, a hypercall came" }),
        };
        self.waiting = None;
        self.cpu.io.answer(value);
        self.cpu.shared.board.device_activity();
        Ok(())
    }

    /// Finishes an instruction whose answer is there, so that the state can be saved.
    pub(crate) fn settle(&mut self) -> Result<(), HvError> {
        if let Some(e) = &self.waiting {
            return Err(HvError::ExitInFlight { exit: e.name() });
        }
        if self.cpu.io.replaying() {
            if let Outcome::Exit(e) = self.step() {
                let exit = e.name();
                self.waiting = e.needs_reply().then_some(e);
                return Err(HvError::ExitInFlight { exit });
            }
        }
        if self.cpu.io.posting() {
            return Err(HvError::ExitInFlight { exit: "mmio-write" });
        }
        Ok(())
    }

    /// Looks at everything that is not guest code, then runs some.
    fn turn(&mut self) -> Outcome {
        let cpu = &mut *self.cpu;
        let left = cpu.shared.refill();
        self.instructions += (Shared::slice() - left).max(0) as u64;
        let _looked = cpu.shared.take_attention();
        if cpu.shared.take_kick() {
            return Outcome::Exit(Exit::Kicked);
        }
        cpu.collect_interrupts();
        if self.state == RunState::Halted {
            if let Some(outcome) = self.wake() {
                return outcome;
            }
        }
        if let Some(outcome) = self.interrupt() {
            return outcome;
        }
        if std::mem::take(&mut self.cpu.flush_code) {
            self.drop_all_code();
        }
        let trap = self.cpu.sysflags & bit::TF != 0;
        if trap || self.cpu.shadow == Some(self.cpu.rip) {
            self.cpu.shadow = None;
            return self.step();
        }
        self.blocks()
    }

    /// Ends a halt if there is reason to; else sleeps, or leaves where nothing but an NMI could end it.
    fn wake(&mut self) -> Option<Outcome> {
        let cpu = &mut *self.cpu;
        let awake = cpu.lapic.nmi && !cpu.nmi_masked || cpu.sysflags & bit::IF != 0 && cpu.lapic.pending().is_some();
        if awake {
            self.state = RunState::Runnable;
            return None;
        }
        if cpu.sysflags & bit::IF == 0 {
            return Some(Outcome::Exit(Exit::Halted { deadline_ns: None }));
        }
        let deadline = cpu.lapic.deadline;
        let timeout = (deadline != 0).then(|| Duration::from_nanos(deadline.saturating_sub(cpu.clock.tsc())));
        cpu.shared.sleep(timeout);
        Some(Outcome::Continue)
    }

    /// Delivers an interrupt or NMI if one can be.
    fn interrupt(&mut self) -> Option<Outcome> {
        let cpu = &mut *self.cpu;
        let shadowed = cpu.shadow == Some(cpu.rip);
        if cpu.lapic.nmi && !cpu.nmi_masked && !shadowed {
            cpu.lapic.nmi = false;
            cpu.nmi_masked = true;
            return cpu.deliver_interrupt(2).is_err().then(|| self.triple_fault());
        }
        let vector = cpu.lapic.pending();
        cpu.irq_waiting = vector.is_some();
        let vector = vector?;
        if cpu.sysflags & bit::IF == 0 || shadowed {
            return None;
        }
        cpu.lapic.begin(vector);
        cpu.irq_waiting = cpu.lapic.pending().is_some();
        cpu.deliver_interrupt(vector).is_err().then(|| self.triple_fault())
    }

    fn triple_fault(&mut self) -> Outcome {
        Outcome::Exit(Exit::Fault(Fault::TripleFault))
    }

    /// Runs blocks until something stops them.
    fn blocks(&mut self) -> Outcome {
        let mut number = match self.lookup() {
            Ok(n) => n,
            Err(outcome) => return outcome,
        };
        loop {
            let next = match hot(&mut self.cpu, &self.code, &self.shared, number) {
                Left::Spent => return Outcome::Continue,
                Left::Stopped(stop, op) => return self.stopped(stop, &op),
                Left::Unknown => self.lookup(),
                Left::Unlinked { block, taken } => self.link(block, taken),
            };
            number = match next {
                Ok(n) => n,
                Err(outcome) => return outcome,
            };
        }
    }

    /// Finds the block after `block`, at `rip` in the same page, and links the two.
    fn link(&mut self, block: u32, taken: bool) -> Result<u32, Outcome> {
        let generation = self.code.generation();
        let target = self.lookup()?;
        if self.code.generation() == generation {
            self.code.link(block, taken, target);
        }
        Ok(target)
    }

    /// What to do about an op that did not simply end.
    fn stopped(&mut self, stop: Stop, op: &Op) -> Outcome {
        let cpu = &mut *self.cpu;
        match stop {
            Stop::Taken | Stop::Jump | Stop::Sync => Outcome::Continue,
            Stop::Halt => {
                self.state = RunState::Halted;
                Outcome::Continue
            }
            Stop::Again => {
                cpu.rip = cpu.op_rip(op);
                cpu.io.clear();
                Outcome::Continue
            }
            Stop::Retired => {
                cpu.rip = cpu.op_rip(op);
                cpu.jumps.forget(cpu.rip);
                Outcome::Continue
            }
            Stop::Step | Stop::Code => {
                cpu.rip = cpu.op_rip(op);
                self.step()
            }
            Stop::Exit => {
                cpu.rip = cpu.op_rip(op);
                cpu.io.rewind();
                match cpu.io.wanted.take() {
                    Some(e) => Outcome::Exit(e),
                    None => Outcome::Continue,
                }
            }
            Stop::Fault => {
                cpu.rip = cpu.op_rip(op);
                cpu.io.clear();
                if op.mode & crate::op::mode::STACK != 0 {
                    cpu.stack_stop(Stop::Fault);
                }
                self.fault()
            }
        }
    }

    fn fault(&mut self) -> Outcome {
        match self.cpu.deliver_fault(Origin::Fault) {
            Ok(()) => Outcome::Continue,
            Err(_) => self.triple_fault(),
        }
    }

    /// The block at `rip`, decoded if need be.
    fn lookup(&mut self) -> Result<u32, Outcome> {
        let cpu = &mut *self.cpu;
        let rip = cpu.rip;
        cpu.enter_page(rip);
        let known = cpu.jumps.get(rip);
        if known != NO_BLOCK && self.code.alive(known) {
            return Ok(known);
        }
        let (page, global) = match cpu.fetch_page(rip) {
            Ok(p) => p,
            Err(_) => return Err(self.fault()),
        };
        let gpa = page | rip & OFFSET;
        let number = self.at(gpa)?;
        self.cpu.jumps.put(rip, number, global);
        Ok(number)
    }

    /// The block at a guest physical address.
    fn at(&mut self, gpa: u64) -> Result<u32, Outcome> {
        let Some((page, ram_page)) = self.cpu.ram.page(gpa) else {
            let detail = format!("guest runs code at {gpa:#x}, where there is no RAM");
            return Err(Outcome::Exit(Exit::Fault(Fault::Internal { detail })));
        };
        let from = Source { page, epoch: self.cpu.shared.board.epoch(), retired };
        if let Some(n) = self.code.find(gpa) {
            if self.code.fresh(gpa, from) {
                return Ok(n);
            }
            self.drop_code(gpa & !OFFSET);
        }
        if self.code.full() {
            self.drop_all_code();
        }
        if self.cpu.code_mask[ram_page] == 0 {
            self.cpu.tlb.protect(page);
        }
        let end = ((gpa & OFFSET) as usize + MAX_BLOCK * MAX_INSTRUCTION).min(PAGE as usize);
        page.copy_to(gpa & OFFSET, &mut self.page[(gpa & OFFSET) as usize..end]);
        let modes = self.modes();
        let d = decode::block(&self.page[..end], gpa & OFFSET, modes, &mut self.scratch);
        if self.scratch.is_empty() {
            self.scratch.push(Op::new(step_alone, (gpa & OFFSET) as u16, 0));
        }
        let block = BlockInfo {
            instructions: d.instructions.max(1),
            start: gpa & OFFSET,
            end: d.end,
            target: d.target.unwrap_or(0),
        };
        let bytes = if d.bytes == 0 { PAGE - (gpa & OFFSET) } else { d.bytes };
        let (number, mask) = self.code.insert(gpa, bytes, block, &self.scratch, from);
        self.cpu.code_mask[ram_page] |= mask;
        Ok(number)
    }

    /// Forgets the code of one page.
    fn drop_code(&mut self, gpa: u64) {
        self.code.drop_page(gpa, retired);
        if let Some((_, n)) = self.cpu.ram.page(gpa) {
            self.cpu.code_mask[n] = 0;
        }
    }

    /// Forgets all code.
    pub(crate) fn drop_all_code(&mut self) {
        self.code.clear();
        self.cpu.jumps.flush_all();
        self.cpu.code_mask.fill(0);
        self.stepped.iter_mut().for_each(|s| *s = None);
    }

    /// Runs the instruction at `rip` alone: across pages, on code pages, with answers, under TF.
    fn step(&mut self) -> Outcome {
        let trap = self.cpu.sysflags & bit::TF != 0;
        let decoded = match self.decode_one() {
            Ok(d) => d,
            Err(outcome) => return outcome,
        };
        let rip = self.cpu.rip;
        self.cpu.enter_page(rip);
        let cpu = &mut *self.cpu;
        cpu.stepping = true;
        let op = decoded.op;
        let result = (op.handler)(cpu, &op);
        cpu.stepping = false;
        self.instructions += 1;
        let next = cpu.next_rip(&op);
        let outcome = match result {
            Ok(()) => {
                cpu.rip = next;
                Outcome::Continue
            }
            Err(Stop::Taken) => {
                let target = match decoded.flow {
                    Flow::End(Some(t)) => t,
                    _ => op.end(),
                };
                cpu.rip = cpu.regs[slot::PAGE as usize].wrapping_add(target);
                Outcome::Continue
            }
            Err(stop) => self.stopped(stop, &op),
        };
        let done = matches!(result, Ok(()) | Err(Stop::Taken | Stop::Jump | Stop::Sync | Stop::Halt));
        if done {
            self.cpu.io.clear();
        }
        while let Some(page) = self.cpu.stale.pop() {
            self.drop_code(page);
        }
        if trap && done { self.single_step_trap() } else { outcome }
    }

    /// #DB after an instruction under TF.
    fn single_step_trap(&mut self) -> Outcome {
        self.cpu.sys.debug[4] |= 1 << 14;
        self.cpu.fault = Exception { vector: DB, ..Exception::NONE };
        match self.cpu.deliver_fault(Origin::Trap) {
            Ok(()) => Outcome::Continue,
            Err(_) => self.triple_fault(),
        }
    }

    /// Decodes the instruction at `rip`, which may go on in the next page.
    fn decode_one(&mut self) -> Result<Decoded, Outcome> {
        let rip = self.cpu.rip;
        let (offset, modes) = (rip & OFFSET, self.modes());
        let mut bytes = [0; MAX_INSTRUCTION];
        let first = (PAGE - offset).min(MAX_INSTRUCTION as u64) as usize;
        if self.copy_code(rip, &mut bytes[..first]).is_err() {
            return Err(self.fault());
        }
        let place = (rip as usize ^ (rip >> 12) as usize) % STEP_CACHE;
        let known = self.stepped[place].as_ref().filter(|s| {
            let n = s.len.min(first);
            s.offset == offset && s.modes == modes && s.bytes[..n] == bytes[..n]
        });
        // A fault on the second page counts only if the instruction goes on there.
        let needs_second =
            known.map_or_else(|| first < MAX_INSTRUCTION && decode::needs_more(&bytes[..first]), |s| s.len > first);
        let known_len = known.map(|s| s.len);
        let mut have = first;
        if needs_second {
            if self.copy_code((rip & !OFFSET).wrapping_add(PAGE), &mut bytes[first..]).is_err() {
                return Err(self.fault());
            }
            have = MAX_INSTRUCTION;
        }
        if let (Some(n), Some(s)) = (known_len, &self.stepped[place]) {
            if s.bytes[..n] == bytes[..n] {
                return Ok(Decoded { op: s.op, flow: s.flow });
            }
        }
        let decoded = decode::one(&bytes[..have], offset, modes);
        let len = (decoded.op.end() - decoded.op.offset()) as usize;
        self.stepped[place] =
            (len > 0).then_some(Stepped { bytes, len, offset, modes, op: decoded.op, flow: decoded.flow });
        Ok(decoded)
    }

    fn copy_code(&mut self, va: u64, out: &mut [u8]) -> Result<(), Stop> {
        let (page, _) = self.cpu.fetch_page(va)?;
        match self.cpu.ram.page(page) {
            Some((host, _)) => host.copy_to(va & OFFSET, out),
            None => out.fill(0xff),
        }
        Ok(())
    }
}

/// Why the hot loop was left.
enum Left {
    /// The budget is used up; `rip` is where to go on.
    Spent,
    /// No block is known at `rip`.
    Unknown,
    /// Nor is it linked, though it is in the page of `block`.
    Unlinked { block: u32, taken: bool },
    /// An op did not simply end.
    Stopped(Stop, Op),
}

/// Runs blocks as long as the next one is known.
#[inline(never)]
fn hot(cpu: &mut Cpu, code: &CodeCache, shared: &Shared, mut number: u32) -> Left {
    loop {
        let Some((header, ops)) = code.block(number) else { return Left::Unknown };
        if !shared.spend(header.instructions()) {
            cpu.rip = cpu.regs[slot::PAGE as usize] + header.start();
            return Left::Spent;
        }
        let mut way = Ok(());
        for op in ops {
            way = (op.handler)(cpu, op);
            match way {
                Ok(()) => {}
                Err(Stop::Taken | Stop::Jump) => break,
                Err(stop) => return Left::Stopped(stop, *op),
            }
        }
        if way != Err(Stop::Jump) {
            let taken = way.is_err();
            let linked = header.link(taken);
            if linked != NO_BLOCK {
                number = linked;
                continue;
            }
            let next = header.next(taken);
            cpu.rip = cpu.regs[slot::PAGE as usize].wrapping_add(next);
            if next < PAGE {
                return Left::Unlinked { block: number, taken };
            }
        }
        cpu.regs[slot::PAGE as usize] = cpu.rip & !OFFSET;
        number = cpu.jumps.get(cpu.rip);
    }
}

impl Cpu {
    /// Guest physical page to fetch from, and whether its mapping is global.
    fn fetch_page(&mut self, rip: u64) -> Result<(u64, bool), Stop> {
        if let Some(found) = self.tlb.fetch(rip) {
            return Ok(found);
        }
        if !crate::cpu::canonical(rip) {
            return Err(self.gp0());
        }
        let user = self.cpl == 3;
        let m = self.translate(rip, Access::Fetch, user)?;
        let page = m.gpa & !OFFSET;
        self.tlb.fill_fetch(rip, page, m.global, m.span);
        Ok((page, m.global))
    }
}

/// Stands for code that was forgotten, where a jump target still leads to it.
fn retired(_: &mut Cpu, _: &Op) -> crate::op::Res {
    Err(Stop::Retired)
}

/// Stands for an instruction that must run alone.
fn step_alone(_: &mut Cpu, _: &Op) -> crate::op::Res {
    Err(Stop::Step)
}

//! Blocks: finding, decoding, linking and running them.

use supermachine_hv::{Exit, Fault};

use super::{Engine, Outcome};
use crate::chips::shared::Shared;
use crate::code::block::BlockInfo;
use crate::code::{CodeCache, MAX_BLOCK, NO_BLOCK, Source};
use crate::cpu::Cpu;
use crate::decode::{self, MAX_INSTRUCTION};
use crate::mem::{OFFSET, PAGE};
use crate::op::{Op, Res, Stop, slot};
use crate::paging::Access;

impl Engine {
    /// Runs blocks until something stops them.
    pub(super) fn blocks(&mut self) -> Outcome {
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
    pub(super) fn link(&mut self, block: u32, taken: bool) -> Result<u32, Outcome> {
        let generation = self.code.generation();
        let target = self.lookup()?;
        if self.code.generation() == generation {
            self.code.link(block, taken, target);
        }
        Ok(target)
    }

    /// The block at `rip`, decoded if need be.
    pub(super) fn lookup(&mut self) -> Result<u32, Outcome> {
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
    pub(super) fn at(&mut self, gpa: u64) -> Result<u32, Outcome> {
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
    pub(super) fn drop_code(&mut self, gpa: u64) {
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
    pub(super) fn fetch_page(&mut self, rip: u64) -> Result<(u64, bool), Stop> {
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
fn retired(_: &mut Cpu, _: &Op) -> Res {
    Err(Stop::Retired)
}

/// Stands for an instruction that must run alone.
fn step_alone(_: &mut Cpu, _: &Op) -> Res {
    Err(Stop::Step)
}

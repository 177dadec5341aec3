//! Blocks: finding, decoding, linking and running them.

use supermachine_hv::{Exit, Fault};

use super::{Engine, Outcome};
use crate::code::block::{BlockInfo, NEVER};
use crate::code::map::Change;
use crate::code::thread::{At, CHUNK, Left, rare};
use crate::code::{NO_BLOCK, Source};
use crate::cpu::Cpu;
use crate::decode;
use crate::mem::{OFFSET, PAGE};
use crate::op::{Op, Res, Stop, slot};
use crate::paging::Access;
use crate::trace::grant;

/// Guest instructions between looks at the clock.
const SLICE: i32 = 20_000;
/// Bytes of code that are looked at for one block: more than nearly all blocks have.
const WINDOW: usize = 256;
/// Instructions that one of these looks may count as, though it is none.
const STOP: i32 = 16;

impl Engine {
    /// Runs blocks until something stops them or the slice is over.
    pub(super) fn blocks(&mut self) -> Outcome {
        self.retire_changed();
        let mut left = SLICE;
        let mut next = self.lookup();
        loop {
            let number = match next {
                Ok(n) => n,
                Err(outcome) => return outcome,
            };
            let start = self.cpu.rip;
            let (reason, ran) = self.run_from(number, grant(CHUNK));
            self.instructions += u64::from(ran.unsigned_abs());
            left -= ran;
            if reason == Left::Stopped {
                if let Some(outcome) = self.stopped_in_block(start) {
                    return outcome;
                }
                left -= STOP;
            } else {
                self.trace.ran(&mut self.cpu, number, start);
            }
            next = match reason {
                _ if left <= 0 || self.shared.wants_attention() => return Outcome::Continue,
                Left::NotLinked => self.link(false),
                Left::BranchNotLinked => self.link(true),
                Left::FarNotLinked => self.link_far(false),
                Left::FarBranchNotLinked => self.link_far(true),
                Left::Spent | Left::Unknown | Left::Stopped => self.lookup(),
            };
        }
    }

    /// What to do about the op that left the threaded code, begun at `start`; nothing when that goes on at `rip`.
    fn stopped_in_block(&mut self, start: u64) -> Option<Outcome> {
        let Some(&op) = self.code.ops().get(self.cpu.left) else { return Some(Outcome::Continue) };
        let stop = self.cpu.stop;
        self.trace.stopped(&self.cpu, start, stop, &op);
        match stop {
            Stop::Changed => self.retire_changed(),
            Stop::Retired => {
                self.cpu.rip = self.cpu.op_rip(&op);
                self.cpu.jumps.forget(self.cpu.rip);
            }
            _ => return Some(self.stopped(stop, &op)),
        }
        None
    }

    /// Runs threaded code from the start of a block to the first block's end where the fuel is used up; gives why it
    /// was left and how many instructions ran.
    pub(super) fn run_from(&mut self, number: u32, fuel: i32) -> (Left, i32) {
        let cpu = &mut *self.cpu;
        (cpu.granted, cpu.fuel) = (fuel, fuel);
        let reason = match At::new(self.code.ops(), number) {
            Some(at) => (at.op().quick)(cpu, at, &self.code),
            None => Left::Unknown,
        };
        (reason, (cpu.granted - cpu.fuel).max(0))
    }

    /// Finds the block after the one whose end is at `cpu.left`, at `rip` in the same page, and links the two.
    fn link(&mut self, taken: bool) -> Result<u32, Outcome> {
        let (generation, end) = (self.code.generation(), self.cpu.left);
        let target = self.lookup()?;
        if self.code.generation() == generation {
            self.code.link(end, taken, target);
        }
        Ok(target)
    }

    /// The same in another page. Only what a CR3 load leaves where it is gets a link.
    fn link_far(&mut self, taken: bool) -> Result<u32, Outcome> {
        let (generation, end) = (self.code.generation(), self.cpu.left);
        let page = self.cpu.regs[slot::PAGE as usize];
        let target = self.lookup()?;
        let jumps = &self.cpu.jumps;
        if self.code.generation() == generation {
            let link = if jumps.global(self.cpu.rip) { target } else { NEVER };
            self.code.link_far(end, taken, link, jumps.key(page));
        }
        Ok(target)
    }

    /// The block at `rip`, decoded if need be.
    pub(super) fn lookup(&mut self) -> Result<u32, Outcome> {
        let cpu = &mut *self.cpu;
        let rip = cpu.rip;
        cpu.enter_page(rip);
        let known = cpu.jumps.get(rip);
        if known != NO_BLOCK {
            return Ok(known);
        }
        let (gpa, global) = match cpu.fetch_page(rip) {
            Ok(p) => p,
            Err(_) => return Err(self.fault()),
        };
        let from = self.source(gpa)?;
        let number = match self.cpu.jumps.recall(rip, from.number) {
            Some(n) => n,
            None => self.at(rip & OFFSET, from),
        };
        self.cpu.jumps.put(rip, number, from.number, global);
        Ok(number)
    }

    /// The page of RAM to run code from, whose code is still what was decoded, as far as devices may have changed it.
    fn source(&mut self, gpa: u64) -> Result<Source, Outcome> {
        let Some((page, number)) = self.cpu.ram.page(gpa) else {
            let detail = format!("guest runs code at {gpa:#x}, where there is no RAM");
            return Err(Outcome::Exit(Exit::Fault(Fault::Internal { detail })));
        };
        let (from, epoch) = (Source { page, number }, self.shared.board.epoch());
        if self.cpu.code_map.epoch(number) != epoch {
            self.cpu.code_map.set_epoch(number, epoch);
            if !self.code.fresh(from) {
                self.drop_changed(Change { page: number, start: 0, end: PAGE });
            }
        }
        Ok(from)
    }

    /// The block at an offset of a page.
    fn at(&mut self, offset: u64, from: Source) -> u32 {
        if let Some(n) = self.code.find(from.number, offset) {
            return n;
        }
        if self.code.full() {
            self.drop_all_code();
        }
        self.watch(from);
        if let Some(number) = self.adopt(offset, from) {
            return number;
        }
        if let Some((number, len)) = self.code.revive(offset, from) {
            self.cpu.code_map.add(from.number, offset, len);
            return number;
        }
        self.decode(offset, from)
    }

    /// Has every change of a page noticed from here on.
    pub(super) fn watch(&mut self, from: Source) {
        if !self.cpu.code_map.watched(from.number) {
            if self.cpu.code_map.writable(from.number) {
                self.cpu.tlb.guard(from.page, from.number);
            }
            self.cpu.code_map.watch(from.number, true);
        }
    }

    /// Decodes a block.
    fn decode(&mut self, offset: u64, from: Source) -> u32 {
        let end = (offset as usize + WINDOW).min(PAGE as usize);
        from.page.copy_to(offset, &mut self.page[offset as usize..end]);
        let modes = self.modes();
        let d = decode::block(&self.page[..end], offset, modes, &mut self.scratch);
        if self.scratch.ops.is_empty() {
            let choice = rare(step_alone);
            self.scratch.push(Op::new(choice.quick, offset as u16, 0), choice);
        }
        let block = BlockInfo { instructions: d.instructions.max(1), end: d.end, target: d.target.unwrap_or(0) };
        let bytes = if d.bytes == 0 { PAGE - offset } else { d.bytes };
        let number = self.code.insert(offset, bytes, block, &self.scratch, from);
        self.decoded += self.scratch.ops.len();
        self.trace.decoded(number, block, &self.page[..]);
        self.cpu.code_map.add(from.number, offset, bytes);
        number
    }

    /// Retires code that the guest changed.
    fn retire_changed(&mut self) {
        while let Some(change) = self.cpu.code_map.take_change() {
            self.drop_changed(change);
        }
    }

    fn drop_changed(&mut self, change: Change) {
        if self.code.retire(change) {
            self.cpu.jumps.forget_calls();
            self.cpu.code_map.replace(change.page, self.code.ranges(change.page));
        }
    }

    /// Forgets all code.
    pub(crate) fn drop_all_code(&mut self) {
        self.code.clear();
        self.cpu.jumps.clear();
        self.cpu.code_map.clear();
        self.stepped.iter_mut().for_each(|s| *s = None);
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

/// Stands for an instruction that must run alone.
fn step_alone(_: &mut Cpu, _: &Op) -> Res {
    Err(Stop::Step)
}

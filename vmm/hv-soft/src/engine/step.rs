//! One instruction alone: across pages, on pages that hold code, with answers to reads, under TF.

use super::{Engine, Outcome};
use crate::decode::{self, Decoded, Flow, MAX_INSTRUCTION, Modes};
use crate::flags::bit;
use crate::mem::{OFFSET, PAGE};
use crate::op::{Handler, Op, Stop, slot};
use crate::sys::exception::{DB, Exception, Origin};

/// Instructions that run alone, remembered by their bytes.
pub(super) const STEP_CACHE: usize = 256;
/// One remembered instruction.
pub(super) struct Stepped {
    bytes: [u8; MAX_INSTRUCTION],
    len: usize,
    offset: u64,
    modes: Modes,
    op: Op,
    plain: Handler,
    flow: Flow,
}

impl Engine {
    /// Runs the instruction at `rip` alone: across pages, on code pages, with answers, under TF.
    pub(super) fn step(&mut self) -> Outcome {
        let trap = self.cpu.sysflags & bit::TF != 0;
        let decoded = match self.decode_one() {
            Ok(d) => d,
            Err(outcome) => return outcome,
        };
        let rip = self.cpu.rip;
        self.trace.alone(rip);
        self.cpu.enter_page(rip);
        let cpu = &mut *self.cpu;
        let op = decoded.op;
        let result = (decoded.plain)(cpu, &op);
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
        // A repeated string instruction traps after each element; a load of SS leaves its trap to the next instruction.
        let ended = done || matches!(result, Err(Stop::Again));
        let held = self.cpu.shadow_ss && self.cpu.shadow == Some(self.cpu.rip);
        if trap && ended && !held { self.single_step_trap() } else { outcome }
    }

    /// #DB after an instruction under TF.
    pub(super) fn single_step_trap(&mut self) -> Outcome {
        self.cpu.sys.debug[4] |= 1 << 14;
        self.cpu.fault = Exception { vector: DB, ..Exception::NONE };
        match self.cpu.deliver_fault(Origin::Trap) {
            Ok(()) => Outcome::Continue,
            Err(_) => self.triple_fault(),
        }
    }

    /// Decodes the instruction at `rip`, which may go on in the next page.
    pub(super) fn decode_one(&mut self) -> Result<Decoded, Outcome> {
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
        if let (Some(n), Some(s)) = (known_len, &self.stepped[place])
            && s.bytes[..n] == bytes[..n]
        {
            return Ok(Decoded { op: s.op, plain: s.plain, flow: s.flow });
        }
        let decoded = decode::one(&bytes[..have], offset, modes);
        let len = (decoded.op.end() - decoded.op.offset()) as usize;
        self.stepped[place] = (len > 0).then_some(Stepped {
            bytes,
            len,
            offset,
            modes,
            op: decoded.op,
            plain: decoded.plain,
            flow: decoded.flow,
        });
        Ok(decoded)
    }

    pub(super) fn copy_code(&mut self, va: u64, out: &mut [u8]) -> Result<(), Stop> {
        let (page, _) = self.cpu.fetch_page(va)?;
        match self.cpu.ram.page(page) {
            Some((host, _)) => host.copy_to(va & OFFSET, out),
            None => out.fill(0xff),
        }
        Ok(())
    }
}

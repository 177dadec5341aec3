//! The run loop: blocks, single steps, faults, interrupts, exits.

mod blocks;
mod keep;
mod rest;
#[cfg(feature = "oracle")]
pub mod single;
mod step;

use std::sync::Arc;
use std::time::Duration;

use supermachine_hv::{Exit, Fault, HvError, Reply, x86::RunState};

use crate::chips::shared::Shared;
use crate::code::kept::Kept;
use crate::code::{CodeCache, Listing};
use crate::cpu::Cpu;
use crate::cpuid::Model;
use crate::decode::Modes;
use crate::flags::bit;
use crate::mem::PAGE;
use crate::op::{Op, Stop};
use crate::spec::{cr0, cr4};
use crate::sys::exception::Origin;
use crate::trace::Trace;
use rest::Rest;
use step::{STEP_CACHE, Stepped};

/// What a stretch of guest code ended with.
pub(crate) enum Outcome {
    /// Look at interrupts and go on.
    Continue,
    /// Give this to the vmm.
    Exit(Exit),
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
    /// An exit that [`settle`](Self::settle) came upon, for the next `run` to give.
    pub(crate) found: Option<Exit>,
    /// Guest instructions so far, to the nearest slice.
    pub(crate) instructions: u64,
    scratch: Listing,
    page: Box<[u8; PAGE as usize]>,
    stepped: Vec<Option<Stepped>>,
    kept: Option<Kept>,
    /// Pages of it that were looked at before the guest came to them.
    ahead: usize,
    /// Ops that were decoded here, and those that came out of what was kept, when the guest came to them or before.
    decoded: usize,
    adopted: usize,
    adopted_ahead: usize,
    trace: Trace,
    rest: Rest,
}

impl Engine {
    pub(crate) fn new(cpu: Box<Cpu>, state: RunState) -> Self {
        Engine {
            shared: cpu.shared.clone(),
            cpu,
            code: CodeCache::new(),
            state,
            waiting: None,
            found: None,
            instructions: 0,
            scratch: Listing::default(),
            page: Box::new([0; PAGE as usize]),
            stepped: (0..STEP_CACHE).map(|_| None).collect(),
            kept: None,
            ahead: 0,
            decoded: 0,
            adopted: 0,
            adopted_ahead: 0,
            trace: Trace::new(),
            rest: Rest::new(0),
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
            no_v2: self.cpu.model == Model::V1,
        }
    }

    /// Runs until the vmm is needed.
    pub(crate) fn run(&mut self) -> Result<Exit, HvError> {
        if let Some(e) = &self.waiting {
            return Err(HvError::ExitInFlight { exit: e.name() });
        }
        if let Some(e) = self.found.take() {
            return Ok(self.give(e));
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
                return Ok(self.give(e));
            }
        }
    }

    /// Remembers an exit that needs an answer.
    fn give(&mut self, e: Exit) -> Exit {
        if e.needs_reply() {
            self.cpu.shared.board.device_activity();
            self.waiting = Some(e.clone());
        }
        e
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
        if let Some(e) = self.waiting.as_ref().or(self.found.as_ref()) {
            return Err(HvError::ExitInFlight { exit: e.name() });
        }
        if self.cpu.io.replaying()
            && let Outcome::Exit(e) = self.step()
        {
            let exit = e.name();
            self.found = Some(e);
            return Err(HvError::ExitInFlight { exit });
        }
        if self.cpu.io.posting() {
            return Err(HvError::ExitInFlight { exit: "mmio-write" });
        }
        Ok(())
    }

    /// Looks at everything that is not guest code, then runs some.
    fn turn(&mut self) -> Outcome {
        let cpu = &mut *self.cpu;
        let _looked = cpu.shared.take_attention();
        if cpu.shared.take_kick() {
            return Outcome::Exit(Exit::Kicked);
        }
        cpu.collect_interrupts();
        if self.state == RunState::Halted
            && let Some(outcome) = self.wake()
        {
            return outcome;
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
        if self.ahead() {
            return Some(Outcome::Continue);
        }
        let cpu = &mut *self.cpu;
        let deadline = cpu.lapic.deadline;
        let timeout = (deadline != 0).then(|| Duration::from_nanos(deadline.saturating_sub(cpu.clock.tsc())));
        let timeout = self.rest(timeout);
        self.cpu.shared.sleep(timeout, deadline);
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

    /// What to do about an op that did not simply end.
    fn stopped(&mut self, stop: Stop, op: &Op) -> Outcome {
        let cpu = &mut *self.cpu;
        match stop {
            Stop::Taken | Stop::Jump | Stop::Sync | Stop::Changed => Outcome::Continue,
            // Only threaded code takes the fast path, and it tries again by the whole one.
            Stop::Miss => self.step(),
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
            Stop::Step => {
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
}

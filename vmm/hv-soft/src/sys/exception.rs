//! Exceptions and interrupts: delivery through the IDT in 64-bit mode (Intel SDM vol. 3, 6.14).

use crate::cpu::{Cpu, canonical, reg, seg};
use crate::flags::bit;
use crate::op::{Res, Stop};
use crate::word::Word;

pub(crate) const DE: u8 = 0;
pub(crate) const DB: u8 = 1;
pub(crate) const BP: u8 = 3;
pub(crate) const UD: u8 = 6;
pub(crate) const NM: u8 = 7;
pub(crate) const DF: u8 = 8;
pub(crate) const TS: u8 = 10;
pub(crate) const NP: u8 = 11;
pub(crate) const SS: u8 = 12;
pub(crate) const GP: u8 = 13;
pub(crate) const PF: u8 = 14;
pub(crate) const MF: u8 = 16;
pub(crate) const XM: u8 = 19;

/// An exception on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exception {
    pub(crate) vector: u8,
    pub(crate) code: Option<u32>,
    /// Address for CR2.
    pub(crate) cr2: Option<u64>,
    /// False where the cause was a non-canonical address: #SS instead of #GP for stack accesses.
    pub(crate) canonical: bool,
}

impl Exception {
    /// None yet.
    pub(crate) const NONE: Exception = Exception { vector: 0, code: None, cr2: None, canonical: true };
}

/// Where an event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A fault: RF is set in the saved flags.
    Fault,
    /// A trap (#DB after an instruction).
    Trap,
    /// INT n, INT3: the gate's privilege level is checked.
    Software,
    /// Interrupt or NMI.
    External,
}

/// Delivery ran into a fault while delivering a double fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TripleFault;

fn contributory(vector: u8) -> bool {
    matches!(vector, DE | TS..=GP)
}

struct Gate {
    offset: u64,
    selector: u16,
    ist: u64,
    clears_if: bool,
}

impl Cpu {
    /// Reads a system structure, whatever the current privilege level.
    pub(crate) fn system_read<T: Word>(&mut self, va: u64) -> Res<T> {
        let cpl = self.cpl;
        self.set_cpl(0);
        let v = self.read::<T>(va);
        self.set_cpl(cpl);
        v
    }

    /// Writes a system structure, whatever the current privilege level.
    pub(crate) fn system_write<T: Word>(&mut self, va: u64, v: T) -> Res {
        let cpl = self.cpl;
        self.set_cpl(0);
        let r = self.write::<T>(va, v);
        self.set_cpl(cpl);
        r
    }

    /// Delivers the exception in `self.fault` for the instruction at `self.rip`, with double-fault rules.
    pub(crate) fn deliver_fault(&mut self, origin: Origin) -> Result<(), TripleFault> {
        let mut e = self.fault;
        let mut origin = origin;
        // Benign, contributory, page fault, double fault: at most three deliveries can go wrong.
        for _ in 0..4 {
            if let Some(cr2) = e.cr2 {
                self.sys.cr2 = cr2;
            }
            match self.deliver(e.vector, e.code, origin) {
                Ok(()) => return Ok(()),
                Err(_) if e.vector == DF => return Err(TripleFault),
                Err(_) => {}
            }
            let second = self.fault;
            let double = contributory(e.vector) && contributory(second.vector)
                || e.vector == PF && (second.vector == PF || contributory(second.vector));
            e = second;
            if double {
                if let Some(cr2) = second.cr2 {
                    self.sys.cr2 = cr2;
                }
                e = Exception { vector: DF, code: Some(0), ..Exception::NONE };
            } else if origin != Origin::Software {
                e.code = second.code.map(|c| if second.vector == PF { c } else { c | 1 });
            }
            origin = Origin::Fault;
        }
        Err(TripleFault)
    }

    /// Delivers an interrupt.
    pub(crate) fn deliver_interrupt(&mut self, vector: u8) -> Result<(), TripleFault> {
        match self.deliver(vector, None, Origin::External) {
            Ok(()) => Ok(()),
            Err(_) => {
                self.fault.code = self.fault.code.map(|c| if self.fault.vector == PF { c } else { c | 1 });
                self.deliver_fault(Origin::Fault)
            }
        }
    }

    /// One delivery; on a stop nothing but the fault has changed.
    pub(crate) fn deliver(&mut self, vector: u8, code: Option<u32>, origin: Origin) -> Res {
        let gate = self.gate(vector, origin)?;
        let target = self.code_segment(gate.selector, false)?;
        let dpl = (target.attributes >> 5 & 3) as u8;
        let conforming = target.attributes & 4 != 0;
        if dpl > self.cpl {
            return Err(self.raise_code(GP, u32::from(gate.selector & !3)));
        }
        let new_cpl = if conforming { self.cpl } else { dpl };
        let stack = self.new_stack(gate.ist, new_cpl)?;
        let mut image = self.rflags();
        if origin == Origin::Fault {
            image |= bit::RF;
        }
        let cs = u64::from(self.sys.segs[seg::CS].selector);
        let ss = u64::from(self.sys.segs[seg::SS].selector);
        let frame = [ss, self.regs[reg::RSP], image, cs, self.rip, code.map_or(0, u64::from)];
        let words = if code.is_some() { 6 } else { 5 };
        let rsp = self.push_frame(stack, &frame[..words], new_cpl)?;
        if new_cpl != self.cpl {
            self.set_null_ss(new_cpl);
        }
        self.regs[reg::RSP] = rsp;
        self.set_cs(target, gate.selector & !3 | u16::from(new_cpl));
        self.set_cpl(new_cpl);
        self.rip = gate.offset;
        let cleared = bit::TF | bit::NT | bit::RF | bit::VM | if gate.clears_if { bit::IF } else { 0 };
        self.sysflags &= !cleared;
        self.shadow = None;
        Ok(())
    }

    fn gate(&mut self, vector: u8, origin: Origin) -> Res<Gate> {
        let offset = u64::from(vector) * 16;
        let error = u32::from(vector) * 8 + 2;
        if offset + 15 > u64::from(self.sys.idt.limit) {
            return Err(self.raise_code(GP, error));
        }
        let at = self.sys.idt.base.wrapping_add(offset);
        let low = self.system_read::<u64>(at)?;
        let high = self.system_read::<u64>(at.wrapping_add(8))?;
        let kind = low >> 40 & 0x1f;
        if kind != 0xe && kind != 0xf {
            return Err(self.raise_code(GP, error));
        }
        let dpl = (low >> 45 & 3) as u8;
        if origin == Origin::Software && self.cpl > dpl {
            return Err(self.raise_code(GP, error));
        }
        if low >> 47 & 1 == 0 {
            return Err(self.raise_code(NP, error));
        }
        let offset = low & 0xffff | low >> 32 & 0xffff_0000 | high << 32;
        if !canonical(offset) {
            return Err(self.gp0());
        }
        Ok(Gate { offset, selector: (low >> 16) as u16, ist: low >> 32 & 7, clears_if: kind == 0xe })
    }

    /// The stack for a handler: from the IST, from the TSS for an inner level, or the current one.
    fn new_stack(&mut self, ist: u64, new_cpl: u8) -> Res<u64> {
        let offset = match (ist, new_cpl == self.cpl) {
            (0, true) => return Ok(self.regs[reg::RSP] & !15),
            (0, false) => 4 + 8 * u64::from(new_cpl),
            (n, _) => 28 + 8 * n,
        };
        if offset + 7 > u64::from(self.sys.tr.limit) {
            let code = u32::from(self.sys.tr.selector & !7);
            return Err(self.raise_code(TS, code));
        }
        let rsp = self.system_read::<u64>(self.sys.tr.base.wrapping_add(offset))?;
        if !canonical(rsp) {
            return Err(self.raise_code(SS, 0));
        }
        Ok(rsp & !15)
    }

    /// Writes a stack frame, highest word first, with the rights of the new level; gives the new stack pointer.
    fn push_frame(&mut self, top: u64, words: &[u64], new_cpl: u8) -> Res<u64> {
        let len = 8 * words.len() as u64;
        let bottom = top.wrapping_sub(len);
        let cpl = self.cpl;
        self.set_cpl(new_cpl);
        let mut done = self.prepare_write(bottom, len);
        for (i, &w) in words.iter().enumerate() {
            if done.is_ok() {
                done = self.write(top.wrapping_sub(8 * (i as u64 + 1)), w);
            }
        }
        self.set_cpl(cpl);
        match done {
            Ok(()) => Ok(bottom),
            // A stack in device memory cannot be served; tell it as a stack fault.
            Err(Stop::Fault) => Err(self.stack_stop(Stop::Fault)),
            Err(_) => Err(self.raise_code(SS, 0)),
        }
    }
}

//! Jumps, calls, returns and the stack.

use crate::access::{Path, Whole};
use crate::cpu::{Cpu, canonical, reg};
use crate::ea::{Ea, Full};
use crate::op::{Op, Res, Stop, mode};
use crate::sys::exception::SS;
use crate::word::Word;

impl Cpu {
    /// Pushes a value; RSP moves only if the write succeeded.
    #[inline(always)]
    pub(crate) fn push<T: Word>(&mut self, v: T) -> Res {
        self.push_by::<Whole, T>(v)
    }

    /// Pushes a value by a path.
    #[inline(always)]
    fn push_by<P: Path, T: Word>(&mut self, v: T) -> Res {
        let sp = self.regs[reg::RSP].wrapping_sub(T::BYTES);
        if let Err(s) = self.write_by::<P, T>(sp, v) {
            return Err(if P::WHOLE { self.stack_stop(s) } else { s });
        }
        self.regs[reg::RSP] = sp;
        Ok(())
    }

    /// Reads the top of the stack; the caller moves RSP.
    #[inline(always)]
    pub(crate) fn peek<T: Word>(&mut self) -> Res<T> {
        self.peek_by::<Whole, T>()
    }

    #[inline(always)]
    fn peek_by<P: Path, T: Word>(&mut self) -> Res<T> {
        match self.read_by::<P, T>(self.regs[reg::RSP]) {
            Ok(v) => Ok(v),
            Err(s) if !P::WHOLE => Err(s),
            Err(s) => Err(self.stack_stop(s)),
        }
    }

    /// A non-canonical stack address is #SS.
    #[cold]
    pub(crate) fn stack_stop(&mut self, s: Stop) -> Stop {
        if s == Stop::Fault && !self.fault.canonical {
            self.fault.vector = SS;
        }
        s
    }

    #[inline(always)]
    fn goto(&mut self, target: u64) -> Res {
        self.rip = target;
        Err(Stop::Jump)
    }
}

pub(crate) fn jmp(_: &mut Cpu, _: &Op) -> Res {
    Err(Stop::Taken)
}

pub(crate) fn jcc<const CC: u8>(cpu: &mut Cpu, _: &Op) -> Res {
    if cpu.flags.cond::<CC>() { Err(Stop::Taken) } else { Ok(()) }
}

fn count_mask(op: &Op) -> u64 {
    if op.mode & mode::ADDR32 != 0 { u64::from(u32::MAX) } else { u64::MAX }
}

/// JRCXZ and JECXZ.
pub(crate) fn jcxz(cpu: &mut Cpu, op: &Op) -> Res {
    if cpu.regs[reg::RCX] & count_mask(op) == 0 { Err(Stop::Taken) } else { Ok(()) }
}

/// LOOP (`imm` 0), LOOPE (1), LOOPNE (2).
pub(crate) fn looping(cpu: &mut Cpu, op: &Op) -> Res {
    let count = cpu.regs[reg::RCX].wrapping_sub(1) & count_mask(op);
    cpu.regs[reg::RCX] = count;
    let more = count != 0
        && match op.imm {
            0 => true,
            1 => cpu.flags.zf(),
            _ => !cpu.flags.zf(),
        };
    if more { Err(Stop::Taken) } else { Ok(()) }
}

pub(crate) fn call<P: Path>(cpu: &mut Cpu, op: &Op) -> Res {
    let back = cpu.next_rip(op);
    cpu.push_by::<P, _>(back)?;
    Err(Stop::Taken)
}

pub(crate) fn jmp_r(cpu: &mut Cpu, op: &Op) -> Res {
    let target = u64::get(cpu, op.dst);
    if !canonical(target) {
        return Err(cpu.gp0());
    }
    cpu.goto(target)
}

pub(crate) fn jmp_m<P: Path>(cpu: &mut Cpu, op: &Op) -> Res {
    let target = cpu.read_by::<P, u64>(Full::ea(cpu, op))?;
    if !canonical(target) {
        if !P::WHOLE {
            return Err(Stop::Miss);
        }
        return Err(cpu.gp0());
    }
    cpu.goto(target)
}

#[inline(always)]
fn call_to<P: Path>(cpu: &mut Cpu, op: &Op, target: u64) -> Res {
    if !canonical(target) {
        if !P::WHOLE {
            return Err(Stop::Miss);
        }
        // The stack's own fault comes first.
        let sp = cpu.regs[reg::RSP].wrapping_sub(8);
        return Err(match cpu.prepare_write(sp, 8) {
            Ok(()) => cpu.gp0(),
            Err(s) => cpu.stack_stop(s),
        });
    }
    let back = cpu.next_rip(op);
    cpu.push_by::<P, _>(back)?;
    cpu.goto(target)
}

pub(crate) fn call_r<P: Path>(cpu: &mut Cpu, op: &Op) -> Res {
    let target = u64::get(cpu, op.dst);
    call_to::<P>(cpu, op, target)
}

pub(crate) fn call_m<P: Path>(cpu: &mut Cpu, op: &Op) -> Res {
    let target = cpu.read_by::<P, u64>(Full::ea(cpu, op))?;
    call_to::<P>(cpu, op, target)
}

/// RET, with the bytes to release in `imm`.
pub(crate) fn ret<P: Path>(cpu: &mut Cpu, op: &Op) -> Res {
    let target = cpu.peek_by::<P, u64>()?;
    if !canonical(target) {
        if !P::WHOLE {
            return Err(Stop::Miss);
        }
        return Err(cpu.gp0());
    }
    cpu.regs[reg::RSP] = cpu.regs[reg::RSP].wrapping_add(8).wrapping_add(op.imm);
    cpu.goto(target)
}

pub(crate) fn push_r<P: Path, T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = T::get(cpu, op.dst);
    cpu.push_by::<P, _>(v)
}

pub(crate) fn push_i<P: Path, T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    cpu.push_by::<P, _>(T::from64(op.imm))
}

pub(crate) fn push_m<P: Path, T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = cpu.read_by::<P, T>(Full::ea(cpu, op))?;
    cpu.push_by::<P, _>(v)
}

pub(crate) fn pop_r<P: Path, T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = cpu.peek_by::<P, T>()?;
    cpu.regs[reg::RSP] = cpu.regs[reg::RSP].wrapping_add(T::BYTES);
    T::set(cpu, op.dst, v);
    Ok(())
}

/// POP to memory: an address based on RSP uses its value after the pop.
pub(crate) fn pop_m<P: Path, T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = cpu.peek_by::<P, T>()?;
    let before = cpu.regs[reg::RSP];
    cpu.regs[reg::RSP] = before.wrapping_add(T::BYTES);
    let at = Full::ea(cpu, op);
    let done = cpu.write_by::<P, _>(at, v);
    if done.is_err() {
        cpu.regs[reg::RSP] = before;
    }
    done
}

pub(crate) fn leave<P: Path>(cpu: &mut Cpu, _: &Op) -> Res {
    let bp = cpu.regs[reg::RBP];
    let v = match cpu.read_by::<P, u64>(bp) {
        Ok(v) => v,
        Err(s) if !P::WHOLE => return Err(s),
        Err(s) => return Err(cpu.stack_stop(s)),
    };
    cpu.regs[reg::RSP] = bp.wrapping_add(8);
    cpu.regs[reg::RBP] = v;
    Ok(())
}

/// LEAVE with a 16-bit operand.
pub(crate) fn leave16(cpu: &mut Cpu, _: &Op) -> Res {
    let bp = cpu.regs[reg::RBP];
    let v = match cpu.read::<u16>(bp) {
        Ok(v) => v,
        Err(s) => return Err(cpu.stack_stop(s)),
    };
    cpu.regs[reg::RSP] = bp.wrapping_add(2);
    u16::set(cpu, reg::RBP as u8, v);
    Ok(())
}

/// ENTER: frame size in `imm`, nesting level in `aux`.
pub(crate) fn enter<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let level = u64::from(op.aux & 31);
    let frame = cpu.regs[reg::RSP].wrapping_sub(T::BYTES);
    let bp = cpu.regs[reg::RBP];
    let lowest = frame.wrapping_sub(T::BYTES * level);
    let end = lowest.wrapping_sub(op.imm & 0xffff);
    // In the order of the pushes, which decides the fault's address; then that the final stack pointer could be written.
    let mut pushes = (0..=level).map(|i| frame.wrapping_sub(T::BYTES * i)).chain([end]);
    if let Err(s) = pushes.try_for_each(|at| cpu.prepare_write(at, T::BYTES)) {
        return Err(cpu.stack_stop(s));
    }
    cpu.write(frame, T::from64(bp))?;
    for i in 1..level {
        let v = match cpu.read::<T>(bp.wrapping_sub(T::BYTES * i)) {
            Ok(v) => v,
            Err(s) => return Err(cpu.stack_stop(s)),
        };
        cpu.write(frame.wrapping_sub(T::BYTES * i), v)?;
    }
    if level > 0 {
        cpu.write(lowest, T::from64(frame))?;
    }
    T::set(cpu, reg::RBP as u8, T::from64(frame));
    cpu.regs[reg::RSP] = end;
    Ok(())
}

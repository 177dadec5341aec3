//! String instructions, with REP in page-sized pieces.

use crate::cpu::{Cpu, reg};
use crate::exec::alu::sub;
use crate::flags::bit;
use crate::mem::{OFFSET, PAGE};
use crate::op::{Op, Res, Stop, mode};
use crate::paging::Access;
use crate::word::Word;

/// Elements between looks at interrupts.
const BATCH: u64 = 1024;

/// Addresses, counts and steps of one string instruction.
struct Span {
    /// Mask of the address size.
    mask: u64,
    /// What is added to pointers after each element.
    step: u64,
    /// Repeated at all.
    rep: bool,
    /// Under TF: each element is followed by its own #DB, on the processors that were tried.
    single: bool,
    /// Base of the source segment.
    base: u64,
}

impl Span {
    fn new<T: Word>(cpu: &Cpu, op: &Op) -> Self {
        let down = cpu.sysflags & bit::DF != 0;
        Span {
            mask: if op.mode & mode::ADDR32 != 0 { u64::from(u32::MAX) } else { u64::MAX },
            step: if down { 0u64.wrapping_sub(T::BYTES) } else { T::BYTES },
            rep: op.mode & (mode::REP | mode::REPNE) != 0,
            single: cpu.sysflags & bit::TF != 0,
            base: cpu.regs[(op.seg & 31) as usize],
        }
    }

    fn source(&self, cpu: &Cpu) -> u64 {
        (cpu.regs[reg::RSI] & self.mask).wrapping_add(self.base)
    }

    fn destination(&self, cpu: &Cpu) -> u64 {
        cpu.regs[reg::RDI] & self.mask
    }

    fn count(&self, cpu: &Cpu) -> u64 {
        if self.rep { cpu.regs[reg::RCX] & self.mask } else { 1 }
    }

    fn advance(&self, cpu: &mut Cpu, r: usize, elements: u64) {
        cpu.regs[r] = cpu.regs[r].wrapping_add(self.step.wrapping_mul(elements)) & self.mask;
    }

    fn counted(&self, cpu: &mut Cpu, elements: u64) {
        if self.rep {
            cpu.regs[reg::RCX] = (cpu.regs[reg::RCX] & self.mask).wrapping_sub(elements) & self.mask;
        }
    }

    /// After some elements: go on, or stop to look at interrupts, under TF, or because an answer was used up.
    fn pause(&self, cpu: &Cpu, turn: u64) -> Res {
        let often = turn.is_multiple_of(BATCH) && cpu.shared.wants_attention();
        if self.rep && self.count(cpu) != 0 && (self.single || cpu.io.replaying() || cpu.io.posting() || often) {
            return Err(Stop::Again);
        }
        Ok(())
    }
}

/// Whole elements until the page of `va` ends.
fn room<T: Word>(va: u64) -> u64 {
    (PAGE - (va & OFFSET)) / T::BYTES
}

pub(crate) fn movs<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let s = Span::new::<T>(cpu, op);
    while s.count(cpu) != 0 {
        let (from, to) = (s.source(cpu), s.destination(cpu));
        let done = match move_piece::<T>(cpu, &s, from, to)? {
            0 => {
                let v = cpu.read::<T>(from)?;
                cpu.write(to, v)?;
                1
            }
            n => n,
        };
        s.advance(cpu, reg::RSI, done);
        s.advance(cpu, reg::RDI, done);
        s.counted(cpu, done);
        if !s.rep {
            break;
        }
        s.pause(cpu, 0)?;
    }
    Ok(())
}

/// REP MOVS with 64-bit addresses and no segment, upwards, within a page of each side that the TLB knows; else it
/// stops with [`Stop::Miss`].
pub(crate) fn movs_fast<T: Word>(cpu: &mut Cpu, _: &Op) -> Res {
    let count = cpu.regs[reg::RCX];
    let len = count.wrapping_mul(T::BYTES);
    if count != 0 {
        let (from, to) = (cpu.regs[reg::RSI], cpu.regs[reg::RDI]);
        if count > PAGE || cpu.sysflags & bit::DF != 0 || !cpu.tlb.copy(from, to, len) {
            return Err(Stop::Miss);
        }
        (cpu.regs[reg::RSI], cpu.regs[reg::RDI]) = (from.wrapping_add(len), to.wrapping_add(len));
        cpu.regs[reg::RCX] = 0;
    }
    Ok(())
}

/// REP STOS, likewise, of a value whose bytes are all equal.
pub(crate) fn stos_fast<T: Word>(cpu: &mut Cpu, _: &Op) -> Res {
    let count = cpu.regs[reg::RCX];
    let len = count.wrapping_mul(T::BYTES);
    if count != 0 {
        let (to, value) = (cpu.regs[reg::RDI], T::get(cpu, 0));
        let byte = value.to64() as u8;
        let same = T::from64(0x0101_0101_0101_0101u64.wrapping_mul(u64::from(byte))) == value;
        if count > PAGE || cpu.sysflags & bit::DF != 0 || !same || !cpu.tlb.fill(to, byte, len) {
            return Err(Stop::Miss);
        }
        cpu.regs[reg::RDI] = to.wrapping_add(len);
        cpu.regs[reg::RCX] = 0;
    }
    Ok(())
}

/// Copies as many elements as both pages have; 0 where it must go one by one.
fn move_piece<T: Word>(cpu: &mut Cpu, s: &Span, from: u64, to: u64) -> Res<u64> {
    let n = s.count(cpu).min(room::<T>(from)).min(room::<T>(to));
    if n < 2 || s.step != T::BYTES || !s.rep || s.single || s.mask != u64::MAX || cpu.io.replaying() {
        return Ok(0);
    }
    let Some(src) = cpu.bulk(from, Access::Read, n * T::BYTES)? else { return Ok(0) };
    let Some(dst) = cpu.bulk(to, Access::Write, n * T::BYTES)? else { return Ok(0) };
    let (a, b) = (from & OFFSET, to & OFFSET);
    if src == dst && b > a && b - a < n * T::BYTES {
        // Elements written here are read again by the same instruction.
        for i in 0..n {
            dst.store(b + i * T::BYTES, src.load::<T>(a + i * T::BYTES));
        }
    } else {
        dst.move_from(b, src, a, n * T::BYTES);
    }
    Ok(n)
}

pub(crate) fn stos<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let s = Span::new::<T>(cpu, op);
    let v = T::get(cpu, 0);
    while s.count(cpu) != 0 {
        let to = s.destination(cpu);
        let done = match fill_piece(cpu, &s, to, v)? {
            0 => {
                cpu.write(to, v)?;
                1
            }
            n => n,
        };
        s.advance(cpu, reg::RDI, done);
        s.counted(cpu, done);
        if !s.rep {
            break;
        }
        s.pause(cpu, 0)?;
    }
    Ok(())
}

fn fill_piece<T: Word>(cpu: &mut Cpu, s: &Span, to: u64, v: T) -> Res<u64> {
    let n = s.count(cpu).min(room::<T>(to));
    if n < 2 || s.step != T::BYTES || !s.rep || s.single || s.mask != u64::MAX || cpu.io.replaying() {
        return Ok(0);
    }
    let Some(dst) = cpu.bulk(to, Access::Write, n * T::BYTES)? else { return Ok(0) };
    let byte = v.to64() as u8;
    if T::from64(0x0101_0101_0101_0101u64.wrapping_mul(u64::from(byte))) == v {
        dst.fill(to & OFFSET, byte, n * T::BYTES);
    } else {
        for i in 0..n {
            dst.store((to & OFFSET) + i * T::BYTES, v);
        }
    }
    Ok(n)
}

pub(crate) fn lods<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let s = Span::new::<T>(cpu, op);
    let mut turn = 0;
    while s.count(cpu) != 0 {
        let v = cpu.read::<T>(s.source(cpu))?;
        T::set(cpu, 0, v);
        s.advance(cpu, reg::RSI, 1);
        s.counted(cpu, 1);
        if !s.rep {
            break;
        }
        turn += 1;
        s.pause(cpu, turn)?;
    }
    Ok(())
}

/// Whether a compare that set ZF to `equal` ends the repetition.
fn settled(op: &Op, equal: bool) -> bool {
    if op.mode & mode::REPNE != 0 { equal } else { !equal }
}

pub(crate) fn scas<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let s = Span::new::<T>(cpu, op);
    let acc = T::get(cpu, 0).to64();
    let mut turn = 0;
    while s.count(cpu) != 0 {
        let v = cpu.read::<T>(s.destination(cpu))?.to64();
        sub::<T>(&mut cpu.flags, acc, v, 0);
        s.advance(cpu, reg::RDI, 1);
        s.counted(cpu, 1);
        if !s.rep || settled(op, acc == v) {
            break;
        }
        turn += 1;
        s.pause(cpu, turn)?;
    }
    Ok(())
}

pub(crate) fn cmps<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let s = Span::new::<T>(cpu, op);
    let mut turn = 0;
    while s.count(cpu) != 0 {
        let a = cpu.read::<T>(s.source(cpu))?.to64();
        let b = cpu.read::<T>(s.destination(cpu))?.to64();
        sub::<T>(&mut cpu.flags, a, b, 0);
        s.advance(cpu, reg::RSI, 1);
        s.advance(cpu, reg::RDI, 1);
        s.counted(cpu, 1);
        if !s.rep || settled(op, a == b) {
            break;
        }
        turn += 1;
        s.pause(cpu, turn)?;
    }
    Ok(())
}

/// INS: one port read for each element.
pub(crate) fn ins<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let s = Span::new::<T>(cpu, op);
    cpu.check_port(cpu.regs[reg::RDX] as u16, T::BYTES as u8)?;
    while s.count(cpu) != 0 {
        let to = s.destination(cpu);
        cpu.prepare_write(to, T::BYTES)?;
        let v = cpu.port_read(cpu.regs[reg::RDX] as u16, T::BYTES as u8)?;
        cpu.write(to, T::from64(v))?;
        s.advance(cpu, reg::RDI, 1);
        s.counted(cpu, 1);
        if !s.rep {
            break;
        }
        s.pause(cpu, 0)?;
    }
    Ok(())
}

/// OUTS: one port write for each element.
pub(crate) fn outs<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let s = Span::new::<T>(cpu, op);
    cpu.check_port(cpu.regs[reg::RDX] as u16, T::BYTES as u8)?;
    while s.count(cpu) != 0 {
        let v = cpu.read::<T>(s.source(cpu))?;
        cpu.port_write(cpu.regs[reg::RDX] as u16, T::BYTES as u8, v.to64() as u32)?;
        s.advance(cpu, reg::RSI, 1);
        s.counted(cpu, 1);
        if !s.rep {
            break;
        }
        s.pause(cpu, 0)?;
    }
    Ok(())
}

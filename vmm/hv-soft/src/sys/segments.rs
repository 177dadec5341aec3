//! Segment registers and descriptors (Intel SDM vol. 3, 3.4 and 5).

use supermachine_hv::x86::Segment;

use crate::cpu::{Cpu, seg};
use crate::ea::{Ea, Full};
use crate::flags::bit;
use crate::op::{Op, Res, slot};
use crate::sys::exception::{GP, NP, SS};
use crate::word::Word;

/// Attribute bit: segment unusable (null selector).
pub(crate) const UNUSABLE: u32 = 1 << 16;
/// Attribute bits of a 64-bit code segment.
const LONG: u32 = 1 << 13;
const DB: u32 = 1 << 14;
const PRESENT: u32 = 1 << 7;
const CODE_OR_DATA: u32 = 1 << 4;
const CODE: u32 = 1 << 3;
const CONFORMING: u32 = 1 << 2;
/// Writable data, readable code.
const READ_WRITE: u32 = 1 << 1;

/// Splits a descriptor.
fn parse(selector: u16, d: u64) -> Segment {
    let attributes = (d >> 40) as u32 & 0xf0ff;
    let raw = (d & 0xffff | d >> 32 & 0xf_0000) as u32;
    let limit = if attributes & 1 << 15 != 0 { raw << 12 | 0xfff } else { raw };
    Segment { base: d >> 16 & 0xff_ffff | d >> 32 & 0xff00_0000, limit, selector, attributes }
}

impl Cpu {
    /// Address of a descriptor, if the selector is inside its table.
    fn descriptor_at(&mut self, selector: u16) -> Option<u64> {
        let (base, limit) = if selector & 4 == 0 {
            (self.sys.gdt.base, u32::from(self.sys.gdt.limit))
        } else if self.sys.ldt.attributes & UNUSABLE == 0 {
            (self.sys.ldt.base, self.sys.ldt.limit)
        } else {
            return None;
        };
        let offset = u32::from(selector & !7);
        (offset + 7 <= limit).then(|| base.wrapping_add(u64::from(offset)))
    }

    /// Reads a descriptor; #GP(selector) outside the tables.
    fn descriptor(&mut self, selector: u16) -> Res<(u64, u64)> {
        let Some(at) = self.descriptor_at(selector) else {
            return Err(self.raise_code(GP, u32::from(selector & !3)));
        };
        Ok((at, self.system_read::<u64>(at)?))
    }

    fn mark_accessed(&mut self, at: u64, d: u64) -> Res {
        if d >> 40 & 1 == 0 { self.system_write::<u64>(at, d | 1 << 40) } else { Ok(()) }
    }

    /// Reads a descriptor that must be a present 64-bit code segment. `far` says that the selector's RPL counts.
    pub(crate) fn code_segment(&mut self, selector: u16, far: bool) -> Res<Segment> {
        let error = u32::from(selector & !3);
        if selector & !3 == 0 {
            return Err(self.raise_code(GP, 0));
        }
        let (at, d) = self.descriptor(selector)?;
        let s = parse(selector, d);
        if s.attributes & (CODE_OR_DATA | CODE) != CODE_OR_DATA | CODE {
            return Err(self.raise_code(GP, error));
        }
        if far {
            let (dpl, rpl) = (s.attributes >> 5 & 3, u32::from(selector & 3));
            let allowed = if s.attributes & CONFORMING != 0 { dpl <= rpl } else { dpl == rpl };
            if !allowed || rpl < u32::from(self.cpl) {
                return Err(self.raise_code(GP, error));
            }
        }
        if s.attributes & PRESENT == 0 {
            return Err(self.raise_code(NP, error));
        }
        if s.attributes & (LONG | DB) != LONG {
            warn_once(selector);
            return Err(self.raise_code(GP, error));
        }
        self.mark_accessed(at, d)?;
        Ok(s)
    }

    /// Loads CS.
    pub(crate) fn set_cs(&mut self, s: Segment, selector: u16) {
        self.sys.segs[seg::CS] = Segment { selector, attributes: s.attributes | 1, ..s };
    }

    /// Loads SS with the null selector of a privilege level.
    pub(crate) fn set_null_ss(&mut self, cpl: u8) {
        let attributes = UNUSABLE | u32::from(cpl) << 5;
        self.sys.segs[seg::SS] = Segment { selector: u16::from(cpl), attributes, base: 0, limit: 0 };
    }

    /// Loads ES, SS, DS, FS or GS, as MOV and POP do. For SS, `cpl` is the level it is loaded for.
    pub(crate) fn load_segment(&mut self, which: usize, selector: u16, cpl: u8) -> Res {
        let error = u32::from(selector & !3);
        if selector & !3 == 0 {
            if which == seg::SS && (cpl == 3 || selector & 3 != u16::from(cpl)) {
                return Err(self.raise_code(GP, 0));
            }
            let dpl = if which == seg::SS { u32::from(cpl) << 5 } else { 0 };
            self.put_segment(which, Segment { selector, attributes: UNUSABLE | dpl, base: 0, limit: 0 });
            return Ok(());
        }
        let (at, d) = self.descriptor(selector)?;
        let s = parse(selector, d);
        let (dpl, rpl) = (s.attributes >> 5 & 3, u32::from(selector & 3));
        let level = u32::from(cpl);
        let bad = if which == seg::SS {
            s.attributes & (CODE_OR_DATA | CODE | READ_WRITE) != CODE_OR_DATA | READ_WRITE
                || rpl != level
                || dpl != level
        } else {
            s.attributes & CODE_OR_DATA == 0
                || s.attributes & (CODE | READ_WRITE) == CODE
                || s.attributes & (CODE | CONFORMING) != CODE | CONFORMING && (rpl > dpl || level > dpl)
        };
        if bad {
            return Err(self.raise_code(GP, error));
        }
        if s.attributes & PRESENT == 0 {
            let vector = if which == seg::SS { SS } else { NP };
            return Err(self.raise_code(vector, error));
        }
        self.mark_accessed(at, d)?;
        self.put_segment(which, Segment { attributes: s.attributes | 1, ..s });
        Ok(())
    }

    fn put_segment(&mut self, which: usize, s: Segment) {
        match which {
            seg::FS => self.regs[slot::FS as usize] = s.base,
            seg::GS => self.regs[slot::GS as usize] = s.base,
            _ => {}
        }
        if let Some(place) = self.sys.segs.get_mut(which) {
            *place = s;
        }
    }

    /// On a return to an outer level, data segments of inner levels become null.
    pub(crate) fn drop_inner_segments(&mut self) {
        for which in [seg::ES, seg::DS, seg::FS, seg::GS] {
            let a = self.sys.segs[which].attributes;
            let conforming_code = a & (CODE | CONFORMING) == CODE | CONFORMING;
            if a & UNUSABLE == 0 && !conforming_code && (a >> 5 & 3) < u32::from(self.cpl) {
                self.put_segment(which, Segment { attributes: UNUSABLE, ..Segment::default() });
            }
        }
    }
}

/// MOV sreg, r16 or m16.
pub(crate) fn mov_to_segment<const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let selector = if MEMORY { cpu.read::<u16>(Full::ea(cpu, op))? } else { u16::get(cpu, op.src) };
    let which = usize::from(op.dst);
    if which == seg::CS {
        return Err(cpu.ud());
    }
    cpu.load_segment(which, selector, cpu.cpl)?;
    if which == seg::SS {
        cpu.shadow = Some(cpu.next_rip(op));
        cpu.shadow_ss = true;
    }
    cpu.sync(op)
}

/// MOV r, sreg.
pub(crate) fn mov_from_segment_r<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let selector = cpu.sys.segs.get(usize::from(op.src)).map_or(0, |s| s.selector);
    T::set(cpu, op.dst, T::from64(u64::from(selector)));
    Ok(())
}

/// MOV m16, sreg.
pub(crate) fn mov_from_segment_m(cpu: &mut Cpu, op: &Op) -> Res {
    let selector = cpu.sys.segs.get(usize::from(op.src)).map_or(0, |s| s.selector);
    cpu.write(Full::ea(cpu, op), selector)
}

/// PUSH FS and GS.
pub(crate) fn push_segment<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let selector = cpu.sys.segs.get(usize::from(op.dst)).map_or(0, |s| s.selector);
    cpu.push(T::from64(u64::from(selector)))
}

/// POP FS and GS.
pub(crate) fn pop_segment<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let selector = cpu.peek::<T>()?.to64() as u16;
    cpu.load_segment(usize::from(op.dst), selector, cpu.cpl)?;
    cpu.regs[crate::cpu::reg::RSP] = cpu.regs[crate::cpu::reg::RSP].wrapping_add(T::BYTES);
    cpu.sync(op)
}

/// LLDT and LTR.
pub(crate) fn load_system<const TASK: bool, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    if cpu.cpl != 0 {
        return Err(cpu.gp0());
    }
    let selector = if MEMORY { cpu.read::<u16>(Full::ea(cpu, op))? } else { u16::get(cpu, op.dst) };
    let error = u32::from(selector & !3);
    if selector & !3 == 0 {
        if TASK {
            return Err(cpu.gp0());
        }
        cpu.sys.ldt = Segment { selector, attributes: UNUSABLE, ..Segment::default() };
        return Ok(());
    }
    let wide = selector & 4 == 0 && u32::from(selector | 7) + 8 <= u32::from(cpu.sys.gdt.limit);
    let (at, d) = cpu.descriptor(selector)?;
    let mut s = parse(selector, d);
    // Available 64-bit TSS is type 9, LDT is type 2; both are system descriptors of 16 bytes.
    if !wide || s.attributes & 0x1f != if TASK { 9 } else { 2 } {
        return Err(cpu.raise_code(GP, error));
    }
    if s.attributes & PRESENT == 0 {
        return Err(cpu.raise_code(NP, error));
    }
    s.base |= cpu.system_read::<u64>(at.wrapping_add(8))? << 32;
    if TASK {
        cpu.system_write::<u64>(at, d | 2 << 40)?;
        s.attributes |= 2;
        cpu.sys.tr = s;
    } else {
        cpu.sys.ldt = s;
    }
    Ok(())
}

/// SLDT (`WHAT` 0), STR (1) to a register of any size.
pub(crate) fn store_system_r<T: Word, const TASK: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let selector = if TASK { cpu.sys.tr.selector } else { cpu.sys.ldt.selector };
    T::set(cpu, op.dst, T::from64(u64::from(selector)));
    Ok(())
}

/// SLDT, STR to memory.
pub(crate) fn store_system_m<const TASK: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let selector = if TASK { cpu.sys.tr.selector } else { cpu.sys.ldt.selector };
    cpu.write(Full::ea(cpu, op), selector)
}

/// What LAR, LSL, VERR and VERW ask.
pub(crate) mod query {
    pub(crate) const LAR: u8 = 0;
    pub(crate) const LSL: u8 = 1;
    pub(crate) const VERR: u8 = 2;
    pub(crate) const VERW: u8 = 3;
}

/// LAR, LSL, VERR, VERW: ZF says whether the selector is valid for the question.
pub(crate) fn examine<T: Word, const WHAT: u8, const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let r = if WHAT >= query::VERR { op.dst } else { op.src };
    let selector = if MEMORY { cpu.read::<u16>(Full::ea(cpu, op))? } else { u16::get(cpu, r) };
    let answer = answer(cpu, selector, WHAT)?;
    let rest = cpu.flags.pack() & !bit::ZF;
    cpu.flags.unpack(rest | if answer.is_some() { bit::ZF } else { 0 });
    if let (Some(v), query::LAR | query::LSL) = (answer, WHAT) {
        T::set(cpu, op.dst, T::from64(v));
    }
    Ok(())
}

fn answer(cpu: &mut Cpu, selector: u16, what: u8) -> Res<Option<u64>> {
    let Some(at) = (selector & !3 != 0).then(|| cpu.descriptor_at(selector)).flatten() else { return Ok(None) };
    let d = cpu.system_read::<u64>(at)?;
    let s = parse(selector, d);
    let a = s.attributes;
    let normal = a & CODE_OR_DATA != 0;
    let conforming = a & (CODE_OR_DATA | CODE | CONFORMING) == CODE_OR_DATA | CODE | CONFORMING;
    let level = u32::from(cpu.cpl).max(u32::from(selector & 3));
    let visible = conforming || (a >> 5 & 3) >= level;
    let valid = match what {
        query::VERR => normal && (a & CODE == 0 || a & READ_WRITE != 0),
        query::VERW => normal && a & (CODE | READ_WRITE) == READ_WRITE,
        query::LSL => normal || matches!(a & 15, 2 | 9 | 11),
        _ => normal || matches!(a & 15, 2 | 9 | 11 | 12),
    };
    let value = if what == query::LSL { u64::from(s.limit) } else { d >> 32 & 0xff_ff00 };
    Ok((visible && valid).then_some(value))
}

/// Says once that a guest left 64-bit mode.
fn warn_once(selector: u16) {
    use std::sync::atomic::{AtomicBool, Ordering};
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        log::warn!("guest wants a 16- or 32-bit code segment ({selector:#x}); only 64-bit mode is emulated: #GP");
    }
}

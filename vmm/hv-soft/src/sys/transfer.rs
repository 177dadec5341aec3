//! Transfers between privilege levels: IRET, far returns and jumps, SYSCALL, SYSRET, INT n, SWAPGS.

use supermachine_hv::x86::Segment;

use crate::cpu::{Cpu, canonical, reg, seg};
use crate::ea::{Ea, Full};
use crate::flags::bit;
use crate::op::{Op, Res, Stop, slot};
use crate::spec::efer;
use crate::sys::exception::{BP, Origin};
use crate::word::Word;

/// Flags that IRET and POPF may change at any level.
const COMMON: u64 = bit::ARITH | bit::TF | bit::DF | bit::NT | bit::AC | bit::ID;

impl Cpu {
    /// Flags that the current level may change.
    fn changeable(&self) -> u64 {
        let iopl = (self.sysflags & bit::IOPL) >> 12;
        let mut m = COMMON;
        if self.cpl == 0 {
            m |= bit::IOPL;
        }
        if u64::from(self.cpl) <= iopl {
            m |= bit::IF;
        }
        m
    }

    /// Gives an INT n, INT3 or trap to its handler; the saved address is the next instruction.
    fn software_interrupt(&mut self, op: &Op, vector: u8) -> Res {
        let here = self.op_rip(op);
        self.rip = self.next_rip(op);
        let done = self.deliver(vector, None, Origin::Software);
        if done.is_err() {
            self.rip = here;
            return done;
        }
        Err(Stop::Sync)
    }
}

pub(crate) fn int_n(cpu: &mut Cpu, op: &Op) -> Res {
    cpu.software_interrupt(op, op.imm as u8)
}

pub(crate) fn int3(cpu: &mut Cpu, op: &Op) -> Res {
    cpu.software_interrupt(op, BP)
}

/// INT1: a #DB trap without a privilege check.
pub(crate) fn int1(cpu: &mut Cpu, op: &Op) -> Res {
    let here = cpu.op_rip(op);
    cpu.rip = cpu.next_rip(op);
    let done = cpu.deliver(crate::sys::exception::DB, None, Origin::Trap);
    if done.is_err() {
        cpu.rip = here;
        return done;
    }
    Err(Stop::Sync)
}

/// Pops `n`th value of size `T` without moving RSP.
fn nth<T: Word>(cpu: &mut Cpu, n: u64) -> Res<u64> {
    let at = cpu.regs[reg::RSP].wrapping_add(n * T::BYTES);
    match cpu.read::<T>(at) {
        Ok(v) => Ok(v.to64()),
        Err(s) => Err(cpu.stack_stop(s)),
    }
}

/// IRET with operands of size `T`.
pub(crate) fn iret<T: Word>(cpu: &mut Cpu, _: &Op) -> Res {
    if cpu.sysflags & bit::NT != 0 {
        return Err(cpu.gp0());
    }
    let rip = nth::<T>(cpu, 0)?;
    let selector = nth::<T>(cpu, 1)? as u16;
    let flags = nth::<T>(cpu, 2)?;
    let rsp = nth::<T>(cpu, 3)?;
    let ss = nth::<T>(cpu, 4)? as u16;
    let target = cpu.code_segment(selector, true)?;
    if !canonical(rip) {
        return Err(cpu.gp0());
    }
    let new_cpl = (selector & 3) as u8;
    let mut mask = cpu.changeable() | bit::RF;
    if T::BITS == 16 {
        mask &= 0xffff;
    }
    let new_flags = cpu.rflags() & !mask | flags & mask;
    cpu.load_segment(seg::SS, ss, new_cpl)?;
    cpu.set_cs(target, selector);
    let outward = new_cpl > cpu.cpl;
    cpu.set_cpl(new_cpl);
    if outward {
        cpu.drop_inner_segments();
    }
    cpu.regs[reg::RSP] = rsp;
    cpu.set_rflags(new_flags & !bit::RF);
    cpu.nmi_masked = false;
    cpu.rip = rip;
    Err(Stop::Jump)
}

/// Far return with operands of size `T`; bytes to release in `imm`.
pub(crate) fn retf<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let rip = nth::<T>(cpu, 0)?;
    let selector = nth::<T>(cpu, 1)? as u16;
    let target = cpu.code_segment(selector, true)?;
    if !canonical(rip) {
        return Err(cpu.gp0());
    }
    let new_cpl = (selector & 3) as u8;
    let mut rsp = cpu.regs[reg::RSP].wrapping_add(2 * T::BYTES).wrapping_add(op.imm);
    if new_cpl > cpu.cpl {
        let at = |n: u64| rsp.wrapping_add(n * T::BYTES);
        let (new_rsp, ss) = (cpu.read::<T>(at(0))?.to64(), cpu.read::<T>(at(1))?.to64() as u16);
        cpu.load_segment(seg::SS, ss, new_cpl)?;
        rsp = new_rsp.wrapping_add(op.imm);
    }
    let outward = new_cpl > cpu.cpl;
    cpu.set_cs(target, selector);
    cpu.set_cpl(new_cpl);
    if outward {
        cpu.drop_inner_segments();
    }
    cpu.regs[reg::RSP] = rsp;
    cpu.rip = rip;
    Err(Stop::Sync)
}

/// Far JMP (`CALL` false) and CALL through memory, to a code segment of the same level.
pub(crate) fn far_m<T: Word, const CALL: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let at = Full::ea(cpu, op);
    let rip = cpu.read::<T>(at)?.to64();
    let selector = cpu.read::<u16>(at.wrapping_add(T::BYTES))?;
    let level = u16::from(cpu.cpl);
    if selector & 3 > level {
        return Err(cpu.raise_code(crate::sys::exception::GP, u32::from(selector & !3)));
    }
    let target = cpu.code_segment(selector & !3 | level, true)?;
    if !canonical(rip) {
        return Err(cpu.gp0());
    }
    if CALL {
        let cs = u64::from(cpu.sys.segs[seg::CS].selector);
        let bottom = cpu.regs[reg::RSP].wrapping_sub(2 * T::BYTES);
        cpu.prepare_write(bottom, 2 * T::BYTES)?;
        let back = cpu.next_rip(op);
        cpu.push(T::from64(cs))?;
        cpu.push(T::from64(back))?;
    }
    cpu.set_cs(target, selector & !3 | level);
    cpu.rip = rip;
    Err(Stop::Sync)
}

/// A flat segment as SYSCALL and SYSRET load it.
fn flat(selector: u16, attributes: u32) -> Segment {
    Segment { base: 0, limit: u32::MAX, selector, attributes }
}

pub(crate) fn syscall(cpu: &mut Cpu, op: &Op) -> Res {
    if cpu.sys.efer & efer::SCE == 0 {
        return Err(cpu.ud());
    }
    cpu.regs[reg::RCX] = cpu.next_rip(op);
    cpu.regs[reg::R11] = cpu.rflags() & !bit::RF;
    let selector = (cpu.msrs.star >> 32) as u16 & !3;
    // Code: 64-bit, DPL 0; data: writable, DPL 0; both accessed.
    cpu.sys.segs[seg::CS] = flat(selector, 0xa09b);
    cpu.sys.segs[seg::SS] = flat(selector.wrapping_add(8), 0xc093);
    cpu.set_cpl(0);
    cpu.sysflags = cpu.sysflags & !cpu.msrs.sfmask & !bit::RF | bit::FIXED;
    let arithmetic = cpu.flags.pack() & !cpu.msrs.sfmask;
    cpu.flags.unpack(arithmetic);
    cpu.rip = cpu.msrs.lstar;
    Err(Stop::Jump)
}

/// SYSRET to 64-bit code. The 32-bit form would leave 64-bit mode.
pub(crate) fn sysret<const WIDE: bool>(cpu: &mut Cpu, _: &Op) -> Res {
    if cpu.sys.efer & efer::SCE == 0 {
        return Err(cpu.ud());
    }
    if cpu.cpl != 0 || !WIDE || !canonical(cpu.regs[reg::RCX]) {
        return Err(cpu.gp0());
    }
    let base = (cpu.msrs.star >> 48) as u16;
    cpu.sys.segs[seg::CS] = flat(base.wrapping_add(16) | 3, 0xa0fb);
    cpu.sys.segs[seg::SS] = flat(base.wrapping_add(8) | 3, 0xc0f3);
    cpu.set_cpl(3);
    let known = COMMON | bit::IOPL | bit::IF | bit::VIF | bit::VIP;
    let flags = cpu.regs[reg::R11] & known | bit::FIXED;
    cpu.set_rflags(flags);
    cpu.rip = cpu.regs[reg::RCX];
    Err(Stop::Jump)
}

pub(crate) fn swapgs(cpu: &mut Cpu, _: &Op) -> Res {
    if cpu.cpl != 0 {
        return Err(cpu.gp0());
    }
    std::mem::swap(&mut cpu.regs[slot::GS as usize], &mut cpu.msrs.kernel_gs_base);
    Ok(())
}

pub(crate) fn pushf<T: Word>(cpu: &mut Cpu, _: &Op) -> Res {
    let image = cpu.rflags() & !(bit::RF | bit::VM);
    cpu.push(T::from64(image))
}

pub(crate) fn popf<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = cpu.peek::<T>()?.to64();
    let mut mask = cpu.changeable();
    if T::BITS == 16 {
        mask &= 0xffff;
    }
    let before = cpu.sysflags;
    let new = cpu.rflags() & !(mask | bit::RF) | v & mask;
    cpu.regs[reg::RSP] = cpu.regs[reg::RSP].wrapping_add(T::BYTES);
    cpu.flags.unpack(new);
    cpu.sysflags = new & !bit::ARITH | bit::FIXED;
    let opened = cpu.sysflags & !before & bit::IF != 0 && cpu.irq_waiting;
    if opened || cpu.sysflags & bit::TF != 0 { cpu.sync(op) } else { Ok(()) }
}

pub(crate) fn cli(cpu: &mut Cpu, _: &Op) -> Res {
    let iopl = (cpu.sysflags & bit::IOPL) >> 12;
    if u64::from(cpu.cpl) > iopl {
        return Err(cpu.gp0());
    }
    cpu.sysflags &= !bit::IF;
    Ok(())
}

pub(crate) fn sti(cpu: &mut Cpu, op: &Op) -> Res {
    let iopl = (cpu.sysflags & bit::IOPL) >> 12;
    if u64::from(cpu.cpl) > iopl {
        return Err(cpu.gp0());
    }
    if cpu.sysflags & bit::IF == 0 {
        cpu.sysflags |= bit::IF;
        cpu.shadow = Some(cpu.next_rip(op));
        cpu.shadow_ss = false;
        if cpu.irq_waiting {
            cpu.attend();
        }
    }
    Ok(())
}

/// HLT.
pub(crate) fn hlt(cpu: &mut Cpu, op: &Op) -> Res {
    if cpu.cpl != 0 {
        return Err(cpu.gp0());
    }
    cpu.rip = cpu.next_rip(op);
    Err(Stop::Halt)
}

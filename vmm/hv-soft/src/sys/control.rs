//! Control and debug registers, descriptor tables, CPUID, TSC, ports, and the other privileged instructions.

use crate::cpu::{Cpu, canonical, reg};
use crate::ea::{Ea, Full};
use crate::op::{Op, Res, slot};
use crate::spec::{cr0, cr4, efer, pte};
use crate::word::Word;
use supermachine_hv::Exit;

impl Cpu {
    /// #GP(0) above level 0.
    #[inline(always)]
    pub(crate) fn privileged(&mut self) -> Res {
        if self.cpl != 0 { Err(self.gp0()) } else { Ok(()) }
    }

    /// Empties the TLB and everything that follows from it.
    pub(crate) fn flush_translations(&mut self) {
        self.tlb.flush_all();
        self.flush_code |= self.jumps.flush_all();
    }

    fn set_cr0(&mut self, v: u64) -> Res {
        let v = v | cr0::ET;
        let bad = v & !cr0::KNOWN != 0 || v & cr0::NW != 0 && v & cr0::CD == 0;
        if bad || v & (cr0::PE | cr0::PG) != cr0::PE | cr0::PG {
            return Err(self.gp0());
        }
        let changed = v ^ self.sys.cr0;
        self.sys.cr0 = v;
        if changed & (cr0::WP | cr0::PG) != 0 {
            self.flush_translations();
        }
        self.flush_code |= changed & (cr0::EM | cr0::TS | cr0::MP) != 0;
        Ok(())
    }

    fn set_cr3(&mut self, v: u64) -> Res {
        if v & !((1 << pte::PHYSICAL_BITS) - 1) != 0 {
            return Err(self.gp0());
        }
        self.sys.cr3 = v;
        self.tlb.flush_local();
        self.jumps.flush_local();
        Ok(())
    }

    fn set_cr4(&mut self, v: u64) -> Res {
        if v & !cr4::KNOWN != 0 || v & cr4::PAE == 0 {
            return Err(self.gp0());
        }
        let changed = v ^ self.sys.cr4;
        self.sys.cr4 = v;
        if changed & (cr4::PGE | cr4::PSE | cr4::PAE | cr4::SMEP) != 0 {
            self.flush_translations();
        }
        self.flush_code |= changed & cr4::OSFXSR != 0;
        Ok(())
    }

    /// Changes IA32_EFER by WRMSR.
    pub(crate) fn set_efer(&mut self, v: u64) -> Res {
        if v & !efer::KNOWN != 0 || (v ^ self.sys.efer) & efer::LME != 0 {
            return Err(self.gp0());
        }
        self.sys.efer = v & !efer::LMA | self.sys.efer & efer::LMA;
        self.flush_translations();
        Ok(())
    }
}

/// MOV r64, CRn.
pub(crate) fn mov_from_cr(cpu: &mut Cpu, op: &Op) -> Res {
    cpu.privileged()?;
    let v = match op.src {
        0 => cpu.sys.cr0,
        2 => cpu.sys.cr2,
        3 => cpu.sys.cr3,
        4 => cpu.sys.cr4,
        8 => u64::from(cpu.lapic.tpr >> 4),
        _ => return Err(cpu.ud()),
    };
    u64::set(cpu, op.dst, v);
    Ok(())
}

/// MOV CRn, r64.
pub(crate) fn mov_to_cr(cpu: &mut Cpu, op: &Op) -> Res {
    cpu.privileged()?;
    let v = u64::get(cpu, op.src);
    match op.dst {
        0 => cpu.set_cr0(v)?,
        2 => cpu.sys.cr2 = v,
        3 => cpu.set_cr3(v)?,
        4 => cpu.set_cr4(v)?,
        8 => cpu.set_cr8(v)?,
        _ => return Err(cpu.ud()),
    }
    cpu.sync(op)
}

fn debug_index(cpu: &mut Cpu, n: u8) -> Res<usize> {
    cpu.privileged()?;
    match n {
        0..=3 => Ok(usize::from(n)),
        4 | 5 if cpu.sys.cr4 & cr4::DE != 0 => Err(cpu.ud()),
        4 | 6 => Ok(4),
        5 | 7 => Ok(5),
        _ => Err(cpu.ud()),
    }
}

/// MOV r64, DRn.
pub(crate) fn mov_from_dr(cpu: &mut Cpu, op: &Op) -> Res {
    let n = debug_index(cpu, op.src)?;
    let v = cpu.sys.debug[n];
    u64::set(cpu, op.dst, v);
    Ok(())
}

/// MOV DRn, r64. Breakpoints in DR0–DR3 are stored and never fire.
pub(crate) fn mov_to_dr(cpu: &mut Cpu, op: &Op) -> Res {
    let n = debug_index(cpu, op.dst)?;
    let v = u64::get(cpu, op.src);
    if n >= 4 && v >> 32 != 0 {
        return Err(cpu.gp0());
    }
    cpu.sys.debug[n] = match n {
        4 => v & 0xe00f | 0xffff_0ff0,
        5 => v & 0xffff_2bff | 0x400,
        _ => v,
    };
    Ok(())
}

/// LGDT (`IDT` false) and LIDT.
pub(crate) fn load_table<const IDT: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    cpu.privileged()?;
    let at = Full::ea(cpu, op);
    let limit = cpu.read::<u16>(at)?;
    let base = cpu.read::<u64>(at.wrapping_add(2))?;
    if !canonical(base) {
        return Err(cpu.gp0());
    }
    let table = if IDT { &mut cpu.sys.idt } else { &mut cpu.sys.gdt };
    (table.base, table.limit) = (base, limit);
    Ok(())
}

/// SGDT (`IDT` false) and SIDT.
pub(crate) fn store_table<const IDT: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    let at = Full::ea(cpu, op);
    let table = if IDT { cpu.sys.idt } else { cpu.sys.gdt };
    cpu.prepare_write(at, 10)?;
    cpu.write(at, table.limit)?;
    cpu.write(at.wrapping_add(2), table.base)
}

/// SMSW to a register.
pub(crate) fn smsw_r<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let v = T::from64(cpu.sys.cr0);
    T::set(cpu, op.dst, v);
    Ok(())
}

/// SMSW to memory.
pub(crate) fn smsw_m(cpu: &mut Cpu, op: &Op) -> Res {
    let v = cpu.sys.cr0 as u16;
    cpu.write(Full::ea(cpu, op), v)
}

/// LMSW: sets the low four bits of CR0; PE cannot be cleared.
pub(crate) fn lmsw<const MEMORY: bool>(cpu: &mut Cpu, op: &Op) -> Res {
    cpu.privileged()?;
    let v = if MEMORY { cpu.read::<u16>(Full::ea(cpu, op))? } else { u16::get(cpu, op.dst) };
    let new = cpu.sys.cr0 & !0xe | u64::from(v) & 0xf;
    cpu.set_cr0(new)?;
    cpu.sync(op)
}

pub(crate) fn clts(cpu: &mut Cpu, op: &Op) -> Res {
    cpu.privileged()?;
    cpu.set_cr0(cpu.sys.cr0 & !cr0::TS)?;
    cpu.sync(op)
}

pub(crate) fn invlpg(cpu: &mut Cpu, op: &Op) -> Res {
    cpu.privileged()?;
    let va = Full::ea(cpu, op);
    cpu.flush_code |= if cpu.tlb.flush_page(va) { cpu.jumps.flush_page(va) } else { cpu.jumps.flush_all() };
    cpu.sync(op)
}

/// WBINVD, INVD: caches are not modelled.
pub(crate) fn privileged_nop(cpu: &mut Cpu, _: &Op) -> Res {
    cpu.privileged()
}

/// CLFLUSH: checks the address like a read.
pub(crate) fn clflush(cpu: &mut Cpu, op: &Op) -> Res {
    let at = Full::ea(cpu, op);
    cpu.read::<u8>(at).map(|_| ())
}

pub(crate) fn cpuid(cpu: &mut Cpu, _: &Op) -> Res {
    let (leaf, sub) = (cpu.regs[reg::RAX] as u32, cpu.regs[reg::RCX] as u32);
    let [a, b, c, d] = crate::cpuid::leaf(cpu.model, leaf, sub, cpu.lapic.id);
    cpu.regs[reg::RAX] = u64::from(a);
    cpu.regs[reg::RBX] = u64::from(b);
    cpu.regs[reg::RCX] = u64::from(c);
    cpu.regs[reg::RDX] = u64::from(d);
    Ok(())
}

fn set_edx_eax(cpu: &mut Cpu, v: u64) {
    cpu.regs[reg::RAX] = v & 0xffff_ffff;
    cpu.regs[reg::RDX] = v >> 32;
}

/// RDTSC (`AUX` false) and RDTSCP.
pub(crate) fn rdtsc<const AUX: bool>(cpu: &mut Cpu, _: &Op) -> Res {
    if cpu.sys.cr4 & cr4::TSD != 0 {
        cpu.privileged()?;
    }
    let now = cpu.clock.tsc();
    set_edx_eax(cpu, now);
    if AUX {
        cpu.regs[reg::RCX] = cpu.msrs.tsc_aux & 0xffff_ffff;
    }
    Ok(())
}

pub(crate) fn rdmsr(cpu: &mut Cpu, _: &Op) -> Res {
    cpu.privileged()?;
    let v = cpu.read_msr(cpu.regs[reg::RCX] as u32)?;
    set_edx_eax(cpu, v);
    Ok(())
}

pub(crate) fn wrmsr(cpu: &mut Cpu, op: &Op) -> Res {
    cpu.privileged()?;
    let v = cpu.regs[reg::RDX] << 32 | cpu.regs[reg::RAX] & 0xffff_ffff;
    cpu.write_msr(cpu.regs[reg::RCX] as u32, v)?;
    cpu.sync(op)
}

fn port(cpu: &Cpu, op: &Op) -> u16 {
    if op.aux == 1 { cpu.regs[reg::RDX] as u16 } else { op.imm as u16 & 0xff }
}

/// IN: the port is in DX if `aux` is 1, else in `imm`.
pub(crate) fn port_in<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let port = port(cpu, op);
    cpu.check_port(port, T::BYTES as u8)?;
    let v = cpu.port_read(port, T::BYTES as u8)?;
    T::set(cpu, 0, T::from64(v));
    Ok(())
}

/// OUT, likewise.
pub(crate) fn port_out<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    let port = port(cpu, op);
    cpu.check_port(port, T::BYTES as u8)?;
    let v = T::get(cpu, 0).to64();
    cpu.port_write(port, T::BYTES as u8, v as u32)?;
    cpu.sync(op)
}

/// VMCALL and VMMCALL. User code is refused as KVM refuses it: with −EPERM in RAX.
pub(crate) fn hypercall(cpu: &mut Cpu, op: &Op) -> Res {
    if cpu.cpl != 0 {
        cpu.regs[reg::RAX] = 1u64.wrapping_neg();
        return Ok(());
    }
    let args = [cpu.regs[reg::RBX], cpu.regs[reg::RCX], cpu.regs[reg::RDX], cpu.regs[reg::RSI]];
    let v = cpu.io.read(Exit::Hypercall { function: cpu.regs[reg::RAX], args })?;
    cpu.regs[reg::RAX] = v;
    cpu.sync(op)
}

/// RDFSBASE, RDGSBASE: the slot in `aux`.
pub(crate) fn read_base<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    if cpu.sys.cr4 & cr4::FSGSBASE == 0 {
        return Err(cpu.ud());
    }
    let v = cpu.regs[op.aux as usize % slot::COUNT];
    T::set(cpu, op.dst, T::from64(v));
    Ok(())
}

/// WRFSBASE, WRGSBASE.
pub(crate) fn write_base<T: Word>(cpu: &mut Cpu, op: &Op) -> Res {
    if cpu.sys.cr4 & cr4::FSGSBASE == 0 {
        return Err(cpu.ud());
    }
    let v = T::get(cpu, op.dst).to64();
    if !canonical(v) {
        return Err(cpu.gp0());
    }
    cpu.regs[op.aux as usize % slot::COUNT] = v;
    Ok(())
}

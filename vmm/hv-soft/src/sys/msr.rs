//! Model-specific registers: those that Linux touches and CPUID promises; all others are #GP.

use crate::cpu::{Cpu, canonical};
use crate::op::{Res, slot};
use crate::word::Word;

/// Numbers (Intel SDM vol. 4; Linux Documentation/virt/kvm/x86/msr.rst for the KVM ones).
pub(crate) mod index {
    pub(crate) const TSC: u32 = 0x10;
    pub(crate) const APIC_BASE: u32 = 0x1b;
    pub(crate) const MICROCODE: u32 = 0x8b;
    pub(crate) const SYSENTER_CS: u32 = 0x174;
    pub(crate) const SYSENTER_EIP: u32 = 0x176;
    pub(crate) const PAT: u32 = 0x277;
    pub(crate) const TSC_DEADLINE: u32 = 0x6e0;
    pub(crate) const X2APIC: u32 = 0x800;
    pub(crate) const X2APIC_LAST: u32 = 0x83f;
    pub(crate) const KVM_WALL_CLOCK: u32 = 0x4b56_4d00;
    pub(crate) const KVM_SYSTEM_TIME: u32 = 0x4b56_4d01;
    pub(crate) const EFER: u32 = 0xc000_0080;
    pub(crate) const STAR: u32 = 0xc000_0081;
    pub(crate) const LSTAR: u32 = 0xc000_0082;
    pub(crate) const CSTAR: u32 = 0xc000_0083;
    pub(crate) const SFMASK: u32 = 0xc000_0084;
    pub(crate) const FS_BASE: u32 = 0xc000_0100;
    pub(crate) const GS_BASE: u32 = 0xc000_0101;
    pub(crate) const KERNEL_GS_BASE: u32 = 0xc000_0102;
    pub(crate) const TSC_AUX: u32 = 0xc000_0103;
}
use index::*;

/// PAT at reset (SDM vol. 3, 12.12.4).
const PAT_RESET: u64 = 0x0007_0406_0007_0406;

/// MSR values that live nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Msrs {
    pub(crate) star: u64,
    pub(crate) lstar: u64,
    pub(crate) cstar: u64,
    pub(crate) sfmask: u64,
    pub(crate) kernel_gs_base: u64,
    pub(crate) tsc_aux: u64,
    pub(crate) pat: u64,
    /// SYSENTER_CS, SYSENTER_ESP, SYSENTER_EIP: stored, the instructions do not exist in this model.
    pub(crate) sysenter: [u64; 3],
    /// MSR_KVM_WALL_CLOCK_NEW.
    pub(crate) wall_clock: u64,
    /// MSR_KVM_SYSTEM_TIME_NEW; bit 0 enables.
    pub(crate) system_time: u64,
}

impl Default for Msrs {
    fn default() -> Self {
        Msrs {
            star: 0,
            lstar: 0,
            cstar: 0,
            sfmask: 0,
            kernel_gs_base: 0,
            tsc_aux: 0,
            pat: PAT_RESET,
            sysenter: [0; 3],
            wall_clock: 0,
            system_time: 0,
        }
    }
}

/// Whether every byte of a PAT value is a memory type.
pub(crate) fn valid_pat(v: u64) -> bool {
    v.to_le_bytes().iter().all(|b| matches!(b, 0 | 1 | 4..=7))
}

impl Cpu {
    /// RDMSR.
    pub(crate) fn read_msr(&mut self, n: u32) -> Res<u64> {
        Ok(match n {
            TSC => self.clock.tsc(),
            APIC_BASE => self.lapic.base,
            MICROCODE => 0,
            SYSENTER_CS..=SYSENTER_EIP => self.msrs.sysenter[(n - SYSENTER_CS) as usize],
            PAT => self.msrs.pat,
            TSC_DEADLINE => self.lapic.deadline_msr(),
            EFER => self.sys.efer,
            STAR => self.msrs.star,
            LSTAR => self.msrs.lstar,
            CSTAR => self.msrs.cstar,
            SFMASK => self.msrs.sfmask,
            FS_BASE => self.regs[slot::FS as usize],
            GS_BASE => self.regs[slot::GS as usize],
            KERNEL_GS_BASE => self.msrs.kernel_gs_base,
            TSC_AUX => self.msrs.tsc_aux,
            KVM_WALL_CLOCK => self.msrs.wall_clock,
            KVM_SYSTEM_TIME => self.msrs.system_time,
            X2APIC..=X2APIC_LAST if self.lapic.x2apic() => match self.lapic_read(n - X2APIC) {
                Some(v) => v,
                None => return Err(self.gp0()),
            },
            _ => {
                log::debug!("guest reads unknown MSR {n:#x}: #GP");
                return Err(self.gp0());
            }
        })
    }

    /// WRMSR.
    pub(crate) fn write_msr(&mut self, n: u32, v: u64) -> Res {
        match n {
            TSC => self.clock.set_tsc(v),
            APIC_BASE => {
                self.set_apic_base(v)?;
                self.flush_translations();
            }
            MICROCODE => {}
            SYSENTER_CS..=SYSENTER_EIP => self.msrs.sysenter[(n - SYSENTER_CS) as usize] = v,
            PAT if valid_pat(v) => self.msrs.pat = v,
            TSC_DEADLINE => {
                self.lapic.set_deadline(v);
                self.attend();
            }
            EFER => self.set_efer(v)?,
            STAR => self.msrs.star = v,
            LSTAR | CSTAR | FS_BASE | GS_BASE | KERNEL_GS_BASE if !canonical(v) => return Err(self.gp0()),
            LSTAR => self.msrs.lstar = v,
            CSTAR => self.msrs.cstar = v,
            SFMASK => self.msrs.sfmask = v & 0xffff_ffff,
            FS_BASE => self.regs[slot::FS as usize] = v,
            GS_BASE => self.regs[slot::GS as usize] = v,
            KERNEL_GS_BASE => self.msrs.kernel_gs_base = v,
            TSC_AUX if v >> 32 == 0 => self.msrs.tsc_aux = v,
            KVM_WALL_CLOCK => self.set_wall_clock(v),
            KVM_SYSTEM_TIME => self.set_system_time(v),
            X2APIC..=X2APIC_LAST if self.lapic.x2apic() => self.lapic_write(n - X2APIC, v)?,
            _ => {
                log::debug!("guest writes unknown MSR {n:#x}: #GP");
                return Err(self.gp0());
            }
        }
        Ok(())
    }

    /// Fills the wall clock structure: version, seconds, nanoseconds at kvmclock zero.
    fn set_wall_clock(&mut self, gpa: u64) {
        self.msrs.wall_clock = gpa;
        let ns = self.clock.boot_wall_ns();
        let old = self.ram.read::<u32>(gpa).unwrap_or(0) & !1;
        let words = [
            (0, old.wrapping_add(1)),
            (4, (ns / 1_000_000_000) as u32),
            (8, (ns % 1_000_000_000) as u32),
            (0, old.wrapping_add(2)),
        ];
        for (at, w) in words {
            self.physical_write(gpa.wrapping_add(at), w);
        }
    }

    fn set_system_time(&mut self, v: u64) {
        self.msrs.system_time = v;
        self.write_system_time();
    }

    /// Fills the `pvclock_vcpu_time_info` page, if the guest asked for it.
    pub(crate) fn write_system_time(&mut self) {
        if self.msrs.system_time & 1 == 0 {
            return;
        }
        let gpa = self.msrs.system_time & !1;
        let (tsc, ns) = self.clock.now();
        let old = self.ram.read::<u32>(gpa).unwrap_or(0) & !1;
        self.physical_write(gpa, old.wrapping_add(1));
        self.physical_write(gpa.wrapping_add(8), tsc);
        self.physical_write(gpa.wrapping_add(16), ns);
        // Ticks are nanoseconds: shifted left by one, times 2^31, over 2^32.
        self.physical_write(gpa.wrapping_add(24), 1u32 << 31);
        self.physical_write(gpa.wrapping_add(28), 1u8);
        // The TSC is stable, so user space may read the clock.
        self.physical_write(gpa.wrapping_add(29), 1u8);
        self.physical_write(gpa, old.wrapping_add(2));
    }

    /// A write by the back end itself to a guest physical address. Places across pages and outside RAM are left
    /// alone: the guest named them.
    fn physical_write<T: Word>(&mut self, gpa: u64, v: T) {
        if gpa & 0xfff <= 0x1000 - T::BYTES {
            self.ram.write(gpa, v);
        }
    }
}

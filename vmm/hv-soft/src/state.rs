//! Saved state of a vCPU: everything out, and untrusted state in after every check.

use supermachine_hv::x86::{Events, PendingException, Regs, RunState, Segment, Sregs, VcpuState};
use supermachine_hv::{Exit, HvError};

use crate::chips::lapic::{BASE_ENABLE, BASE_X2APIC, Lapic, register};
use crate::clock::TSC_KHZ;
use crate::cpu::{Cpu, canonical, seg};
use crate::cpuid;
use crate::engine::Engine;
use crate::flags::bit;
use crate::op::{Res, slot};
use crate::spec::{cr0, cr4, efer, pte};
use crate::sys::exception::{Exception, Origin};
use crate::sys::msr::index;
use crate::x87::Fpu;
use crate::x87::image::{FXSAVE_BYTES, fxrstor_image, fxsave_image};

/// Legacy area and header.
const XSAVE_LEN: usize = 576;
/// Local APIC page.
const LAPIC_LEN: usize = 1024;
/// RFLAGS bits that exist.
const RFLAGS: u64 = bit::ARITH
    | bit::FIXED
    | bit::TF
    | bit::IF
    | bit::DF
    | bit::IOPL
    | bit::NT
    | bit::RF
    | bit::VM
    | bit::AC
    | bit::VIF
    | bit::VIP
    | bit::ID;

/// MSRs that are saved, in the order in which they are put back.
const SAVED_MSRS: [u32; 17] = [
    index::TSC,
    index::PAT,
    index::SYSENTER_CS,
    index::SYSENTER_CS + 1,
    index::SYSENTER_EIP,
    index::STAR,
    index::LSTAR,
    index::CSTAR,
    index::SFMASK,
    index::FS_BASE,
    index::GS_BASE,
    index::KERNEL_GS_BASE,
    index::TSC_AUX,
    index::TSC_DEADLINE,
    index::KVM_WALL_CLOCK,
    index::KVM_SYSTEM_TIME,
    index::MICROCODE,
];

fn bad(field: &'static str, problem: impl Into<String>) -> HvError {
    HvError::BadState { field, problem: problem.into() }
}

fn check(ok: bool, field: &'static str, problem: &'static str) -> Result<(), HvError> {
    if ok { Ok(()) } else { Err(bad(field, problem)) }
}

impl Engine {
    /// The whole state.
    pub(crate) fn save(&mut self) -> Result<VcpuState, HvError> {
        self.settle()?;
        let cpu = &mut *self.cpu;
        cpu.collect_interrupts();
        let mut xsave = fxsave_image(&cpu.fpu, cpu.mxcsr, &cpu.xmm).to_vec();
        xsave.resize(XSAVE_LEN, 0);
        // XSTATE_BV: x87 and SSE.
        xsave[FXSAVE_BYTES] = 3;
        let msrs = SAVED_MSRS.iter().filter_map(|&n| cpu.read_msr(n).ok().map(|v| (n, v))).collect();
        let shadowed = cpu.shadow == Some(cpu.rip);
        Ok(VcpuState {
            regs: cpu.save_regs(),
            sregs: cpu.save_sregs(),
            xsave,
            xcr0: 1,
            debug: cpu.sys.debug,
            msrs,
            lapic: save_lapic(&cpu.lapic, cpu.clock.tsc()),
            run_state: self.state,
            events: Events {
                exception: None,
                interrupt: None,
                nmi_pending: cpu.lapic.nmi,
                nmi_masked: cpu.nmi_masked,
                shadow: if shadowed { if cpu.shadow_ss { 1 } else { 2 } } else { 0 },
            },
            cpuid: cpuid::all(cpu.model, cpu.lapic.id),
            tsc_khz: TSC_KHZ,
        })
    }

    /// Replaces the whole state.
    pub(crate) fn restore(&mut self, s: &VcpuState) -> Result<(), HvError> {
        if let Some(e) = self.waiting.as_ref().or(self.found.as_ref()) {
            return Err(HvError::ExitInFlight { exit: Exit::name(e) });
        }
        check_state(s, &self.cpu)?;
        let (fpu, mxcsr, xmm) = parse_xsave(&s.xsave)?;
        let lapic = load_lapic(s, self.cpu.lapic.id)?;
        let cpu = &mut *self.cpu;
        (cpu.fpu, cpu.mxcsr, cpu.xmm) = (fpu, mxcsr, xmm);
        cpu.io = crate::access::Io::default();
        cpu.load_sregs(&s.sregs);
        cpu.load_regs(&s.regs);
        cpu.sys.debug = s.debug;
        cpu.lapic = lapic;
        for &n in &SAVED_MSRS {
            for &(_, v) in s.msrs.iter().filter(|(i, _)| *i == n) {
                if cpu.restore_msr(n, v).is_err() {
                    return Err(bad("msrs", format!("value {v:#x} does not fit MSR {n:#x}")));
                }
            }
        }
        let now = cpu.clock.tsc();
        cpu.lapic.resume(now, lapic_word(s, register::CURRENT));
        cpu.nmi_masked = s.events.nmi_masked;
        cpu.lapic.nmi = s.events.nmi_pending;
        cpu.shadow = (s.events.shadow != 0).then_some(s.regs.rip);
        cpu.shadow_ss = s.events.shadow == 1;
        cpu.flush_translations();
        cpu.flush_code = true;
        cpu.shared.attention();
        self.state = s.run_state;
        self.finish_events(&s.events)
    }

    /// Delivers what another back end left half done.
    fn finish_events(&mut self, events: &Events) -> Result<(), HvError> {
        let cpu = &mut *self.cpu;
        let done = match (events.exception, events.interrupt) {
            (Some(PendingException { vector, error_code }), _) => {
                cpu.fault = Exception { vector, code: error_code, cr2: None, canonical: true };
                cpu.deliver_fault(Origin::Fault)
            }
            (None, Some(vector)) => cpu.deliver_interrupt(vector),
            (None, None) => Ok(()),
        };
        done.map_err(|_| bad("events", "the event cannot be delivered"))
    }
}

fn check_state(s: &VcpuState, cpu: &Cpu) -> Result<(), HvError> {
    check(s.regs.rflags & !RFLAGS == 0, "regs.rflags", "reserved bits are set")?;
    check(canonical(s.regs.rip), "regs.rip", "is not canonical")?;
    check_sregs(&s.sregs)?;
    check(s.xcr0 == 1, "xcr0", "is not 1, and this CPU model has no XSAVE")?;
    check(s.debug[4] >> 32 == 0 && s.debug[5] >> 32 == 0, "debug", "upper halves of DR6 and DR7 must be zero")?;
    check(s.events.shadow <= 2, "events.shadow", "is not 0, 1 or 2")?;
    check(s.events.exception.is_none_or(|e| e.vector < 32), "events.exception", "vector is above 31")?;
    check(matches!(s.run_state, RunState::Runnable | RunState::Halted), "run_state", "only vCPU 0 exists")?;
    check(s.tsc_khz == 0 || s.tsc_khz == TSC_KHZ, "tsc_khz", "is not this CPU model's frequency")?;
    let same = s.cpuid.is_empty() || s.cpuid == cpuid::all(cpu.model, cpu.lapic.id);
    check(same, "cpuid", "is not this CPU model's")?;
    for &(n, v) in &s.msrs {
        if !SAVED_MSRS.contains(&n) && !matches!(n, index::EFER | index::APIC_BASE) {
            return Err(bad("msrs", format!("MSR {n:#x} does not exist here")));
        }
        let address =
            matches!(n, index::LSTAR | index::CSTAR | index::FS_BASE | index::GS_BASE | index::KERNEL_GS_BASE);
        if address && !canonical(v) {
            return Err(bad("msrs", format!("MSR {n:#x} is not canonical")));
        }
        if n == index::PAT && !crate::sys::msr::valid_pat(v) || n == index::TSC_AUX && v >> 32 != 0 {
            return Err(bad("msrs", format!("value {v:#x} does not fit MSR {n:#x}")));
        }
    }
    Ok(())
}

fn check_sregs(s: &Sregs) -> Result<(), HvError> {
    check(s.cr0 & !cr0::KNOWN == 0, "sregs.cr0", "reserved bits are set")?;
    check(s.cr0 & cr0::PG == 0 || s.cr0 & cr0::PE != 0, "sregs.cr0", "paging without protection")?;
    check(s.cr4 & !cr4::KNOWN == 0, "sregs.cr4", "bits that this CPU model lacks are set")?;
    check(s.cr3 >> pte::PHYSICAL_BITS == 0, "sregs.cr3", "has reserved bits")?;
    check(s.efer & !efer::KNOWN == 0, "sregs.efer", "bits that this CPU model lacks are set")?;
    let long = s.efer & efer::LME != 0 && s.cr0 & cr0::PG != 0;
    check(long == (s.efer & efer::LMA != 0), "sregs.efer", "LMA does not follow from LME and CR0.PG")?;
    check(!long || s.cr4 & cr4::PAE != 0, "sregs.cr4", "long mode without PAE")?;
    check(s.cr8 <= 15, "sregs.cr8", "is above 15")?;
    let bases = [s.fs.base, s.gs.base, s.tr.base, s.ldt.base, s.gdt.base, s.idt.base];
    check(bases.iter().all(|&b| canonical(b)), "sregs", "a base is not canonical")?;
    let known = 0xfff | BASE_ENABLE | BASE_X2APIC | 0xff_ffff_f000;
    check(s.apic_base & !known == 0, "sregs.apic_base", "reserved bits are set")?;
    let mode = s.apic_base & (BASE_ENABLE | BASE_X2APIC);
    check(mode != BASE_X2APIC, "sregs.apic_base", "x2APIC without the enable bit")
}

type FpState = (Fpu, u32, [u128; 16]);

fn parse_xsave(bytes: &[u8]) -> Result<FpState, HvError> {
    let header = bytes.get(FXSAVE_BYTES..XSAVE_LEN).filter(|_| bytes.len() == XSAVE_LEN);
    let Some(header) = header else { return Err(bad("xsave", format!("{} bytes, not {XSAVE_LEN}", bytes.len()))) };
    check(header[0] & !3 == 0 && header[1..].iter().all(|&b| b == 0), "xsave", "header names unknown components")?;
    let image = bytes.get(..FXSAVE_BYTES).and_then(|b| <&[u8; FXSAVE_BYTES]>::try_from(b).ok());
    image.and_then(fxrstor_image).ok_or_else(|| bad("xsave", "MXCSR has reserved bits"))
}

/// Local APIC registers as a page.
fn save_lapic(l: &Lapic, now: u64) -> Vec<u8> {
    let mut page = vec![0; LAPIC_LEN];
    let mut put = |n: u32, v: u64| {
        let at = n as usize * 16;
        if let Some(place) = page.get_mut(at..at + 4) {
            place.copy_from_slice(&(v as u32).to_le_bytes());
        }
    };
    for n in 0..(LAPIC_LEN / 16) as u32 {
        put(n, l.get(n, now).unwrap_or(0));
    }
    put(register::ICR_HIGH, l.icr >> 32);
    page
}

fn lapic_word(s: &VcpuState, n: u32) -> u32 {
    let at = n as usize * 16;
    s.lapic.get(at..at + 4).map_or(0, |b| b.iter().rev().fold(0, |v, &b| v << 8 | u32::from(b)))
}

fn load_lapic(s: &VcpuState, id: u32) -> Result<Lapic, HvError> {
    let mut l = Lapic::new(id);
    if s.sregs.apic_base != 0 {
        l.base = s.sregs.apic_base;
    }
    check(s.lapic.len() == LAPIC_LEN, "lapic", "is not 1024 bytes")?;
    let word = |n: u32| lapic_word(s, n);
    l.tpr = word(register::TPR) & 0xff;
    if !l.x2apic() {
        l.ldr = word(register::LDR) & 0xff00_0000;
        l.dfr = word(register::DFR) | 0x0fff_ffff;
    }
    l.svr = word(register::SVR) & 0x1ff;
    l.esr = word(register::ESR) & 0xff;
    l.icr = u64::from(word(register::ICR)) | u64::from(word(register::ICR_HIGH)) << 32;
    for (i, lvt) in l.lvt.iter_mut().enumerate() {
        *lvt = word(register::LVT_TIMER + i as u32) & if i == 0 { 0x7_00ff } else { 0x1_a7ff };
    }
    l.initial = word(register::INITIAL);
    l.divide = word(register::DIVIDE) & 0xb;
    let bits = |first: u32| {
        let mut out = [0; 4];
        for (i, o) in (0u32..).zip(out.iter_mut()) {
            *o = u64::from(word(first + 2 * i)) | u64::from(word(first + 2 * i + 1)) << 32;
        }
        out
    };
    (l.isr, l.tmr, l.irr) = (bits(register::ISR), bits(register::TMR), bits(register::IRR));
    Ok(l)
}

impl Lapic {
    /// Starts the counting timer where a saved one was.
    fn resume(&mut self, now: u64, current: u32) {
        if current != 0 {
            self.arm(now, current);
        }
    }
}

impl Cpu {
    /// Puts a saved MSR back. The wall clock is filled when the guest writes its MSR and at no other time (Linux
    /// Documentation/virt/kvm/x86/msr.rst): by now the guest may use that memory for something else.
    fn restore_msr(&mut self, n: u32, v: u64) -> Res {
        if n == index::TSC {
            self.clock.restore_tsc(v);
            return Ok(());
        }
        if n == index::KVM_WALL_CLOCK {
            self.msrs.wall_clock = v;
            return Ok(());
        }
        self.write_msr(n, v)
    }

    fn save_regs(&self) -> Regs {
        let [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15, ..] = self.regs;
        let (rip, rflags) = (self.rip, self.rflags());
        Regs { rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags }
    }

    fn load_regs(&mut self, s: &Regs) {
        let Regs { rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags } = *s;
        self.regs[..16]
            .copy_from_slice(&[rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15]);
        self.rip = rip;
        self.set_rflags(rflags);
    }

    fn save_sregs(&self) -> Sregs {
        let crate::cpu::Sys { segs, tr, ldt, gdt, idt, cr0, cr2, cr3, cr4, efer, debug: _ } = &self.sys;
        Sregs {
            cs: segs[seg::CS],
            ds: segs[seg::DS],
            es: segs[seg::ES],
            fs: Segment { base: self.regs[slot::FS as usize], ..segs[seg::FS] },
            gs: Segment { base: self.regs[slot::GS as usize], ..segs[seg::GS] },
            ss: segs[seg::SS],
            tr: *tr,
            ldt: *ldt,
            gdt: *gdt,
            idt: *idt,
            cr0: *cr0,
            cr2: *cr2,
            cr3: *cr3,
            cr4: *cr4,
            cr8: u64::from(self.lapic.tpr >> 4),
            efer: *efer,
            apic_base: self.lapic.base,
        }
    }

    fn load_sregs(&mut self, s: &Sregs) {
        let Sregs { cs, ds, es, fs, gs, ss, tr, ldt, gdt, idt, cr0, cr2, cr3, cr4, cr8: _, efer, apic_base: _ } = *s;
        let debug = self.sys.debug;
        self.sys =
            crate::cpu::Sys { segs: [es, cs, ss, ds, fs, gs], tr, ldt, gdt, idt, cr0, cr2, cr3, cr4, efer, debug };
        self.regs[slot::FS as usize] = fs.base;
        self.regs[slot::GS as usize] = gs.base;
        self.set_cpl((cs.selector & 3) as u8);
    }
}

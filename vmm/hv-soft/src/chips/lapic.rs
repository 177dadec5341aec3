//! The local APIC, in xAPIC and x2APIC mode (Intel SDM vol. 3, 11).

use crate::cpu::Cpu;
use crate::op::{Res, Stop};

/// Register numbers (MMIO offset / 16, x2APIC MSR − 0x800).
pub(crate) mod register {
    pub(crate) const ID: u32 = 0x02;
    pub(crate) const VERSION: u32 = 0x03;
    pub(crate) const TPR: u32 = 0x08;
    pub(crate) const PPR: u32 = 0x0a;
    pub(crate) const EOI: u32 = 0x0b;
    pub(crate) const LDR: u32 = 0x0d;
    pub(crate) const DFR: u32 = 0x0e;
    pub(crate) const SVR: u32 = 0x0f;
    pub(crate) const ISR: u32 = 0x10;
    pub(crate) const TMR: u32 = 0x18;
    pub(crate) const IRR: u32 = 0x20;
    pub(crate) const ESR: u32 = 0x28;
    pub(crate) const ICR: u32 = 0x30;
    pub(crate) const ICR_HIGH: u32 = 0x31;
    pub(crate) const LVT_TIMER: u32 = 0x32;
    pub(crate) const LVT_ERROR: u32 = 0x37;
    pub(crate) const INITIAL: u32 = 0x38;
    pub(crate) const CURRENT: u32 = 0x39;
    pub(crate) const DIVIDE: u32 = 0x3e;
    pub(crate) const SELF_IPI: u32 = 0x3f;
}
use register::*;

/// IA32_APIC_BASE bits.
pub(crate) const BASE_BSP: u64 = 1 << 8;
pub(crate) const BASE_X2APIC: u64 = 1 << 10;
pub(crate) const BASE_ENABLE: u64 = 1 << 11;
/// Reset value of IA32_APIC_BASE on the boot processor.
const BASE_RESET: u64 = 0xfee0_0000 | BASE_ENABLE | BASE_BSP;

const LVT_MASKED: u32 = 1 << 16;
const TIMER_PERIODIC: u32 = 1 << 17;
const TIMER_DEADLINE: u32 = 1 << 18;
const SOFTWARE_ENABLE: u32 = 1 << 8;

/// Local APIC registers and timer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lapic {
    pub(crate) base: u64,
    pub(crate) id: u32,
    pub(crate) tpr: u32,
    pub(crate) ldr: u32,
    pub(crate) dfr: u32,
    pub(crate) svr: u32,
    pub(crate) esr: u32,
    pub(crate) icr: u64,
    /// CMCI is absent; timer, thermal, performance, LINT0, LINT1, error.
    pub(crate) lvt: [u32; 6],
    pub(crate) initial: u32,
    pub(crate) divide: u32,
    pub(crate) irr: [u64; 4],
    pub(crate) isr: [u64; 4],
    pub(crate) tmr: [u64; 4],
    /// When the one-shot or periodic timer started, in TSC ticks.
    pub(crate) started: u64,
    /// TSC value at which the timer fires; 0 when it is not armed.
    pub(crate) deadline: u64,
    /// A non-maskable interrupt waits.
    pub(crate) nmi: bool,
}

fn highest(bits: &[u64; 4]) -> Option<u8> {
    (0..4).rev().find(|&i| bits[i] != 0).map(|i| (i as u32 * 64 + 63 - bits[i].leading_zeros()) as u8)
}

fn set(bits: &mut [u64; 4], vector: u8, on: bool) {
    let b = 1u64 << (vector & 63);
    let w = &mut bits[usize::from(vector >> 6) & 3];
    *w = if on { *w | b } else { *w & !b };
}

fn word(bits: &[u64; 4], n: u32) -> u64 {
    bits[(n / 2) as usize & 3] >> (32 * (n & 1)) & 0xffff_ffff
}

impl Lapic {
    pub(crate) fn new(id: u32) -> Self {
        Lapic {
            base: if id == 0 { BASE_RESET } else { BASE_RESET & !BASE_BSP },
            id,
            tpr: 0,
            ldr: 0,
            dfr: u32::MAX,
            svr: 0xff,
            esr: 0,
            icr: 0,
            lvt: [LVT_MASKED; 6],
            initial: 0,
            divide: 0,
            irr: [0; 4],
            isr: [0; 4],
            tmr: [0; 4],
            started: 0,
            deadline: 0,
            nmi: false,
        }
    }

    /// Whether x2APIC mode is on.
    pub(crate) fn x2apic(&self) -> bool {
        self.base & BASE_X2APIC != 0
    }

    /// Offset in the register page if `gpa` is in it and the page is there.
    pub(crate) fn mmio_offset(&self, gpa: u64) -> Option<u64> {
        let here = gpa & !0xfff == self.base & !0xfff;
        (here && self.base & BASE_ENABLE != 0 && !self.x2apic()).then_some(gpa & 0xfff)
    }

    fn enabled(&self) -> bool {
        self.base & BASE_ENABLE != 0 && self.svr & SOFTWARE_ENABLE != 0
    }

    /// Processor priority.
    fn ppr(&self) -> u32 {
        let isr = highest(&self.isr).map_or(0, u32::from);
        if self.tpr & 0xf0 >= isr & 0xf0 { self.tpr } else { isr & 0xf0 }
    }

    /// Takes in a posted or own interrupt.
    pub(crate) fn accept(&mut self, vector: u8, level: bool) {
        set(&mut self.irr, vector, true);
        set(&mut self.tmr, vector, level);
    }

    /// The vector that would be delivered now.
    pub(crate) fn pending(&self) -> Option<u8> {
        let v = highest(&self.irr)?;
        (self.enabled() && u32::from(v) & 0xf0 > self.ppr() & 0xf0).then_some(v)
    }

    /// The pending vector goes into service.
    pub(crate) fn begin(&mut self, vector: u8) {
        set(&mut self.irr, vector, false);
        set(&mut self.isr, vector, true);
    }

    /// End of interrupt; gives the vector if the I/O APIC must know.
    fn end(&mut self) -> Option<u8> {
        let v = highest(&self.isr)?;
        set(&mut self.isr, v, false);
        let level = self.tmr[usize::from(v >> 6) & 3] >> (v & 63) & 1 != 0;
        level.then_some(v)
    }

    fn divisor(&self) -> u64 {
        let n = self.divide & 3 | self.divide >> 1 & 4;
        1 << ((n + 1) & 7)
    }

    fn deadline_mode(&self) -> bool {
        self.lvt[0] & TIMER_DEADLINE != 0
    }

    /// Starts the counting timer.
    fn start(&mut self, now: u64) {
        self.started = now;
        self.deadline = if self.initial == 0 || self.deadline_mode() {
            0
        } else {
            now.saturating_add(u64::from(self.initial) * self.divisor()).max(1)
        };
    }

    /// Arms the counting timer with `current` counts left.
    pub(crate) fn arm(&mut self, now: u64, current: u32) {
        if !self.deadline_mode() {
            self.started = now;
            self.deadline = now.saturating_add(u64::from(current) * self.divisor()).max(1);
        }
    }

    /// Ticks left of the counting timer.
    fn current(&self, now: u64) -> u64 {
        if self.deadline_mode() || self.deadline == 0 {
            return 0;
        }
        self.deadline.saturating_sub(now) / self.divisor()
    }

    /// Sets IA32_TSC_DEADLINE.
    pub(crate) fn set_deadline(&mut self, tsc: u64) {
        if self.deadline_mode() {
            self.deadline = tsc;
        }
    }

    /// Value of IA32_TSC_DEADLINE.
    pub(crate) fn deadline_msr(&self) -> u64 {
        if self.deadline_mode() { self.deadline } else { 0 }
    }

    /// Fires the timer if its time has come.
    pub(crate) fn tick(&mut self, now: u64) {
        if self.deadline == 0 || now < self.deadline {
            return;
        }
        let period = u64::from(self.initial) * self.divisor();
        let periodic = self.lvt[0] & TIMER_PERIODIC != 0 && !self.deadline_mode() && period != 0;
        self.deadline = match periodic {
            true => now.saturating_add(period - (now - self.deadline) % period),
            false => 0,
        };
        if self.lvt[0] & LVT_MASKED == 0 && self.enabled() {
            self.accept(self.lvt[0] as u8, false);
        }
    }

    /// Reads a register, or nothing where there is none.
    pub(crate) fn get(&self, n: u32, now: u64) -> Option<u64> {
        Some(match n {
            ID if self.x2apic() => u64::from(self.id),
            ID => u64::from(self.id) << 24,
            VERSION => 0x14 | 5 << 16,
            TPR => u64::from(self.tpr),
            PPR => u64::from(self.ppr()),
            LDR if self.x2apic() => u64::from(self.id >> 4 << 16 | 1 << (self.id & 15)),
            LDR => u64::from(self.ldr),
            DFR if !self.x2apic() => u64::from(self.dfr),
            SVR => u64::from(self.svr),
            ESR => u64::from(self.esr),
            ICR if self.x2apic() => self.icr,
            ICR => self.icr & 0xffff_ffff,
            ICR_HIGH if !self.x2apic() => self.icr >> 32,
            LVT_TIMER..=LVT_ERROR => u64::from(self.lvt[(n - LVT_TIMER) as usize]),
            INITIAL => u64::from(self.initial),
            CURRENT => self.current(now),
            DIVIDE => u64::from(self.divide),
            0x10..=0x17 => word(&self.isr, n - ISR),
            0x18..=0x1f => word(&self.tmr, n - TMR),
            0x20..=0x27 => word(&self.irr, n - IRR),
            _ => return None,
        })
    }

    /// Writes a register that has no effect outside the APIC; false where there is none.
    fn put(&mut self, n: u32, value: u64, now: u64) -> bool {
        let v = value as u32;
        match n {
            ID if !self.x2apic() => {}
            TPR => self.tpr = v & 0xff,
            LDR if !self.x2apic() => self.ldr = v & 0xff00_0000,
            DFR if !self.x2apic() => self.dfr = v | 0x0fff_ffff,
            SVR => {
                self.svr = v & 0x1ff;
                if v & SOFTWARE_ENABLE == 0 {
                    self.lvt.iter_mut().for_each(|l| *l |= LVT_MASKED);
                }
            }
            ESR => self.esr = 0,
            ICR_HIGH if !self.x2apic() => self.icr = self.icr & 0xffff_ffff | value << 32,
            LVT_TIMER..=LVT_ERROR => {
                let known = if n == LVT_TIMER { 0x7_00ff } else { 0x1_a7ff };
                let masked = if self.svr & SOFTWARE_ENABLE == 0 { LVT_MASKED } else { 0 };
                let old_mode = self.deadline_mode();
                self.lvt[(n - LVT_TIMER) as usize] = v & known | masked;
                if n == LVT_TIMER && old_mode != self.deadline_mode() {
                    self.deadline = 0;
                }
            }
            INITIAL => {
                self.initial = v;
                self.start(now);
            }
            DIVIDE => self.divide = v & 0xb,
            _ => return false,
        }
        true
    }
}

impl Cpu {
    /// Reads a local APIC register.
    pub(crate) fn lapic_read(&mut self, n: u32) -> Option<u64> {
        self.lapic.get(n, self.clock.tsc())
    }

    /// Writes a local APIC register; #GP where x2APIC mode has none (xAPIC mode ignores that).
    pub(crate) fn lapic_write(&mut self, n: u32, value: u64) -> Res {
        self.attend();
        match n {
            EOI => {
                if let Some(vector) = self.lapic.end() {
                    let board = self.shared.board.clone();
                    board.end_of_interrupt(vector);
                }
            }
            ICR if self.lapic.x2apic() => self.send(value),
            ICR => self.send(self.lapic.icr & !0xffff_ffff | value & 0xffff_ffff),
            SELF_IPI if self.lapic.x2apic() => self.lapic.accept(value as u8, false),
            _ => {
                let now = self.clock.tsc();
                if !self.lapic.put(n, value, now) {
                    return Err(self.gp0());
                }
            }
        }
        Ok(())
    }

    /// Sends an inter-processor interrupt; with one vCPU only itself can be meant.
    fn send(&mut self, icr: u64) {
        self.lapic.icr = icr & !(1 << 12);
        let destination = icr >> if self.lapic.x2apic() { 32 } else { 56 };
        let everyone = if self.lapic.x2apic() { 0xffff_ffff } else { 0xff };
        let logical = icr & 1 << 11 != 0;
        let me = match icr >> 18 & 3 {
            0 if destination == everyone => true,
            0 if logical && self.lapic.x2apic() => {
                destination >> 16 == u64::from(self.lapic.id >> 4) && destination & 1 << (self.lapic.id & 15) != 0
            }
            0 if logical => destination & u64::from(self.lapic.ldr >> 24) != 0,
            0 => destination == u64::from(self.lapic.id),
            1 | 2 => true,
            _ => false,
        };
        match icr >> 8 & 7 {
            0 | 1 if me => self.lapic.accept(icr as u8, false),
            4 if me => self.lapic.nmi = true,
            _ => {}
        }
    }

    /// CR8 is bits 7–4 of the task priority.
    pub(crate) fn set_cr8(&mut self, v: u64) -> Res {
        if v > 15 {
            return Err(self.gp0());
        }
        self.lapic_write(TPR, v << 4)
    }

    /// Takes in what other threads posted and what the timer did.
    pub(crate) fn collect_interrupts(&mut self) {
        let (vectors, levels) = self.shared.take_posted();
        for (w, &bits) in vectors.iter().enumerate() {
            let mut left = bits;
            while left != 0 {
                let n = left.trailing_zeros();
                self.lapic.accept((w as u32 * 64 + n) as u8, levels[w] >> n & 1 != 0);
                left &= left - 1;
            }
        }
        if self.lapic.deadline != 0 {
            let now = self.clock.tsc();
            self.lapic.tick(now);
        }
    }

    /// Changes IA32_APIC_BASE.
    pub(crate) fn set_apic_base(&mut self, v: u64) -> Res {
        let mode = v & (BASE_ENABLE | BASE_X2APIC);
        let known = 0xff_ffff_f000 | BASE_BSP | BASE_ENABLE | BASE_X2APIC;
        let back = self.lapic.x2apic() && mode == BASE_ENABLE;
        if v & !known != 0 || mode == BASE_X2APIC || back {
            return Err(self.gp0());
        }
        self.lapic.base = v;
        self.tlb.flush_all();
        Ok::<(), Stop>(())
    }
}

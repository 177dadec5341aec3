//! The boot CPU's registers at the 64-bit entry: flat segments, long mode, an identity map of the low 4 GiB.

use supermachine_hv::{GuestMemory, VcpuState, x86};
use vm_memory::{Bytes, GuestAddress};

use super::{BootError, Entry};
use crate::layout;

/// `__BOOT_CS` and `__BOOT_DS` of the boot protocol.
const BOOT_CS: u16 = 0x10;
const BOOT_DS: u16 = 0x18;
const BOOT_TSS: u16 = 0x20;
/// Attributes: execute/read, code, present, long mode, 4 KiB granularity.
const CODE64: u32 = 0xa09b;
/// Attributes: read/write, data, present, 32-bit, 4 KiB granularity.
const DATA: u32 = 0xc093;
/// Attributes: busy 64-bit TSS, present.
const TSS: u32 = 0x8b;

/// `IA32_MTRR_DEF_TYPE`: enabled, all memory write-back (SDM vol. 3, 13.11.2.1).
const MSR_MTRR_DEF_TYPE: u32 = 0x2ff;
const MTRR_ENABLED_WRITE_BACK: u64 = 0x806;
/// `IA32_MISC_ENABLE`, bit 0: fast strings.
const MSR_MISC_ENABLE: u32 = 0x1a0;
const MISC_FAST_STRINGS: u64 = 1;

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// Page table entry bits: present, writable; page size.
const PTE_TABLE: u64 = 0x3;
const PTE_2M: u64 = 0x83;

/// Writes the page tables and the GDT that the boot CPU starts with.
pub(super) fn write_tables(memory: &GuestMemory) -> Result<(), BootError> {
    let put = |gpa: u64, value: u64| memory.write_obj(value, GuestAddress(gpa));
    let pdpt = layout::PAGE_TABLES + layout::PAGE_SIZE;
    put(layout::PAGE_TABLES, pdpt | PTE_TABLE)?;
    for gib in 0..4 {
        let directory = pdpt + layout::PAGE_SIZE * (1 + gib);
        put(pdpt + gib * 8, directory | PTE_TABLE)?;
        for entry in 0..512 {
            put(directory + entry * 8, ((gib << 30) + (entry << 21)) | PTE_2M)?;
        }
    }
    for (index, attributes) in [(2, CODE64), (3, DATA), (4, TSS)] {
        put(layout::GDT + index * 8, descriptor(attributes))?;
    }
    put(layout::IDT, 0)?;
    Ok(())
}

/// Turns a vCPU's reset state into the state at the kernel's 64-bit entry point.
pub fn boot_state(reset: VcpuState, entry: Entry) -> VcpuState {
    match reset {
        VcpuState::X86(mut state) => {
            state.regs = x86::Regs { rip: entry.rip, rsi: entry.boot_params, rflags: 2, ..x86::Regs::default() };
            set_long_mode(&mut state.sregs);
            set_msrs(&mut state.msrs);
            state.run_state = x86::RunState::Runnable;
            VcpuState::X86(state)
        }
        other => other,
    }
}

/// What firmware sets on a real machine, where the back end has the register.
fn set_msrs(msrs: &mut [(u32, u64)]) {
    for (index, value) in msrs {
        match *index {
            MSR_MTRR_DEF_TYPE => *value = MTRR_ENABLED_WRITE_BACK,
            MSR_MISC_ENABLE => *value |= MISC_FAST_STRINGS,
            _ => {}
        }
    }
}

fn set_long_mode(sregs: &mut x86::Sregs) {
    let data = segment(BOOT_DS, DATA);
    sregs.cs = segment(BOOT_CS, CODE64);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = x86::Segment { limit: 0xffff, ..segment(BOOT_TSS, TSS) };
    sregs.gdt = x86::Table { base: layout::GDT, limit: 5 * 8 - 1 };
    sregs.idt = x86::Table { base: layout::IDT, limit: 7 };
    sregs.cr0 |= CR0_PE | CR0_ET | CR0_PG;
    sregs.cr4 |= CR4_PAE;
    sregs.cr3 = layout::PAGE_TABLES;
    sregs.efer |= EFER_LME | EFER_LMA;
}

fn segment(selector: u16, attributes: u32) -> x86::Segment {
    x86::Segment { base: 0, limit: u32::MAX, selector, attributes }
}

/// A flat descriptor (base 0, limit 0xfffff pages) with `attributes` in bits 40–55.
fn descriptor(attributes: u32) -> u64 {
    0x000f_0000_0000_ffff | (u64::from(attributes) << 40)
}

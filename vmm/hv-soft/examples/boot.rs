//! Boots a Linux kernel with nothing but a serial port and tells how fast: `boot VMLINUX [INITRAMFS] [COMMAND LINE]`.
//!
//! The kernel is an ELF `vmlinux`; entry is by the 64-bit boot protocol. Ends when the guest halts for good, resets
//! or triple-faults, or writes to port 0x501 (status = value),
//! or prints the text in `BOOT_UNTIL`. With `BOOT_PROFILE` set, tells every half millisecond where the guest is.

use std::io::Write;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use supermachine_hv::x86::{Segment, VcpuState};
use supermachine_hv::{Exit, Hypervisor, Reply, VmConfig};
use supermachine_hv_soft::{Model, SoftHypervisor};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const RAM: u64 = 512 << 20;
const ZERO_PAGE: u64 = 0x7000;
const PAGE_TABLES: u64 = 0x9000;
const GDT: u64 = 0x500;
const COMMAND_LINE: u64 = 0x2_0000;

/// Prints the back end's log.
struct Log;

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, r: &log::Record<'_>) {
        eprintln!("[{}] {}", r.level(), r.args());
    }

    fn flush(&self) {}
}

fn main() -> Result<()> {
    log::set_logger(&Log).map(|()| log::set_max_level(log::LevelFilter::Debug)).ok();
    let mut args = std::env::args().skip(1);
    let kernel = std::fs::read(args.next().context("which kernel?")?)?;
    let initramfs = args.next().filter(|a| !a.is_empty()).map(std::fs::read).transpose()?;
    let line = args.next().unwrap_or_else(|| "earlyprintk=serial console=ttyS0 panic=-1".into());
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), RAM as usize)])?;
    let entry = load_elf(&memory, &kernel)?;
    zero_page(&memory, &line, initramfs.as_deref().unwrap_or(&[]))?;
    page_tables(&memory)?;
    let vm = SoftHypervisor::new(Model::V2).create_vm(VmConfig { memory, vcpus: 1 })?;
    let vcpu = vm.create_vcpu(0)?;
    if std::env::var_os("BOOT_PROFILE").is_some() {
        profile(vcpu.kicker());
    }
    let mut vcpu = vcpu.bind()?;
    let mut state = vcpu.save()?;
    if let supermachine_hv::VcpuState::X86(s) = &mut state {
        start(s, entry);
    }
    vcpu.restore(&state)?;
    let began = Instant::now();
    let code = serve(&mut *vcpu)?;
    let took = began.elapsed();
    eprintln!("\nended with {code:?} after {took:.3?}");
    Ok(())
}

/// Kicks the vCPU every half millisecond; each kick prints where the guest was.
fn profile(kick: std::sync::Arc<dyn supermachine_hv::Kick>) {
    let (never, wait) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        let _never = never;
        while wait.recv_timeout(std::time::Duration::from_micros(500)).is_err() {
            kick.kick();
        }
    });
}

fn serve(vcpu: &mut dyn supermachine_hv::Vcpu) -> Result<u32> {
    let mut out = std::io::stdout();
    let mut exits = 0u64;
    let until = std::env::var("BOOT_UNTIL").unwrap_or_default();
    let mut line = String::new();
    loop {
        let exit = vcpu.run()?;
        exits += 1;
        match exit {
            Exit::PioWrite { port: 0x3f8, value, .. } => {
                out.write_all(&[value as u8])?;
                line.push(char::from(value as u8));
                if value as u8 == b'\n' {
                    out.flush()?;
                    if !until.is_empty() && line.contains(&until) {
                        return Ok(0);
                    }
                    line.clear();
                }
            }
            Exit::PioWrite { port: 0x501, value, .. } => {
                eprintln!("{exits} exits");
                return Ok(value);
            }
            Exit::PioWrite { port: 0x64, value: 0xfe, .. } => return Ok(0),
            Exit::PioWrite { .. } | Exit::MmioWrite { .. } => {}
            Exit::PioRead { port, .. } => {
                // Line status: transmitter empty. Line control and the rest read as zero.
                let v = if port == 0x3fd {
                    0x60
                } else if port & 0xfff8 == 0x3f8 {
                    0
                } else {
                    u64::MAX
                };
                vcpu.complete(Reply::Read(v))?;
            }
            Exit::MmioRead { .. } => vcpu.complete(Reply::Read(0))?,
            Exit::Hypercall { .. } => vcpu.complete(Reply::Hypercall(u64::MAX - 999))?,
            Exit::Kicked => {
                if let supermachine_hv::VcpuState::X86(s) = vcpu.save()? {
                    eprintln!("at {:x} {:?}", s.regs.rip, s.run_state);
                }
            }
            other => {
                if let supermachine_hv::VcpuState::X86(s) = vcpu.save()? {
                    eprintln!("{:#x?} cr2 {:#x}", s.regs, s.sregs.cr2);
                }
                bail!("guest ended with {other:?} after {exits} exits");
            }
        }
    }
}

fn word(b: &[u8], at: usize, n: usize) -> u64 {
    b.get(at..at + n).map_or(0, |s| s.iter().rev().fold(0, |v, &c| v << 8 | u64::from(c)))
}

fn load_elf(memory: &GuestMemoryMmap<()>, elf: &[u8]) -> Result<u64> {
    if elf.get(..4) != Some(b"\x7fELF") {
        bail!("the kernel is not an ELF file");
    }
    let (headers, count) = (word(elf, 32, 8) as usize, word(elf, 56, 2) as usize);
    let mut entry = word(elf, 24, 8);
    for i in 0..count {
        let h = headers + 56 * i;
        if word(elf, h, 4) != 1 {
            continue;
        }
        let (offset, va, pa, len) =
            (word(elf, h + 8, 8), word(elf, h + 16, 8), word(elf, h + 24, 8), word(elf, h + 32, 8));
        if entry >= va && entry < va + len {
            entry = entry - va + pa;
        }
        let bytes = elf.get(offset as usize..(offset + len) as usize).context("segment outside the file")?;
        memory.write_slice(bytes, GuestAddress(pa))?;
    }
    Ok(entry)
}

fn zero_page(memory: &GuestMemoryMmap<()>, line: &str, initramfs: &[u8]) -> Result<()> {
    let put = |at: u64, v: u64, n: usize| memory.write_slice(&v.to_le_bytes()[..n], GuestAddress(ZERO_PAGE + at));
    put(0x1fe, 0xaa55, 2)?;
    put(0x202, 0x5372_6448, 4)?;
    put(0x206, 0x20c, 2)?;
    put(0x210, 0xff, 1)?;
    put(0x228, COMMAND_LINE, 4)?;
    put(0x238, line.len() as u64, 4)?;
    memory.write_slice(line.as_bytes(), GuestAddress(COMMAND_LINE))?;
    if !initramfs.is_empty() {
        let at = (RAM - initramfs.len() as u64) & !0xfff;
        memory.write_slice(initramfs, GuestAddress(at))?;
        put(0x218, at, 4)?;
        put(0x21c, initramfs.len() as u64, 4)?;
    }
    let map = [(0, 0x9_fc00, 1u64), (0x9_fc00, 0x400, 2), (0x10_0000, RAM - 0x10_0000, 1)];
    put(0x1e8, map.len() as u64, 1)?;
    for (i, (start, len, kind)) in map.into_iter().enumerate() {
        let at = 0x2d0 + 20 * i as u64;
        put(at, start, 8)?;
        put(at + 8, len, 8)?;
        put(at + 16, kind, 4)?;
    }
    Ok(())
}

fn page_tables(memory: &GuestMemoryMmap<()>) -> Result<()> {
    memory.write_obj((PAGE_TABLES + 0x1000) | 3, GuestAddress(PAGE_TABLES))?;
    for i in 0..4u64 {
        memory.write_obj(i << 30 | 0x83, GuestAddress(PAGE_TABLES + 0x1000 + 8 * i))?;
    }
    for (i, d) in [0u64, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff].into_iter().enumerate() {
        memory.write_obj(d, GuestAddress(GDT + 8 * i as u64))?;
    }
    Ok(())
}

fn start(s: &mut VcpuState, entry: u64) {
    let data = Segment { base: 0, limit: u32::MAX, selector: 0x18, attributes: 0xc093 };
    s.regs.rip = entry;
    s.regs.rsi = ZERO_PAGE;
    s.regs.rsp = 0x8000;
    s.regs.rflags = 2;
    s.sregs.cs = Segment { base: 0, limit: u32::MAX, selector: 0x10, attributes: 0xa09b };
    (s.sregs.ds, s.sregs.es, s.sregs.ss, s.sregs.fs, s.sregs.gs) = (data, data, data, data, data);
    s.sregs.tr = Segment { base: 0, limit: 0xffff, selector: 0, attributes: 0x8b };
    s.sregs.ldt.attributes = 1 << 16;
    s.sregs.gdt.base = GDT;
    s.sregs.gdt.limit = 31;
    s.sregs.cr0 = 0x8000_0033;
    s.sregs.cr3 = PAGE_TABLES;
    s.sregs.cr4 = 0x20;
    s.sregs.efer = 0x500;
}

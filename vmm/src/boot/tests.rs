//! Kernels made by hand, whole and broken.

use std::io::Write;

use supermachine_hv::{VcpuState, x86};
use tempfile::NamedTempFile;

use super::*;
use crate::memory;

const BASE: u64 = 0x100_0000;

fn file(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("written");
    file
}

/// An ELF with one segment of `code` at [`BASE`], its entry there, and 16 bytes of zeroes behind.
fn vmlinux(code: &[u8]) -> Vec<u8> {
    let mut elf = vec![0u8; 64 + 56];
    elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    elf[18..20].copy_from_slice(&62u16.to_le_bytes());
    elf[24..32].copy_from_slice(&BASE.to_le_bytes());
    elf[32..40].copy_from_slice(&64u64.to_le_bytes());
    elf[54..56].copy_from_slice(&56u16.to_le_bytes());
    elf[56..58].copy_from_slice(&1u16.to_le_bytes());
    elf[64..68].copy_from_slice(&1u32.to_le_bytes());
    elf[72..80].copy_from_slice(&120u64.to_le_bytes());
    elf[88..96].copy_from_slice(&BASE.to_le_bytes());
    elf[96..104].copy_from_slice(&(code.len() as u64).to_le_bytes());
    elf[104..112].copy_from_slice(&(code.len() as u64 + 16).to_le_bytes());
    elf.extend_from_slice(code);
    elf
}

fn bzimage(code: &[u8]) -> Vec<u8> {
    let mut image = vec![0u8; 1024];
    image[0x1f1] = 1;
    image[0x201] = 0x62;
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
    image[0x236] = 1;
    image[0x258..0x260].copy_from_slice(&BASE.to_le_bytes());
    image[0x260..0x264].copy_from_slice(&0x10_0000u32.to_le_bytes());
    image.extend_from_slice(&vec![0x90; 0x200]);
    image.extend_from_slice(code);
    image
}

fn boot(kernel: &[u8], initramfs: Option<&[u8]>, cmdline: &str) -> (GuestMemory, Result<Entry, BootError>) {
    let memory = memory::allocate(64 << 20).expect("memory");
    let (kernel, initramfs) = (file(kernel), initramfs.map(file));
    let source =
        BootSource { kernel: kernel.path(), initramfs: initramfs.as_ref().map(NamedTempFile::path), cmdline, vcpus: 2 };
    let entry = load(&memory, &source);
    (memory, entry)
}

fn bytes<const N: usize>(memory: &GuestMemory, gpa: u64) -> [u8; N] {
    let mut bytes = [0u8; N];
    memory.read_slice(&mut bytes, GuestAddress(gpa)).expect("inside RAM");
    bytes
}

#[test]
fn a_vmlinux_lands_at_its_physical_address() {
    let (memory, entry) = boot(&vmlinux(b"code"), Some(b"ramdisk"), "quiet panic=-1");
    assert_eq!(entry.expect("boots"), Entry { rip: BASE, boot_params: layout::ZERO_PAGE });
    assert_eq!(&bytes::<8>(&memory, BASE), b"code\0\0\0\0");
    assert_eq!(&bytes::<15>(&memory, layout::CMDLINE), b"quiet panic=-1\0");
    let zero_page = layout::ZERO_PAGE;
    assert_eq!(&bytes::<4>(&memory, zero_page + 0x202), b"HdrS");
    let initrd = u64::from(u32::from_le_bytes(bytes(&memory, zero_page + 0x218)));
    assert_eq!(u32::from_le_bytes(bytes(&memory, zero_page + 0x21c)), 7);
    assert_eq!(&bytes::<7>(&memory, initrd), b"ramdisk");
    assert_eq!(bytes::<1>(&memory, zero_page + 0x1e8), [3], "low RAM, hole, high RAM");
    assert_eq!(&bytes::<4>(&memory, layout::MP_TABLE), b"_MP_");
}

#[test]
fn a_bzimage_is_entered_at_its_64_bit_entry() {
    let (memory, entry) = boot(&bzimage(b"code"), None, "");
    assert_eq!(entry.expect("boots").rip, BASE + 0x200);
    assert_eq!(&bytes::<4>(&memory, BASE + 0x200), b"code");
    assert_eq!(u64::from_le_bytes(bytes(&memory, layout::ZERO_PAGE + 0x258)), BASE, "the kernel's own header is kept");
}

#[test]
fn broken_kernels_are_named() {
    let change = |at: usize, value: &[u8]| {
        let mut elf = vmlinux(b"code");
        elf[at..at + value.len()].copy_from_slice(value);
        boot(&elf, None, "").1.expect_err("must be refused").to_string()
    };
    assert!(change(18, &183u16.to_le_bytes()).contains("built for arm64"));
    assert!(change(4, &[1]).contains("not 64-bit"));
    assert!(change(88, &0x1000u64.to_le_bytes()).contains("below 1 MiB"));
    assert!(change(96, &u64::MAX.to_le_bytes()).contains("larger in the file"));
    assert!(change(104, &u64::MAX.to_le_bytes()).contains("wraps around"));
    assert!(change(104, &(1u64 << 40).to_le_bytes()).contains("does not fit"));
    assert!(change(24, &0u64.to_le_bytes()).contains("entry point"));
    assert!(change(56, &60000u16.to_le_bytes()).contains("program headers"));
    assert!(change(72, &0x1_0000u64.to_le_bytes()).contains("kernel "), "a segment past the file's end");
    assert!(boot(b"#!/bin/sh\n", None, "").1.expect_err("no kernel").to_string().contains("neither a vmlinux"));
    assert!(boot(b"", None, "").1.is_err());
    assert!(boot(&bzimage(b"")[..0x300], None, "").1.expect_err("cut").to_string().contains("cut off"));
}

#[test]
fn what_does_not_fit_is_named() {
    let (_, big) = boot(&vmlinux(b"code"), Some(&vec![0; 60 << 20]), "");
    assert!(big.expect_err("too large").to_string().contains("initramfs of 62914560 bytes"));
    let (_, long) = boot(&vmlinux(b"code"), None, &"x".repeat(2048));
    assert!(matches!(long, Err(BootError::CommandLine { length: 2048 })));
}

#[test]
fn the_boot_cpu_starts_in_long_mode() {
    let entry = Entry { rip: BASE, boot_params: layout::ZERO_PAGE };
    let VcpuState::X86(state) = boot_state(VcpuState::X86(Box::default()), entry) else { panic!("x86 stays x86") };
    assert_eq!((state.regs.rip, state.regs.rsi, state.regs.rflags), (BASE, layout::ZERO_PAGE, 2));
    assert_eq!(state.sregs.cs.selector, 0x10);
    assert_eq!(state.sregs.cr0 & 0x8000_0001, 0x8000_0001);
    assert_eq!(state.run_state, x86::RunState::Runnable);
}

proptest::proptest! {
    /// Whatever a kernel file holds, loading it ends with an answer.
    #[test]
    fn no_file_panics(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..2048), kind in 0..3u8) {
        let head: &[u8] = match kind { 0 => &vmlinux(b"x"), 1 => &bzimage(b"x"), _ => &[] };
        let keep = head.len().min(bytes.len()) / 2;
        bytes.splice(..keep, head[..keep].iter().copied());
        let _ = boot(&bytes, None, "");
    }
}

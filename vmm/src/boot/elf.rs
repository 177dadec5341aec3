//! Loads an uncompressed `vmlinux`: an ELF64 executable whose segments go to their physical addresses.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::Path;

use supermachine_hv::GuestMemory;
use vm_memory::{Bytes, GuestAddress};

use super::{BootError, LoadedKernel, copy_from_file, file_error, low_ram_end, params, read_prefix};
use crate::layout;

/// ELF64 header, bytes (gABI, "ELF Header").
const EHDR_SIZE: usize = 64;
/// ELF64 program header, bytes.
const PHDR_SIZE: usize = 56;
/// `e_machine` of x86-64.
const EM_X86_64: u16 = 62;
/// `p_type` of a loadable segment.
const PT_LOAD: u32 = 1;
/// A kernel has about five; more than this is not a kernel.
const PHDRS_MAX: u16 = 64;

struct Segment {
    offset: u64,
    paddr: u64,
    file_size: u64,
    mem_size: u64,
}

/// Loads the segments and zeroes what the file does not give.
pub(super) fn load(memory: &GuestMemory, file: &mut File, path: &Path) -> Result<LoadedKernel, BootError> {
    let io = |source| file_error("kernel", path, source);
    let bad = |problem| BootError::BadKernel { path: path.to_owned(), problem };
    let mut header = [0u8; EHDR_SIZE];
    read_at(file, 0, &mut header).map_err(io)?;
    check_header(&header, path)?;
    let entry = u64_at(&header, 24);
    let mut end = 0;
    let mut loads_entry = false;
    for index in 0..u16_at(&header, 56) {
        let offset = u64_at(&header, 32)
            .checked_add(u64::from(index) * PHDR_SIZE as u64)
            .ok_or_else(|| bad("program header offset overflows"))?;
        let mut phdr = [0u8; PHDR_SIZE];
        read_at(file, offset, &mut phdr).map_err(io)?;
        if u32_at(&phdr, 0) != PT_LOAD {
            continue;
        }
        let segment = Segment {
            offset: u64_at(&phdr, 8),
            paddr: u64_at(&phdr, 24),
            file_size: u64_at(&phdr, 32),
            mem_size: u64_at(&phdr, 40),
        };
        let segment_end = check_segment(memory, &segment, path)?;
        load_segment(memory, file, &segment).map_err(io)?;
        loads_entry |= (segment.paddr..segment_end).contains(&entry);
        end = end.max(segment_end);
    }
    if !loads_entry {
        return Err(bad("the entry point is in no loadable segment"));
    }
    Ok(LoadedKernel { entry, end, setup_header: params::default_setup_header() })
}

fn check_header(header: &[u8; EHDR_SIZE], path: &Path) -> Result<(), BootError> {
    let bad = |problem| BootError::BadKernel { path: path.to_owned(), problem };
    let machine = u16_at(header, 18);
    if header[5] != 1 {
        return Err(bad("ELF file is not little-endian"));
    }
    if machine != EM_X86_64 {
        let found = match machine {
            183 => "arm64".into(),
            3 => "i386".into(),
            243 => "riscv".into(),
            other => format!("ELF machine {other}"),
        };
        return Err(BootError::WrongArchitecture { path: path.to_owned(), found });
    }
    if header[4] != 2 {
        return Err(bad("ELF file is not 64-bit"));
    }
    if usize::from(u16_at(header, 54)) != PHDR_SIZE || !(1..=PHDRS_MAX).contains(&u16_at(header, 56)) {
        return Err(bad("ELF program headers are not those of a kernel"));
    }
    Ok(())
}

/// Checks that a segment lies in RAM above the legacy hole and gives its end.
fn check_segment(memory: &GuestMemory, segment: &Segment, path: &Path) -> Result<u64, BootError> {
    let bad = |problem| BootError::BadKernel { path: path.to_owned(), problem };
    if segment.file_size > segment.mem_size {
        return Err(bad("ELF segment is larger in the file than in memory"));
    }
    if segment.paddr < layout::HIGH_RAM {
        return Err(bad("ELF segment below 1 MiB"));
    }
    let end = segment.paddr.checked_add(segment.mem_size).ok_or_else(|| bad("ELF segment wraps around"))?;
    if end > low_ram_end(memory) {
        return Err(BootError::NoRoom { what: "kernel", size: segment.mem_size });
    }
    Ok(end)
}

fn load_segment(memory: &GuestMemory, file: &mut File, segment: &Segment) -> io::Result<()> {
    const ZEROES: [u8; 4096] = [0; 4096];
    file.seek(SeekFrom::Start(segment.offset))?;
    copy_from_file(memory, file, segment.paddr, segment.file_size)?;
    let mut at = segment.paddr + segment.file_size;
    let end = segment.paddr + segment.mem_size;
    while at < end {
        let chunk = (end - at).min(ZEROES.len() as u64);
        let zeroes = ZEROES.get(..chunk as usize).unwrap_or(&ZEROES);
        memory.write_slice(zeroes, GuestAddress(at)).map_err(io::Error::other)?;
        at += chunk;
    }
    Ok(())
}

fn read_at(file: &mut File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    if read_prefix(file, buffer)? < buffer.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

/// The `N` bytes at `at`; zeroes past the end.
pub(super) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

//! Direct boot: a kernel file, an initramfs and a command line become guest memory and the boot CPU's registers.
//!
//! Both kernel forms enter by the Linux 64-bit boot protocol (`Documentation/arch/x86/boot.rst`, section "64-bit
//! Boot Protocol"), so the boot CPU never runs 16- or 32-bit code. The loaders are our own because the soft back end
//! boots x86_64 kernels on hosts of other architectures, where `linux-loader` leaves them out.

mod bzimage;
mod cpu;
mod elf;
mod mptable;
mod params;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use supermachine_hv::GuestMemory;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend as _, GuestMemoryError, GuestMemoryRegion as _};

pub use cpu::boot_state;

use crate::layout;

/// The kernel, initramfs or command line cannot be booted.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A file could not be opened or read.
    #[error("{what} {}", path.display())]
    File {
        /// `kernel` or `initramfs`.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel is of a known form but for another machine.
    #[error("kernel {}: built for {found}, this machine boots x86_64 kernels", path.display())]
    WrongArchitecture {
        /// Which file.
        path: PathBuf,
        /// Architecture by name or number.
        found: String,
    },
    /// The kernel is of no known form.
    #[error("kernel {}: {problem}", path.display())]
    BadKernel {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
    /// A part does not fit into guest RAM.
    #[error("{what} of {size} bytes does not fit into guest memory; give the machine more memory")]
    NoRoom {
        /// Which part.
        what: &'static str,
        /// Its size.
        size: u64,
    },
    /// The command line is too long or has a NUL.
    #[error("kernel command line: {length} bytes, at most {} without NUL bytes are possible", layout::CMDLINE_MAX - 1)]
    CommandLine {
        /// Its length.
        length: usize,
    },
    /// Guest memory refused a write that the checks allowed.
    #[error("guest memory")]
    Memory(#[from] GuestMemoryError),
}

/// What to boot.
#[derive(Debug)]
pub struct BootSource<'a> {
    /// `vmlinux` (ELF) or `bzImage`.
    pub kernel: &'a Path,
    /// Initial RAM file system.
    pub initramfs: Option<&'a Path>,
    /// Command line, complete.
    pub cmdline: &'a str,
    /// vCPUs for the MP table.
    pub vcpus: u32,
}

/// Where the loaded kernel is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// 64-bit entry point, guest physical address.
    pub rip: u64,
    /// Address of the `boot_params` for RSI.
    pub boot_params: u64,
}

/// A kernel in guest memory, before the zero page is written.
struct LoadedKernel {
    entry: u64,
    /// First free address after everything the kernel needs while it starts.
    end: u64,
    /// The setup header to hand over, from the start of `boot_params.hdr` (offset 0x1f1).
    setup_header: Vec<u8>,
}

/// Loads everything that the guest finds in its memory at entry.
pub fn load(memory: &GuestMemory, source: &BootSource<'_>) -> Result<Entry, BootError> {
    let kernel = load_kernel(memory, source.kernel)?;
    let initrd = source.initramfs.map(|path| load_initramfs(memory, path, kernel.end)).transpose()?;
    write_cmdline(memory, source.cmdline)?;
    params::write(memory, &kernel.setup_header, initrd, source.cmdline.len())?;
    mptable::write(memory, source.vcpus)?;
    cpu::write_tables(memory)?;
    Ok(Entry { rip: kernel.entry, boot_params: layout::ZERO_PAGE })
}

fn load_kernel(memory: &GuestMemory, path: &Path) -> Result<LoadedKernel, BootError> {
    let mut file = open("kernel", path)?;
    let mut magic = [0u8; 0x264];
    let read = read_prefix(&mut file, &mut magic).map_err(|source| file_error("kernel", path, source))?;
    let head = magic.get(..read).unwrap_or(&[]);
    if head.starts_with(b"\x7fELF") {
        return elf::load(memory, &mut file, path);
    }
    if head.get(0x202..0x206) == Some(b"HdrS") {
        return bzimage::load(memory, &mut file, head, path);
    }
    if head.get(0x38..0x3c) == Some(b"ARM\x64") {
        return Err(BootError::WrongArchitecture { path: path.to_owned(), found: "arm64".into() });
    }
    Err(BootError::BadKernel { path: path.to_owned(), problem: "neither a vmlinux (ELF) nor a bzImage" })
}

/// Puts the initramfs as high as it fits below the MMIO gap, page aligned, and gives its (address, size).
fn load_initramfs(memory: &GuestMemory, path: &Path, floor: u64) -> Result<(u64, u64), BootError> {
    let mut file = open("initramfs", path)?;
    let size = file.metadata().map_err(|source| file_error("initramfs", path, source))?.len();
    let no_room = BootError::NoRoom { what: "initramfs", size };
    let low_end = low_ram_end(memory);
    let Some(start) = low_end.checked_sub(size).map(|a| a & !(layout::PAGE_SIZE - 1)) else {
        return Err(no_room);
    };
    if start < floor {
        return Err(no_room);
    }
    copy_from_file(memory, &mut file, start, size).map_err(|source| file_error("initramfs", path, source))?;
    Ok((start, size))
}

fn write_cmdline(memory: &GuestMemory, cmdline: &str) -> Result<(), BootError> {
    let length = cmdline.len();
    if length >= layout::CMDLINE_MAX || cmdline.contains('\0') {
        return Err(BootError::CommandLine { length });
    }
    memory.write_slice(cmdline.as_bytes(), GuestAddress(layout::CMDLINE))?;
    memory.write_obj(0u8, GuestAddress(layout::CMDLINE + length as u64))?;
    Ok(())
}

/// End of the RAM region that starts at address 0.
fn low_ram_end(memory: &GuestMemory) -> u64 {
    memory.iter().next().map_or(0, |region| region.len())
}

/// Copies exactly `size` bytes of `file`, from its current position, to `gpa`.
fn copy_from_file(memory: &GuestMemory, file: &mut File, gpa: u64, size: u64) -> io::Result<()> {
    let size = usize::try_from(size).map_err(io::Error::other)?;
    memory.read_exact_volatile_from(GuestAddress(gpa), file, size).map_err(io::Error::other)
}

/// Reads until `buffer` is full or the file ends; gives the number of bytes.
fn read_prefix(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match io::Read::read(file, rest) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

fn open(what: &'static str, path: &Path) -> Result<File, BootError> {
    File::open(path).map_err(|source| file_error(what, path, source))
}

fn file_error(what: &'static str, path: &Path, source: io::Error) -> BootError {
    BootError::File { what, path: path.to_owned(), source }
}

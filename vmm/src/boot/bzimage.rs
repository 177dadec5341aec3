//! Loads a `bzImage`: a compressed kernel with the Linux setup header, entered at its 64-bit entry point.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::Path;

use supermachine_hv::GuestMemory;

use super::elf::array_at;
use super::params::header as hdr;
use super::{BootError, LoadedKernel, copy_from_file, file_error, low_ram_end};
use crate::layout;

/// Oldest boot protocol with `xloadflags` (2.12, Linux 3.8).
const PROTOCOL_MIN: u16 = 0x20c;
/// The 64-bit entry point is this far behind the protected-mode part's start.
const ENTRY_64: u64 = 0x200;
/// `xloadflags` bit 0: the 64-bit entry point exists.
const XLF_KERNEL_64: u16 = 1;
/// Bytes of a real-mode sector.
const SECTOR: u64 = 512;

/// Loads the protected-mode part at the kernel's preferred address. `head` holds at least the file's first 0x264 bytes.
pub(super) fn load(memory: &GuestMemory, file: &mut File, head: &[u8], path: &Path) -> Result<LoadedKernel, BootError> {
    let bad = |problem| BootError::BadKernel { path: path.to_owned(), problem };
    let io = |source| file_error("kernel", path, source);
    if u16::from_le_bytes(array_at(head, hdr::VERSION)) < PROTOCOL_MIN {
        return Err(bad("bzImage is older than boot protocol 2.12"));
    }
    if u16::from_le_bytes(array_at(head, hdr::XLOADFLAGS)) & XLF_KERNEL_64 == 0 {
        return Err(bad("bzImage has no 64-bit entry point; is it a 32-bit kernel?"));
    }
    let sectors = match head.get(hdr::SETUP_SECTS) {
        Some(0) | None => 4,
        Some(&n) => u64::from(n),
    };
    let skip = (sectors + 1) * SECTOR;
    let length = file.metadata().map_err(io)?.len();
    let size = length.checked_sub(skip).filter(|&s| s > ENTRY_64).ok_or_else(|| bad("bzImage is cut off"))?;
    let start = u64::from_le_bytes(array_at(head, hdr::PREF_ADDRESS));
    let init_size = u64::from(u32::from_le_bytes(array_at(head, hdr::INIT_SIZE)));
    let needs = size.max(init_size);
    if start < layout::HIGH_RAM {
        return Err(bad("bzImage wants to be loaded below 1 MiB"));
    }
    let end = start.checked_add(needs).filter(|&end| end <= low_ram_end(memory));
    let end = end.ok_or(BootError::NoRoom { what: "kernel", size: needs })?;
    file.seek(SeekFrom::Start(skip)).map_err(io)?;
    copy_from_file(memory, file, start, size).map_err(io)?;
    // The header ends where its own short jump at 0x200 lands.
    let header_end = 0x202 + usize::from(head.get(0x201).copied().unwrap_or(0));
    let setup_header = head.get(hdr::START..header_end.min(head.len())).unwrap_or(&[]).to_vec();
    Ok(LoadedKernel { entry: start + ENTRY_64, end, setup_header })
}

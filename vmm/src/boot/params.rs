//! The `boot_params` page ("zero page") of the Linux x86 boot protocol.

use supermachine_hv::GuestMemory;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend as _, GuestMemoryRegion as _};

use super::BootError;
use crate::layout;

/// Offsets of setup header fields in `boot_params` and, equally, in a bzImage (boot.rst, "The Real-Mode Kernel Header").
pub(super) mod header {
    pub(in crate::boot) const START: usize = 0x1f1;
    pub(in crate::boot) const SETUP_SECTS: usize = 0x1f1;
    pub(in crate::boot) const BOOT_FLAG: usize = 0x1fe;
    pub(in crate::boot) const MAGIC: usize = 0x202;
    pub(in crate::boot) const VERSION: usize = 0x206;
    pub(in crate::boot) const TYPE_OF_LOADER: usize = 0x210;
    pub(in crate::boot) const LOADFLAGS: usize = 0x211;
    pub(in crate::boot) const RAMDISK_IMAGE: usize = 0x218;
    pub(in crate::boot) const RAMDISK_SIZE: usize = 0x21c;
    pub(in crate::boot) const CMD_LINE_PTR: usize = 0x228;
    pub(in crate::boot) const KERNEL_ALIGNMENT: usize = 0x230;
    pub(in crate::boot) const XLOADFLAGS: usize = 0x236;
    pub(in crate::boot) const CMDLINE_SIZE: usize = 0x238;
    pub(in crate::boot) const PREF_ADDRESS: usize = 0x258;
    pub(in crate::boot) const INIT_SIZE: usize = 0x260;
    /// First byte after the longest header this code writes.
    pub(in crate::boot) const END: usize = 0x264;
}

/// Offset of the number of e820 entries (zero-page.rst).
const E820_ENTRIES: usize = 0x1e8;
/// Offset of the e820 table; 20 bytes an entry: address, size, type.
const E820_TABLE: usize = 0x2d0;
/// Usable RAM.
const E820_RAM: u32 = 1;
/// Reserved.
const E820_RESERVED: u32 = 2;
/// "Undefined" loader.
const LOADER_UNDEFINED: u8 = 0xff;
/// `LOADED_HIGH`: the kernel is at 1 MiB or above.
const LOADED_HIGH: u8 = 1;

/// The setup header for a kernel that brings none (an ELF `vmlinux`).
pub(super) fn default_setup_header() -> Vec<u8> {
    let mut page = vec![0u8; header::END];
    put(&mut page, header::BOOT_FLAG, &0xaa55u16.to_le_bytes());
    put(&mut page, header::MAGIC, b"HdrS");
    put(&mut page, header::VERSION, &0x20fu16.to_le_bytes());
    put(&mut page, header::KERNEL_ALIGNMENT, &0x100_0000u32.to_le_bytes());
    page.split_off(header::START)
}

/// Writes the zero page: setup header, initramfs (address, size), command line and the e820 map.
pub(super) fn write(
    memory: &GuestMemory,
    setup_header: &[u8],
    initrd: Option<(u64, u64)>,
    cmdline_len: usize,
) -> Result<(), BootError> {
    let mut page = vec![0u8; layout::PAGE_SIZE as usize];
    put(&mut page, header::START, setup_header);
    put(&mut page, header::TYPE_OF_LOADER, &[LOADER_UNDEFINED]);
    let loadflags = page.get(header::LOADFLAGS).copied().unwrap_or(0) | LOADED_HIGH;
    put(&mut page, header::LOADFLAGS, &[loadflags]);
    let (image, size) = initrd.unwrap_or((0, 0));
    put(&mut page, header::RAMDISK_IMAGE, &low_u32(image));
    put(&mut page, header::RAMDISK_SIZE, &low_u32(size));
    put(&mut page, header::CMD_LINE_PTR, &low_u32(layout::CMDLINE));
    put(&mut page, header::CMDLINE_SIZE, &low_u32(cmdline_len as u64));
    let map = e820(memory);
    put(&mut page, E820_ENTRIES, &[u8::try_from(map.len()).unwrap_or(u8::MAX)]);
    for (index, (start, size, kind)) in map.into_iter().enumerate() {
        let at = E820_TABLE + index * 20;
        put(&mut page, at, &start.to_le_bytes());
        put(&mut page, at + 8, &size.to_le_bytes());
        put(&mut page, at + 16, &kind.to_le_bytes());
    }
    memory.write_slice(&page, GuestAddress(layout::ZERO_PAGE))?;
    Ok(())
}

/// RAM as the kernel is told: the legacy hole and the MP table's page are kept out.
fn e820(memory: &GuestMemory) -> Vec<(u64, u64, u32)> {
    let hole = layout::HIGH_RAM - layout::LOW_RAM_END;
    let mut map = vec![(0, layout::LOW_RAM_END, E820_RAM), (layout::LOW_RAM_END, hole, E820_RESERVED)];
    for region in memory.iter() {
        let start = region.start_addr().0.max(layout::HIGH_RAM);
        let end = region.start_addr().0.saturating_add(region.len());
        if end > start {
            map.push((start, end - start, E820_RAM));
        }
    }
    map
}

/// An address or size that the layout keeps below 4 GiB, as the header wants it.
fn low_u32(value: u64) -> [u8; 4] {
    u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes()
}

/// Copies `bytes` to `at`; what would pass the page's end is dropped (headers are cut to `header::END` before).
fn put(page: &mut [u8], at: usize, bytes: &[u8]) {
    for (slot, byte) in page.iter_mut().skip(at).zip(bytes) {
        *slot = *byte;
    }
}

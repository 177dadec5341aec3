//! The guest physical memory map and interrupt numbers of an x86_64 machine; `docs/architecture.md` draws it.

/// Page size of guest RAM, bytes.
pub const PAGE_SIZE: u64 = 4096;

/// Descriptor table for the boot CPU.
pub const GDT: u64 = 0x500;
/// Empty interrupt descriptor table for the boot CPU.
pub const IDT: u64 = 0x540;
/// Linux `boot_params` ("zero page"), one page.
pub const ZERO_PAGE: u64 = 0x7000;
/// First of six pages of page tables: one PML4, one PDPT, four PDs that map the low 4 GiB.
pub const PAGE_TABLES: u64 = 0x9000;
/// Kernel command line.
pub const CMDLINE: u64 = 0x2_0000;
/// Longest command line with its NUL, bytes (`COMMAND_LINE_SIZE` of Linux on x86 is 2048).
pub const CMDLINE_MAX: usize = 2048;
/// MP floating pointer and configuration table, in the last KiB below 640 KiB where Linux scans for it.
pub const MP_TABLE: u64 = 0x9_fc00;
/// End of the low RAM that the kernel may use; the MP table lives above it.
pub const LOW_RAM_END: u64 = 0x9_fc00;
/// Start of RAM above the legacy hole.
pub const HIGH_RAM: u64 = 0x10_0000;

/// RAM stops here and goes on at [`RAM_ABOVE_GAP`]: room for device registers and APICs.
pub const MMIO_GAP: u64 = 0xc000_0000;
/// RAM that does not fit below [`MMIO_GAP`] starts here.
pub const RAM_ABOVE_GAP: u64 = 0x1_0000_0000;

/// First virtio-mmio register window.
pub const VIRTIO_MMIO: u64 = 0xd000_0000;
/// Bytes per virtio-mmio window.
pub const VIRTIO_MMIO_SIZE: u64 = 0x1000;
/// IOAPIC pin of the first virtio-mmio device; the others follow.
pub const VIRTIO_FIRST_GSI: u32 = 5;
/// Last IOAPIC pin.
pub const LAST_GSI: u32 = 23;
/// Most virtio-mmio devices: one IOAPIC pin each.
pub const VIRTIO_MAX: usize = (LAST_GSI - VIRTIO_FIRST_GSI + 1) as usize;

/// IOAPIC registers.
pub const IOAPIC: u32 = 0xfec0_0000;
/// Local APIC registers.
pub const LAPIC: u32 = 0xfee0_0000;

/// First serial port and its interrupt line.
pub const SERIAL_PORT: u16 = 0x3f8;
/// Interrupt line of the first serial port.
pub const SERIAL_GSI: u32 = 4;
/// Keyboard controller data port; the command port is 4 above. The port between them, 0x61, is the back end's timer's.
pub const I8042_PORT: u16 = 0x60;
/// CMOS clock index port; data is 1 above.
pub const RTC_PORT: u16 = 0x70;

/// Smallest guest RAM, MiB: the kernel, the initramfs and room to run.
pub const MEMORY_MIN_MIB: u64 = 64;
/// Largest guest RAM, MiB: what the four-level page tables of the host and the guest can map with room to spare.
pub const MEMORY_MAX_MIB: u64 = 1024 * 1024;
/// Most vCPUs: the size of the MP table region and the kernel's `NR_CPUS`.
pub const VCPUS_MAX: u32 = 16;

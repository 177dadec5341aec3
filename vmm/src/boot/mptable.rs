//! The MultiProcessor Specification 1.4 table: how Linux without ACPI finds CPUs, the IOAPIC and interrupt lines.

use supermachine_hv::GuestMemory;
use vm_memory::{Bytes, GuestAddress};

use super::BootError;
use crate::layout;

/// Local APIC version of an integrated APIC (MP 1.4, table 4-4).
const APIC_VERSION: u8 = 0x14;
/// CPU flags: enabled; bootstrap processor.
const CPU_ENABLED: u8 = 1;
const CPU_BSP: u8 = 2;
/// Floating pointer, bytes; the configuration table follows it.
const POINTER_SIZE: u64 = 16;
/// Configuration table header, bytes.
const HEADER_SIZE: usize = 44;
/// Interrupt types of table 4-11: vectored, NMI, external (8259).
const INT_VECTORED: u8 = 0;
const INT_NMI: u8 = 1;
const INT_EXTINT: u8 = 3;

/// Writes the floating pointer and the table for `vcpus` CPUs.
pub(super) fn write(memory: &GuestMemory, vcpus: u32) -> Result<(), BootError> {
    let table = configuration(vcpus);
    let address = layout::MP_TABLE + POINTER_SIZE;
    let room = layout::HIGH_RAM - layout::MP_TABLE;
    if POINTER_SIZE + table.len() as u64 > room {
        return Err(BootError::NoRoom { what: "MP table", size: table.len() as u64 });
    }
    let mut pointer = [0u8; POINTER_SIZE as usize];
    pointer[..4].copy_from_slice(b"_MP_");
    pointer[4..8].copy_from_slice(&(address as u32).to_le_bytes());
    pointer[8] = 1; // length in 16-byte units
    pointer[9] = 4; // specification 1.4
    pointer[10] = checksum(&pointer);
    memory.write_slice(&pointer, GuestAddress(layout::MP_TABLE))?;
    memory.write_slice(&table, GuestAddress(address))?;
    Ok(())
}

fn configuration(vcpus: u32) -> Vec<u8> {
    let mut entries = Vec::new();
    let mut count: u16 = 0;
    let mut push = |bytes: &[u8]| {
        entries.extend_from_slice(bytes);
        count += 1;
    };
    let ioapic_id = vcpus as u8 + 1;
    for cpu in 0..vcpus as u8 {
        push(&processor(cpu));
    }
    push(&[1, 0, b'I', b'S', b'A', b' ', b' ', b' ']);
    let [a, b, c, d] = layout::IOAPIC.to_le_bytes();
    push(&[2, ioapic_id, APIC_VERSION, 1, a, b, c, d]);
    for line in 0..=layout::LAST_GSI as u8 {
        push(&[3, INT_VECTORED, 0, 0, 0, line, ioapic_id, line]);
    }
    push(&[4, INT_EXTINT, 0, 0, 0, 0, 0, 0]);
    push(&[4, INT_NMI, 0, 0, 0, 0, 0xff, 1]);

    let mut table = vec![0u8; HEADER_SIZE];
    let length = (HEADER_SIZE + entries.len()) as u16;
    table[..4].copy_from_slice(b"PCMP");
    table[4..6].copy_from_slice(&length.to_le_bytes());
    table[6] = 4; // specification 1.4
    table[8..16].copy_from_slice(b"SUPERMAC");
    table[16..28].copy_from_slice(b"microvm     ");
    table[34..36].copy_from_slice(&count.to_le_bytes());
    table[36..40].copy_from_slice(&layout::LAPIC.to_le_bytes());
    table.extend_from_slice(&entries);
    table[7] = checksum(&table);
    table
}

fn processor(cpu: u8) -> [u8; 20] {
    let mut entry = [0u8; 20];
    entry[1] = cpu;
    entry[2] = APIC_VERSION;
    entry[3] = CPU_ENABLED | if cpu == 0 { CPU_BSP } else { 0 };
    entry[4..8].copy_from_slice(&0x600u32.to_le_bytes()); // family 6
    entry[8..12].copy_from_slice(&0x201u32.to_le_bytes()); // FPU and APIC
    entry
}

/// The byte that makes the sum of all bytes zero.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_sums_to_zero_and_counts_entries() {
        for vcpus in [1, 2, 16] {
            let table = configuration(vcpus);
            assert_eq!(table.iter().fold(0u8, |s, b| s.wrapping_add(*b)), 0);
            assert_eq!(u32::from(u16::from_le_bytes([table[34], table[35]])), vcpus + 1 + 1 + 24 + 2);
            assert_eq!(usize::from(u16::from_le_bytes([table[4], table[5]])), table.len());
            assert!(table.len() as u64 + POINTER_SIZE <= layout::HIGH_RAM - layout::MP_TABLE);
        }
    }
}

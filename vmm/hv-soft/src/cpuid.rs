//! CPU models: CPUID says exactly what is emulated.

use crate::spec::pte;
use supermachine_hv::x86::CpuidLeaf;

/// The CPU that guests see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Model {
    /// x86-64-v1: SSE2.
    V1,
    /// x86-64-v2: SSE4.2, CMPXCHG16B, POPCNT, LAHF in 64-bit mode.
    #[default]
    V2,
}

impl Model {
    /// The model of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Model::V1, Model::V2].into_iter().find(|model| model.name() == name)
    }

    /// The name that goes into snapshot keys.
    pub fn name(self) -> &'static str {
        match self {
            Model::V1 => "soft-v1",
            Model::V2 => "soft-v2",
        }
    }
}

/// Highest standard leaf.
const MAX_LEAF: u32 = 0xb;
/// Highest KVM leaf.
const MAX_KVM: u32 = 0x4000_0001;
/// Highest extended leaf.
const MAX_EXTENDED: u32 = 0x8000_0021;
/// Family 0x19, model 0x11, stepping 1: a vendor and family without Meltdown, which keeps page-table isolation off.
pub(crate) const SIGNATURE: u32 = 0x00a1_0f11;
const VENDOR: [&[u8; 4]; 3] = [b"Auth", b"enti", b"cAMD"];
const BRAND: &[u8; 48] = b"supermachine soft x86-64 CPU\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// Leaf 1 ECX.
mod ecx1 {
    pub(super) const SSE3: u32 = 1;
    pub(super) const SSSE3: u32 = 1 << 9;
    pub(super) const CX16: u32 = 1 << 13;
    pub(super) const SSE41: u32 = 1 << 19;
    pub(super) const SSE42: u32 = 1 << 20;
    pub(super) const X2APIC: u32 = 1 << 21;
    pub(super) const POPCNT: u32 = 1 << 23;
    pub(super) const TSC_DEADLINE: u32 = 1 << 24;
    pub(super) const RDRAND: u32 = 1 << 30;
    pub(super) const HYPERVISOR: u32 = 1 << 31;
}

/// Leaf 1 EDX: FPU DE PSE TSC MSR PAE CX8 APIC PGE CMOV PAT PSE36 CLFLUSH MMX FXSR SSE SSE2.
const EDX1: u32 = 1
    | 1 << 2
    | 1 << 3
    | 1 << 4
    | 1 << 5
    | 1 << 6
    | 1 << 8
    | 1 << 9
    | 1 << 13
    | 1 << 15
    | 1 << 16
    | 1 << 17
    | 1 << 19
    | 1 << 23
    | 1 << 24
    | 1 << 25
    | 1 << 26;

/// Leaf 0x80000021: this CPU does not speculate, so kernels need none of the costly mitigations.
mod no_speculation {
    /// EAX: LFENCE serializes, a null selector clears the base, automatic IBRS, not affected by SRSO.
    pub(super) const EAX: u32 = 1 << 2 | 1 << 6 | 1 << 8 | 1 << 29;
    /// ECX: not affected by TSA in the store queue and the L1 cache.
    pub(super) const ECX: u32 = 1 << 1 | 1 << 2;
    /// Leaf 0x80000008 EBX: FXSAVE always saves the error pointers; not affected by speculative store bypass.
    pub(super) const EBX8: u32 = 1 << 2 | 1 << 26;
}

/// Leaf 0x80000001 EDX beside those shared with leaf 1: SYSCALL NX PDPE1GB RDTSCP LM.
const EXTENDED_EDX: u32 = 1 << 11 | 1 << 20 | 1 << 26 | 1 << 27 | 1 << 29;
/// Bits of leaf 1 EDX that AMD repeats in 0x80000001.
const SHARED_EDX: u32 = 0x0183_f3ff;

fn ascii(b: &[u8]) -> u32 {
    b.iter().take(4).rev().fold(0, |v, &c| v << 8 | u32::from(c))
}

fn brand(n: usize) -> [u32; 4] {
    let word = |i: usize| BRAND.get(n * 16 + i * 4..n * 16 + i * 4 + 4).map_or(0, ascii);
    [word(0), word(1), word(2), word(3)]
}

/// CPUID for one leaf: EAX, EBX, ECX, EDX. `id` is the APIC id.
pub(crate) fn leaf(model: Model, function: u32, index: u32, id: u32) -> [u32; 4] {
    let v2 = model == Model::V2;
    match function {
        0 => [MAX_LEAF, ascii(VENDOR[0]), ascii(VENDOR[2]), ascii(VENDOR[1])],
        1 => {
            let mut ecx = ecx1::X2APIC | ecx1::TSC_DEADLINE | ecx1::RDRAND | ecx1::HYPERVISOR;
            if v2 {
                ecx |= ecx1::SSE3 | ecx1::SSSE3 | ecx1::CX16 | ecx1::SSE41 | ecx1::SSE42 | ecx1::POPCNT;
            }
            // CLFLUSH lines of 8 quadwords, one logical processor.
            [SIGNATURE, id << 24 | 1 << 16 | 8 << 8, ecx, EDX1]
        }
        // ARAT: the local timer runs in every sleep state.
        6 => [1 << 2, 0, 0, 0],
        // FSGSBASE, SMEP, ERMS, RDSEED; FSRM.
        7 if index == 0 => [0, 1 | 1 << 7 | 1 << 9 | 1 << 18, 0, 1 << 4],
        0xb => match index {
            0 => [0, 1, 1 << 8, id],
            1 => [0, 1, 2 << 8 | 1, id],
            _ => [0, 0, index & 0xff, id],
        },
        0x4000_0000 => [MAX_KVM, ascii(b"KVMK"), ascii(b"VMKV"), ascii(b"M\0\0\0")],
        // CLOCKSOURCE2, NOP_IO_DELAY, and the stable bit of the clock.
        0x4000_0001 => [1 << 3 | 1 << 1 | 1 << 24, 0, 0, 0],
        0x8000_0000 => [MAX_EXTENDED, ascii(VENDOR[0]), ascii(VENDOR[2]), ascii(VENDOR[1])],
        // LAHF, 3DNOWPREFETCH.
        0x8000_0001 => [SIGNATURE, 0, u32::from(v2) | 1 << 8, EDX1 & SHARED_EDX | EXTENDED_EDX],
        0x8000_0002..=0x8000_0004 => brand((function - 0x8000_0002) as usize),
        // Caches: 32 KiB L1, 8 ways; 512 KiB L2.
        0x8000_0005 => [0, 0, 0x2008_0140, 0x2008_0140],
        0x8000_0006 => [0, 0, 0x0200_6140, 0],
        0x8000_0008 => [pte::PHYSICAL_BITS | 48 << 8, no_speculation::EBX8, 0, 0],
        0x8000_0021 => [no_speculation::EAX, 0, no_speculation::ECX, 0],
        _ => [0; 4],
    }
}

/// Every leaf, for saved states.
pub(crate) fn all(model: Model, id: u32) -> Vec<CpuidLeaf> {
    let leaves = (0..=MAX_LEAF).chain(0x4000_0000..=MAX_KVM).chain(0x8000_0000..=MAX_EXTENDED);
    let with_index = leaves.flat_map(|f| (0..if f == 0xb { 2 } else { 1 }).map(move |i| (f, i)));
    with_index
        .map(|(function, index)| {
            let [eax, ebx, ecx, edx] = leaf(model, function, index, id);
            CpuidLeaf { function, index, eax, ebx, ecx, edx }
        })
        .collect()
}

//! Numbers of the architecture (Intel SDM vol. 3; section beside each group).

/// CR0 (2.5).
pub(crate) mod cr0 {
    pub(crate) const PE: u64 = 1;
    pub(crate) const MP: u64 = 1 << 1;
    pub(crate) const EM: u64 = 1 << 2;
    pub(crate) const TS: u64 = 1 << 3;
    pub(crate) const ET: u64 = 1 << 4;
    pub(crate) const NE: u64 = 1 << 5;
    pub(crate) const WP: u64 = 1 << 16;
    pub(crate) const AM: u64 = 1 << 18;
    pub(crate) const NW: u64 = 1 << 29;
    pub(crate) const CD: u64 = 1 << 30;
    pub(crate) const PG: u64 = 1 << 31;
    /// Bits that a write may set.
    pub(crate) const KNOWN: u64 = PE | MP | EM | TS | ET | NE | WP | AM | NW | CD | PG;
}

/// CR4 (2.5).
pub(crate) mod cr4 {
    pub(crate) const VME: u64 = 1;
    pub(crate) const PVI: u64 = 1 << 1;
    pub(crate) const TSD: u64 = 1 << 2;
    pub(crate) const DE: u64 = 1 << 3;
    pub(crate) const PSE: u64 = 1 << 4;
    pub(crate) const PAE: u64 = 1 << 5;
    pub(crate) const MCE: u64 = 1 << 6;
    pub(crate) const PGE: u64 = 1 << 7;
    pub(crate) const PCE: u64 = 1 << 8;
    pub(crate) const OSFXSR: u64 = 1 << 9;
    pub(crate) const OSXMMEXCPT: u64 = 1 << 10;
    pub(crate) const FSGSBASE: u64 = 1 << 16;
    pub(crate) const SMEP: u64 = 1 << 20;
    /// Bits that a write may set.
    pub(crate) const KNOWN: u64 =
        VME | PVI | TSD | DE | PSE | PAE | MCE | PGE | PCE | OSFXSR | OSXMMEXCPT | FSGSBASE | SMEP;
}

/// IA32_EFER (2.2.1).
pub(crate) mod efer {
    pub(crate) const SCE: u64 = 1;
    pub(crate) const LME: u64 = 1 << 8;
    pub(crate) const LMA: u64 = 1 << 10;
    pub(crate) const NXE: u64 = 1 << 11;
    /// Automatic IBRS: accepted, and without effect where nothing speculates.
    pub(crate) const AIBRSE: u64 = 1 << 21;
    /// Bits that a write may set.
    pub(crate) const KNOWN: u64 = SCE | LME | LMA | NXE | AIBRSE;
}

/// Page table entries (4.5.4).
pub(crate) mod pte {
    pub(crate) const P: u64 = 1;
    pub(crate) const RW: u64 = 1 << 1;
    pub(crate) const US: u64 = 1 << 2;
    pub(crate) const A: u64 = 1 << 5;
    pub(crate) const D: u64 = 1 << 6;
    pub(crate) const PS: u64 = 1 << 7;
    pub(crate) const G: u64 = 1 << 8;
    pub(crate) const NX: u64 = 1 << 63;
    /// Physical address width that CPUID reports.
    pub(crate) const PHYSICAL_BITS: u32 = 40;
    /// Address bits.
    pub(crate) const ADDRESS: u64 = ((1 << PHYSICAL_BITS) - 1) & !0xfff;
    /// Address bits above the reported width.
    pub(crate) const RESERVED: u64 = ((1 << 52) - 1) & !((1 << PHYSICAL_BITS) - 1);
}

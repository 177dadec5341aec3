//! Names of kernel addresses, from a System.map.

use std::collections::HashSet;

/// Where the kernel is linked, and where it is loaded: code runs there until it has its own page tables.
const LINKED: u64 = 0xffff_ffff_8000_0000;
/// Addresses below this are code at its physical address, if they are above the first mebibyte.
const PHYSICAL_END: u64 = 1 << 30;

/// Functions by address.
#[derive(Debug, Default)]
pub struct Symbols {
    sorted: Vec<(u64, String)>,
}

impl Symbols {
    /// Reads lines of `address type name`; what is not such a line is passed over.
    pub fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let mut words = line.split_whitespace();
            let (address, kind, name) = (words.next()?, words.next()?, words.next()?);
            let address = u64::from_str_radix(address, 16).ok()?;
            (matches!(kind, "t" | "T" | "w" | "W") && address >= LINKED).then(|| (address, name.to_owned()))
        };
        let mut sorted: Vec<_> = text.lines().filter_map(line).collect();
        sorted.sort();
        Symbols { sorted }
    }

    /// Sorted addresses of all functions.
    pub fn starts(&self) -> Vec<u64> {
        self.sorted.iter().map(|&(at, _)| at).collect()
    }

    /// The functions through which others call and return.
    pub fn thunks(&self) -> HashSet<u64> {
        let all = self.sorted.iter().filter(|(_, name)| name.starts_with("__x86_") && name.contains("_thunk"));
        all.map(|&(at, _)| at).collect()
    }

    /// Address of the symbol.
    pub fn address(&self, name: &str) -> Option<u64> {
        self.sorted.iter().find(|(_, n)| n == name).map(|&(at, _)| at)
    }

    /// The function that holds an address.
    pub fn function(&self, pc: u64) -> Option<&str> {
        self.place(pc).map(|(name, _)| name)
    }

    fn place(&self, pc: u64) -> Option<(&str, u64)> {
        let pc = if (1 << 20..PHYSICAL_END).contains(&pc) { pc.wrapping_add(LINKED) } else { pc };
        let after = self.sorted.partition_point(|&(at, _)| at <= pc);
        let (at, name) = self.sorted.get(after.checked_sub(1)?)?;
        Some((name, pc.wrapping_sub(*at)))
    }

    /// `address function+offset`.
    pub fn describe(&self, pc: u64) -> String {
        match self.place(pc) {
            Some((name, offset)) => format!("{pc:#x} {name}+{offset:#x}"),
            None => format!("{pc:#x}"),
        }
    }

    /// First instructions of the handlers of interrupts and exceptions: those of interrupts, then all.
    pub fn entries(&self) -> (HashSet<u64>, HashSet<u64>) {
        let is = |prefix: &'static str| {
            let all = self.sorted.iter().filter(move |(_, name)| name.starts_with(prefix));
            all.map(|&(at, _)| at)
        };
        let mut interrupts: HashSet<u64> = is("asm_sysvec_").chain(is("asm_exc_nmi")).collect();
        if let (Some(start), Some(end)) = (self.address("irq_entries_start"), self.address("asm_common_interrupt")) {
            // One stub of 16 bytes per vector, and as long as one needs with branch tracking.
            interrupts.extend((start..end).step_by(8));
        }
        let all = interrupts.iter().copied().chain(is("asm_exc_")).collect();
        (interrupts, all)
    }
}

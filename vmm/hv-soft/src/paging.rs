//! Four-level page walks with accessed and dirty bits (Intel SDM vol. 3, 4.5).

use crate::cpu::Cpu;
use crate::op::{Res, Stop};
use crate::spec::{cr0, cr4, efer, pte};
use crate::sys::exception::{Exception, PF};

/// Kind of access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    Fetch,
}

/// Result of a walk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mapping {
    /// Guest physical address of the byte.
    pub(crate) gpa: u64,
    /// Not flushed by a CR3 load.
    pub(crate) global: bool,
    /// Bytes mapped by the leaf entry.
    pub(crate) span: u64,
    /// A write by the same mode would neither fault nor change the page tables.
    pub(crate) write_ready: bool,
}

/// What the walk found before permissions are checked.
struct Found {
    entry_gpa: u64,
    entry: u64,
    level: u32,
    writable: bool,
    user: bool,
    no_execute: bool,
}

impl Cpu {
    /// Walks the page tables; sets accessed and dirty bits.
    pub(crate) fn translate(&mut self, va: u64, access: Access, user: bool) -> Res<Mapping> {
        match self.walk(va, access, user) {
            Ok(m) => Ok(m),
            Err(code) => {
                self.fault = Exception { vector: PF, code: Some(code), cr2: Some(va), canonical: true };
                Err(Stop::Fault)
            }
        }
    }

    /// The walk itself; the error is the page fault's error code.
    fn walk(&self, va: u64, access: Access, user: bool) -> Result<Mapping, u32> {
        let mut code = (u32::from(access == Access::Write) * 2) | (u32::from(user) * 4);
        if access == Access::Fetch && (self.sys.efer & efer::NXE != 0 || self.sys.cr4 & cr4::SMEP != 0) {
            code |= 16;
        }
        let mut found = self.descend(va, code)?;
        let write_allowed = found.writable && (!user || found.user) || !user && self.sys.cr0 & cr0::WP == 0;
        let denied = user && !found.user
            || access == Access::Write && !write_allowed
            || access == Access::Fetch && (found.no_execute || !user && found.user && self.sys.cr4 & cr4::SMEP != 0);
        if denied {
            return Err(code | 1);
        }
        let set = pte::A | if access == Access::Write { pte::D } else { 0 };
        if found.entry & set != set {
            found.entry |= set;
            self.ram.write::<u64>(found.entry_gpa, found.entry);
        }
        let span = 1u64 << (12 + 9 * found.level);
        Ok(Mapping {
            gpa: (found.entry & pte::ADDRESS & !(span - 1)) | (va & (span - 1)),
            global: found.entry & pte::G != 0 && self.sys.cr4 & cr4::PGE != 0,
            span,
            write_ready: write_allowed && found.entry & pte::D != 0,
        })
    }

    /// Goes down to the leaf entry and gathers permissions.
    fn descend(&self, va: u64, code: u32) -> Result<Found, u32> {
        let mut table = self.sys.cr3 & pte::ADDRESS;
        let reserved_nx = if self.sys.efer & efer::NXE == 0 { pte::NX } else { 0 };
        let mut f = Found { entry_gpa: 0, entry: 0, level: 3, writable: true, user: true, no_execute: false };
        loop {
            f.entry_gpa = table + 8 * (va >> (12 + 9 * f.level) & 0x1ff);
            f.entry = self.ram.read::<u64>(f.entry_gpa).unwrap_or(0);
            if f.entry & pte::P == 0 {
                return Err(code);
            }
            let leaf = f.level == 0 || f.level < 3 && f.entry & pte::PS != 0;
            let mut reserved = reserved_nx | pte::RESERVED;
            if f.level == 3 {
                reserved |= pte::PS;
            } else if leaf && f.level > 0 {
                // Address bits below the large page, but for PAT in bit 12.
                reserved |= ((1 << (12 + 9 * f.level)) - 1) & !0x1fff;
            }
            if f.entry & reserved != 0 {
                return Err(code | 1 | 8);
            }
            f.writable &= f.entry & pte::RW != 0;
            f.user &= f.entry & pte::US != 0;
            f.no_execute |= f.entry & pte::NX != 0;
            if leaf {
                return Ok(f);
            }
            if f.entry & pte::A == 0 {
                self.ram.write::<u64>(f.entry_gpa, f.entry | pte::A);
            }
            table = f.entry & pte::ADDRESS;
            f.level -= 1;
        }
    }
}

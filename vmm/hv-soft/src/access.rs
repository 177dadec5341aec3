//! Guest memory accesses by virtual address: the fast path is in the TLB, everything else is here.

use supermachine_hv::Exit;

use crate::code::store::Spot;
use crate::cpu::{Cpu, canonical};
use crate::mem::{HostPage, OFFSET, PAGE};
use crate::op::{Res, Stop};
use crate::paging::Access;
use crate::sys::exception::{Exception, GP};
use crate::tlb::Fill;
use crate::word::Word;

/// Reads that one instruction can make before it is done (16 bytes from each of two operands).
const MAX_REPLAY: usize = 4;

/// Accesses that leave the vCPU. An instruction that reads a device is aborted, and runs again from its start with
/// the answers so far; writes are posted and leave after the instruction.
#[derive(Debug, Default)]
pub(crate) struct Io {
    /// The read that waits for an answer.
    pub(crate) wanted: Option<Exit>,
    /// Answers for the instruction that is to run again.
    answers: [u64; MAX_REPLAY],
    answered: usize,
    used: usize,
    /// Writes that the vmm has not seen yet, in order.
    posted: [Option<Exit>; 2],
}

impl Io {
    /// Whether an instruction waits to run again with answers.
    pub(crate) fn replaying(&self) -> bool {
        self.answered != 0
    }

    /// Whether posted writes wait.
    pub(crate) fn posting(&self) -> bool {
        self.posted[0].is_some()
    }

    /// Takes the oldest posted write.
    pub(crate) fn take_posted(&mut self) -> Option<Exit> {
        let first = self.posted[0].take();
        self.posted.swap(0, 1);
        first
    }

    /// Adds an answer.
    pub(crate) fn answer(&mut self, value: u64) {
        if let Some(a) = self.answers.get_mut(self.answered) {
            *a = value;
            self.answered += 1;
        }
    }

    /// Starts the instruction again from its first access.
    pub(crate) fn rewind(&mut self) {
        self.used = 0;
    }

    /// The instruction is done.
    pub(crate) fn clear(&mut self) {
        self.used = 0;
        self.answered = 0;
    }

    /// Gives the answer for the next read, or asks for it.
    pub(crate) fn read(&mut self, exit: Exit) -> Res<u64> {
        if self.posting() {
            return Err(Stop::Exit);
        }
        if self.used < self.answered {
            self.used += 1;
            return Ok(self.answers[self.used - 1]);
        }
        self.wanted = Some(exit);
        Err(Stop::Exit)
    }

    /// Posts a write; there must be room, see [`posting`](Self::posting).
    pub(crate) fn post(&mut self, exit: Exit) {
        let free = usize::from(self.posted[0].is_some());
        self.posted[free] = Some(exit);
    }
}

/// How far an access goes.
pub(crate) trait Path {
    /// Whether it goes on where the TLB does not know the page; else the instruction stops with [`Stop::Miss`].
    const WHOLE: bool;
}

/// No further than the TLB: code without a call in it.
pub(crate) struct Fast;

/// All the way.
pub(crate) struct Whole;

impl Path for Fast {
    const WHOLE: bool = false;
}

impl Path for Whole {
    const WHOLE: bool = true;
}

impl Cpu {
    /// Reads a value; may fault, exit or replay.
    #[inline(always)]
    pub(crate) fn read<T: Word>(&mut self, va: u64) -> Res<T> {
        self.read_by::<Whole, T>(va)
    }

    /// Reads a value by a path.
    #[inline(always)]
    pub(crate) fn read_by<P: Path, T: Word>(&mut self, va: u64) -> Res<T> {
        match self.tlb.load(va) {
            Some(v) => Ok(v),
            None if P::WHOLE => self.read_slow(va, T::BYTES).map(T::from64),
            None => Err(Stop::Miss),
        }
    }

    /// Writes a value; nothing is written if it stops.
    #[inline(always)]
    pub(crate) fn write<T: Word>(&mut self, va: u64, value: T) -> Res {
        self.write_by::<Whole, T>(va, value)
    }

    /// Writes a value by a path.
    #[inline(always)]
    pub(crate) fn write_by<P: Path, T: Word>(&mut self, va: u64, value: T) -> Res {
        if self.tlb.store(va, value) {
            Ok(())
        } else if P::WHOLE {
            self.write_slow(va, T::BYTES, value.to64())
        } else {
            Err(Stop::Miss)
        }
    }

    /// Reads, changes and writes a value. `f` runs at most once and only when the write cannot fail any more.
    #[inline(always)]
    pub(crate) fn rmw<T: Word>(&mut self, va: u64, f: impl FnOnce(&mut Cpu, T) -> T) -> Res {
        self.rmw_by::<Whole, T>(va, f)
    }

    /// Reads, changes and writes a value by a path.
    #[inline(always)]
    pub(crate) fn rmw_by<P: Path, T: Word>(&mut self, va: u64, f: impl FnOnce(&mut Cpu, T) -> T) -> Res {
        if let Some((old, place)) = self.tlb.begin_rmw::<T>(va) {
            let new = f(self, old);
            place.store(new);
            return Ok(());
        }
        if !P::WHOLE {
            return Err(Stop::Miss);
        }
        if let Some((page, _)) = self.beside_code(va, T::BYTES) {
            let new = f(self, page.load(va & OFFSET));
            page.store(va & OFFSET, new);
            return Ok(());
        }
        self.prepare_write(va, T::BYTES)?;
        let old = T::from64(self.read_slow(va, T::BYTES)?);
        let new = f(self, old);
        self.write_slow(va, T::BYTES, new.to64())
    }

    /// Reads 16 bytes of any alignment.
    #[inline]
    pub(crate) fn read128(&mut self, va: u64) -> Res<u128> {
        let lo = match self.tlb.load(va) {
            Some(lo) => lo,
            None => {
                self.check_end(va.wrapping_add(15))?;
                self.read_slow(va, 8)?
            }
        };
        let hi = self.read::<u64>(va.wrapping_add(8))?;
        Ok(u128::from(lo) | u128::from(hi) << 64)
    }

    /// Writes 16 bytes of any alignment; nothing is written if it stops.
    #[inline]
    pub(crate) fn write128(&mut self, va: u64, v: u128) -> Res {
        if (va & OFFSET) > PAGE - 16 || self.tlb.host(va, true).is_none() {
            self.prepare_write(va, 16)?;
        }
        self.write::<u64>(va, v as u64)?;
        self.write::<u64>(va.wrapping_add(8), (v >> 64) as u64)
    }

    /// Makes sure that a write of `len` bytes will neither fault nor stop, and that nothing older is in the way.
    #[cold]
    pub(crate) fn prepare_write(&mut self, va: u64, len: u64) -> Res {
        if self.tlb.guarded(va, len).is_some() {
            return Ok(());
        }
        let last = va.wrapping_add(len - 1);
        self.check_end(last)?;
        self.prepare_part(va)?;
        if (va ^ last) & !OFFSET != 0 {
            self.prepare_part(last & !OFFSET)?;
        }
        Ok(())
    }

    fn prepare_part(&mut self, va: u64) -> Res {
        match self.target(va, Access::Write)? {
            Target::Ram(_) => Ok(()),
            Target::Device(_) if self.io.posting() => Err(Stop::Exit),
            Target::Device(_) => Ok(()),
        }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn read_slow(&mut self, va: u64, len: u64) -> Res<u64> {
        if (va & OFFSET) + len > PAGE {
            let first = PAGE - (va & OFFSET);
            self.check_end(va.wrapping_add(len - 1))?;
            let lo = self.read_part(va, first)?;
            let hi = self.read_part(va.wrapping_add(first), len - first)?;
            return Ok(lo | hi << (8 * first));
        }
        self.read_part(va, len)
    }

    /// Reads 1 to 8 bytes that do not leave their page.
    fn read_part(&mut self, va: u64, len: u64) -> Res<u64> {
        match self.target(va, Access::Read)? {
            Target::Ram(spot) => Ok(spot.load(len)),
            Target::Device(gpa) if len.is_power_of_two() => self.device_read(gpa, len as u8),
            Target::Device(gpa) => {
                let mut v = 0;
                for i in 0..len {
                    v |= (self.device_read(gpa + i, 1)? & 0xff) << (8 * i);
                }
                Ok(v)
            }
        }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn write_slow(&mut self, va: u64, len: u64, value: u64) -> Res {
        if let Some((page, number)) = self.beside_code(va, len) {
            Spot { page, number, offset: va & OFFSET }.store(len, value);
            return Ok(());
        }
        if let Some((page, number)) = self.tlb.guarded(va, len) {
            self.store_asking(Spot { page, number, offset: va & OFFSET }, len, value);
            return Ok(());
        }
        self.prepare_write(va, len)?;
        let first = len.min(PAGE - (va & OFFSET));
        self.write_part(va, first, value)?;
        if first < len {
            self.write_part(va.wrapping_add(first), len - first, value >> (8 * first))?;
        }
        Ok(())
    }

    /// Writes 1 to 8 bytes that do not leave their page, after `prepare_write`.
    fn write_part(&mut self, va: u64, len: u64, value: u64) -> Res {
        match self.target(va, Access::Write)? {
            Target::Ram(spot) => self.store_asking(spot, len, value),
            Target::Device(gpa) => self.device_write(gpa, len as u8, value),
        }
        Ok(())
    }

    /// An access that ends above the canonical addresses stops before any page is looked at.
    fn check_end(&mut self, last: u64) -> Res {
        if canonical(last) {
            return Ok(());
        }
        self.fault = Exception { vector: GP, code: Some(0), cr2: None, canonical: false };
        Err(Stop::Fault)
    }

    /// Translates one access and enters the page in the TLB if it is RAM.
    pub(crate) fn target(&mut self, va: u64, access: Access) -> Res<Target> {
        self.check_end(va)?;
        let user = self.cpl == 3;
        let m = self.translate(va, access, user)?;
        let Some((page, number)) = self.ram.page(m.gpa) else {
            return Ok(Target::Device(m.gpa));
        };
        let fill = Fill { va, page, number, global: m.global, span: m.span };
        self.tlb.fill_read(fill);
        if m.write_ready {
            self.code_map.note_writable(number);
            if self.code_map.watched(number) {
                self.tlb.fill_guarded(fill);
            } else {
                self.tlb.fill_write(fill);
            }
        }
        Ok(Target::Ram(Spot { page, number, offset: m.gpa & OFFSET }))
    }

    /// Host page for bulk work on `len` bytes of RAM in one page, which hold no code if they are to be written;
    /// nothing for devices and code.
    pub(crate) fn bulk(&mut self, va: u64, access: Access, len: u64) -> Res<Option<HostPage>> {
        let write = access == Access::Write;
        if let Some(p) = self.tlb.host(va, write) {
            return Ok(Some(p));
        }
        self.target(va, access)?;
        let beside = if write { self.beside_code(va, len) } else { None };
        Ok(self.tlb.host(va, write).or(beside.map(|(page, _)| page)))
    }

    fn device_read(&mut self, gpa: u64, size: u8) -> Res<u64> {
        if let Some(v) = self.chip_read(gpa, size) {
            return Ok(v);
        }
        let v = self.io.read(Exit::MmioRead { gpa, size })?;
        Ok(if size == 8 { v } else { v & ((1 << (8 * u32::from(size))) - 1) })
    }

    fn device_write(&mut self, gpa: u64, size: u8, value: u64) {
        let value = if size == 8 { value } else { value & ((1 << (8 * u32::from(size))) - 1) };
        if !self.chip_write(gpa, size, value) {
            self.io.post(Exit::MmioWrite { gpa, size, value });
            self.attend();
        }
    }
}

/// What a virtual address leads to.
pub(crate) enum Target {
    /// RAM.
    Ram(Spot),
    /// No RAM: guest physical address.
    Device(u64),
}

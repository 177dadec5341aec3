//! One port or memory access of the guest, handed out as one exit per element.
//!
//! KVM reports a whole `rep ins` in one exit, and an access that crosses a page in pieces of any length. The seam's
//! exits have power-of-two sizes, so both are taken apart here.

use supermachine_hv::Exit;

use super::run_page::{MMIO_DATA, MmioRecord, PortRecord, RunPage};

/// Where the access goes.
#[derive(Debug, Clone, Copy)]
enum Target {
    Mmio { gpa: u64 },
    Port { port: u16, size: u8 },
}

/// An access in progress. The data lies in the run page until the vCPU is entered again.
#[derive(Debug)]
pub(super) struct Transfer {
    target: Target,
    write: bool,
    data_offset: usize,
    len: usize,
    done: usize,
    waiting: bool,
}

impl Transfer {
    /// Takes a `KVM_EXIT_IO`; `None` where the record makes no sense.
    pub(super) fn from_port(record: PortRecord, page: &RunPage) -> Option<Self> {
        let size = usize::from(record.size);
        let len = size.checked_mul(usize::try_from(record.count).ok()?)?;
        let data_offset = usize::try_from(record.data_offset).ok()?;
        let valid = matches!(size, 1 | 2 | 4) && len > 0 && page.holds(data_offset, len);
        let target = Target::Port { port: record.port, size: record.size };
        valid.then_some(Self { target, write: record.out, data_offset, len, done: 0, waiting: false })
    }

    /// Takes a `KVM_EXIT_MMIO`; `None` where the record makes no sense.
    pub(super) fn from_mmio(record: MmioRecord) -> Option<Self> {
        let len = usize::try_from(record.len).ok()?;
        let target = Target::Mmio { gpa: record.gpa };
        (1..=8).contains(&len).then_some(Self {
            target,
            write: record.write,
            data_offset: MMIO_DATA,
            len,
            done: 0,
            waiting: false,
        })
    }

    /// Whether a handed out read has no answer yet.
    pub(super) fn waits(&self) -> bool {
        self.waiting
    }

    /// Whether all elements were handed out and answered.
    pub(super) fn finished(&self) -> bool {
        self.done >= self.len
    }

    /// The exit's name, as [`Exit::name`] has it.
    pub(super) fn name(&self) -> &'static str {
        match (self.target, self.write) {
            (Target::Mmio { .. }, false) => "mmio-read",
            (Target::Mmio { .. }, true) => "mmio-write",
            (Target::Port { .. }, false) => "pio-read",
            (Target::Port { .. }, true) => "pio-write",
        }
    }

    /// The next element; `None` when there is no more or the last one waits for its answer.
    pub(super) fn next(&mut self, page: &RunPage) -> Option<Exit> {
        if self.waiting || self.finished() {
            return None;
        }
        let size = self.element_size();
        if !self.write {
            self.waiting = true;
            return Some(self.read_exit(size));
        }
        let mut bytes = [0; 8];
        page.read(self.data_offset.checked_add(self.done)?, bytes.get_mut(..size)?);
        let exit = self.write_exit(size, u64::from_le_bytes(bytes));
        self.done = self.done.saturating_add(size);
        Some(exit)
    }

    /// Stores the answer to the element that waits; false where none does.
    pub(super) fn answer(&mut self, page: &RunPage, value: u64) -> bool {
        if !self.waiting {
            return false;
        }
        let size = self.element_size();
        let bytes = value.to_le_bytes();
        page.write(self.data_offset.saturating_add(self.done), bytes.get(..size).unwrap_or(&bytes));
        self.done = self.done.saturating_add(size);
        self.waiting = false;
        true
    }

    /// Bytes of the element at `done`: the port's width, or the largest power of two that is left.
    fn element_size(&self) -> usize {
        match self.target {
            Target::Port { size, .. } => usize::from(size),
            Target::Mmio { .. } => match self.len.saturating_sub(self.done) {
                0 | 1 => 1,
                2 | 3 => 2,
                4..=7 => 4,
                _ => 8,
            },
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "element sizes are at most 8, offsets below the run page")]
    fn read_exit(&self, size: usize) -> Exit {
        match self.target {
            Target::Mmio { gpa } => Exit::MmioRead { gpa: gpa.wrapping_add(self.done as u64), size: size as u8 },
            Target::Port { port, .. } => Exit::PioRead { port, size: size as u8 },
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "element sizes are at most 8, port values at most 4 bytes")]
    fn write_exit(&self, size: usize, value: u64) -> Exit {
        match self.target {
            Target::Mmio { gpa } => {
                Exit::MmioWrite { gpa: gpa.wrapping_add(self.done as u64), size: size as u8, value }
            }
            Target::Port { port, .. } => Exit::PioWrite { port, size: size as u8, value: value as u32 },
        }
    }
}

//! One direction of a descriptor chain: a bounded list of guest memory pieces.

use std::collections::VecDeque;

use vm_memory::{Bytes, GuestAddress, GuestMemory as _, Permissions, VolatileSlice};

use crate::GuestMemory;

/// A buffer that is not (wholly) in guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("buffer of {len} bytes at {gpa:#x} is not in guest memory")]
pub struct MemoryError {
    /// Guest physical address of the piece.
    pub gpa: u64,
    /// Its length.
    pub len: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    gpa: GuestAddress,
    len: u32,
}

impl Segment {
    /// The address may leave the address space; the access to it then fails.
    fn split_at(self, mid: u32) -> (Self, Self) {
        let front = Self { gpa: self.gpa, len: mid };
        let gpa = GuestAddress(self.gpa.0.saturating_add(u64::from(mid)));
        (front, Self { gpa, len: self.len.saturating_sub(mid) })
    }

    fn error(self) -> MemoryError {
        MemoryError { gpa: self.gpa.0, len: u64::from(self.len) }
    }
}

/// The readable or the writable half of a chain, consumed from the front (or, for a trailing status, the back).
///
/// Addresses are checked when the bytes are touched, so a request whose data lies outside of guest memory can
/// still be answered through a status byte that does not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Buffers {
    segments: VecDeque<Segment>,
    len: u64,
}

impl Buffers {
    pub(super) fn push(&mut self, gpa: GuestAddress, len: u32) {
        if len > 0 {
            self.segments.push_back(Segment { gpa, len });
            self.len = self.len.saturating_add(u64::from(len));
        }
    }

    /// Bytes left.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether no byte is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the first `count` bytes off, or fewer where there are not so many.
    #[must_use]
    pub fn split_front(&mut self, count: u64) -> Self {
        let mut front = Self::default();
        while front.len < count {
            let Some(segment) = self.segments.pop_front() else { break };
            let wanted = u32::try_from(count - front.len).unwrap_or(u32::MAX);
            if segment.len <= wanted {
                front.push(segment.gpa, segment.len);
            } else {
                let (head, tail) = segment.split_at(wanted);
                front.push(head.gpa, head.len);
                self.segments.push_front(tail);
            }
        }
        self.len = self.len.saturating_sub(front.len);
        front
    }

    /// Takes the last byte off.
    #[must_use]
    pub fn split_last_byte(&mut self) -> Option<Self> {
        let mut rest = self.split_front(self.len.checked_sub(1)?);
        std::mem::swap(self, &mut rest);
        Some(rest)
    }

    /// Copies the first bytes into `data` and takes them off. Gives how many there were, at most `data.len()`.
    ///
    /// # Errors
    /// A piece is not in guest memory.
    pub fn read(&mut self, mem: &GuestMemory, data: &mut [u8]) -> Result<usize, MemoryError> {
        let mut done = 0usize;
        for segment in self.split_front(data.len() as u64).segments {
            let end = done.saturating_add(segment.len as usize).min(data.len());
            let piece = data.get_mut(done..end).unwrap_or_default();
            mem.read_slice(piece, segment.gpa).map_err(|_| segment.error())?;
            done = end;
        }
        Ok(done)
    }

    /// Copies `data` into the first bytes and takes them off. Gives how many fitted, at most `data.len()`.
    ///
    /// # Errors
    /// A piece is not in guest memory.
    pub fn write(&mut self, mem: &GuestMemory, data: &[u8]) -> Result<usize, MemoryError> {
        let mut done = 0usize;
        for segment in self.split_front(data.len() as u64).segments {
            let end = done.saturating_add(segment.len as usize).min(data.len());
            let piece = data.get(done..end).unwrap_or_default();
            mem.write_slice(piece, segment.gpa).map_err(|_| segment.error())?;
            done = end;
        }
        Ok(done)
    }

    /// All bytes left, as pieces of this process's mapping of guest memory.
    ///
    /// # Errors
    /// A piece is not in guest memory.
    pub fn slices<'m>(&self, mem: &'m GuestMemory) -> Result<Vec<VolatileSlice<'m>>, MemoryError> {
        let mut all = Vec::with_capacity(self.segments.len());
        for segment in &self.segments {
            let pieces = mem
                .get_slices(segment.gpa, segment.len as usize, Permissions::ReadWrite)
                .map_err(|_| segment.error())?;
            for piece in pieces {
                all.push(piece.map_err(|_| segment.error())?);
            }
        }
        Ok(all)
    }

    /// The pieces as (guest physical address, length), unchecked.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.segments.iter().map(|segment| (segment.gpa.0, u64::from(segment.len)))
    }
}

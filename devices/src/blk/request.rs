//! One block request, from its chain to its status byte.

use std::io;

use super::{BlockBackend, spec};
use crate::GuestMemory;
use crate::virtio::{Buffers, Chain, DeviceError, Served};

/// What the device knows when it carries out a request.
pub(super) struct Context<'a> {
    pub(super) backend: Option<&'a mut Box<dyn BlockBackend>>,
    pub(super) capacity_sectors: u64,
    pub(super) read_only: bool,
    pub(super) discard: bool,
    pub(super) id: &'a [u8; spec::ID_SIZE],
}

/// Why a request failed, as the guest is told.
enum Failure {
    Io,
    Unsupported,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::Unsupported { Self::Unsupported } else { Self::Io }
    }
}

/// Carries out the request in `chain` and writes its status byte, which counts as written; costs a byte for each of data.
pub(super) fn handle(chain: Chain, mem: &GuestMemory, context: Context<'_>) -> Result<Served, DeviceError> {
    let Chain { head: _, mut readable, mut writable } = chain;
    let malformed = |what| DeviceError::Malformed { what };
    let mut status = writable.split_last_byte().ok_or(malformed("no room for a status byte"))?;
    let mut header = [0; spec::HEADER_SIZE];
    if readable.read(mem, &mut header)? != header.len() {
        return Err(malformed("no block request header"));
    }
    let request = Request { kind: le32(&header, 0), sector: le64(&header, 8), readable, writable };
    let cost = spec::REQUEST_COST.saturating_add(request.cost());
    let (byte, data) = match request.execute(mem, context) {
        Ok(data) => (spec::S_OK, data),
        Err(Failure::Io) => (spec::S_IOERR, 0),
        Err(Failure::Unsupported) => (spec::S_UNSUPP, 0),
    };
    status.write(mem, &[byte])?;
    Ok(Served { written: data.saturating_add(1), cost })
}

struct Request {
    kind: u32,
    sector: u64,
    readable: Buffers,
    writable: Buffers,
}

impl Request {
    fn cost(&self) -> u64 {
        match self.kind {
            spec::T_IN => self.writable.len().min(spec::MAX_DATA),
            spec::T_OUT => self.readable.len().min(spec::MAX_DATA),
            spec::T_FLUSH | spec::T_DISCARD | spec::T_WRITE_ZEROES => spec::CALL_BUDGET / 4,
            _ => 0,
        }
    }

    /// Gives the bytes of data written to the guest.
    fn execute(self, mem: &GuestMemory, context: Context<'_>) -> Result<u32, Failure> {
        match self.kind {
            spec::T_IN => self.read(mem, context),
            spec::T_OUT => self.write(mem, context),
            spec::T_FLUSH => context.backend.ok_or(Failure::Io)?.flush().map(|()| 0).map_err(Failure::from),
            spec::T_GET_ID => self.get_id(mem, context.id),
            spec::T_DISCARD | spec::T_WRITE_ZEROES if context.discard => self.ranges(mem, context),
            _ => Err(Failure::Unsupported),
        }
    }

    fn read(self, mem: &GuestMemory, context: Context<'_>) -> Result<u32, Failure> {
        let len = self.writable.len();
        let offset = data_offset(self.sector, len, context.capacity_sectors)?;
        let slices = self.writable.slices(mem).map_err(|_| Failure::Io)?;
        context.backend.ok_or(Failure::Io)?.read_slices_at(offset, &slices)?;
        u32::try_from(len).map_err(|_| Failure::Io)
    }

    fn write(self, mem: &GuestMemory, context: Context<'_>) -> Result<u32, Failure> {
        if context.read_only {
            return Err(Failure::Io);
        }
        let offset = data_offset(self.sector, self.readable.len(), context.capacity_sectors)?;
        let slices = self.readable.slices(mem).map_err(|_| Failure::Io)?;
        context.backend.ok_or(Failure::Io)?.write_slices_at(offset, &slices)?;
        Ok(0)
    }

    fn get_id(mut self, mem: &GuestMemory, id: &[u8; spec::ID_SIZE]) -> Result<u32, Failure> {
        let written = self.writable.write(mem, id).map_err(|_| Failure::Io)?;
        if written == id.len() { Ok(spec::ID_SIZE as u32) } else { Err(Failure::Io) }
    }

    /// DISCARD and WRITE_ZEROES (virtio 1.2 §5.2.6.2): all ranges are checked before any is touched.
    fn ranges(mut self, mem: &GuestMemory, context: Context<'_>) -> Result<u32, Failure> {
        let len = self.readable.len();
        let limit = spec::RANGE_SIZE as u64 * u64::from(spec::MAX_RANGES);
        if context.read_only || len == 0 || len > limit || !len.is_multiple_of(spec::RANGE_SIZE as u64) {
            return Err(Failure::Io);
        }
        let mut raw = vec![0; len as usize];
        self.readable.read(mem, &mut raw).map_err(|_| Failure::Io)?;
        let mut ranges = Vec::with_capacity(spec::MAX_RANGES as usize);
        for range in raw.chunks_exact(spec::RANGE_SIZE) {
            let (sector, sectors, flags) = (le64(range, 0), le32(range, 8), le32(range, 12));
            // Bit 0 is "unmap", which only WRITE_ZEROES may carry; it is a hint.
            let allowed = u32::from(self.kind == spec::T_WRITE_ZEROES);
            if flags & !allowed != 0 {
                return Err(Failure::Unsupported);
            }
            if sectors > spec::MAX_RANGE_SECTORS {
                return Err(Failure::Io);
            }
            let bytes = u64::from(sectors) * spec::SECTOR_SIZE;
            ranges.push((range_offset(sector, bytes, context.capacity_sectors)?, bytes));
        }
        let backend = context.backend.ok_or(Failure::Io)?;
        for (offset, bytes) in ranges {
            match self.kind {
                spec::T_DISCARD => backend.discard(offset, bytes)?,
                _ => backend.write_zeroes(offset, bytes)?,
            }
        }
        Ok(0)
    }
}

/// Byte offset of a data request that lies wholly inside the device, in whole sectors, and is not too long.
fn data_offset(sector: u64, len: u64, capacity_sectors: u64) -> Result<u64, Failure> {
    if len > spec::MAX_DATA || !len.is_multiple_of(spec::SECTOR_SIZE) {
        return Err(Failure::Io);
    }
    range_offset(sector, len, capacity_sectors)
}

fn range_offset(sector: u64, len: u64, capacity_sectors: u64) -> Result<u64, Failure> {
    let end = sector.checked_add(len / spec::SECTOR_SIZE).ok_or(Failure::Io)?;
    if end > capacity_sectors {
        return Err(Failure::Io);
    }
    sector.checked_mul(spec::SECTOR_SIZE).ok_or(Failure::Io)
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

//! The frozen bus: which device answers at which address. Built once, then shared by all vCPU threads without a lock.

use std::ops::Range;
use std::sync::Arc;

/// What an access asks of the machine, beyond its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Request {
    /// Go on.
    #[default]
    None,
    /// The guest asks for a reset of the machine.
    Reset,
}

/// A device as the bus sees it. Devices synchronise themselves.
pub trait BusDevice: Send + Sync {
    /// Fills `data` from the register at `offset` in the device's range.
    fn read(&self, offset: u64, data: &mut [u8]);
    /// Takes a write at `offset` in the device's range.
    fn write(&self, offset: u64, data: &[u8]) -> Request;
}

/// Two devices claim one address.
#[derive(Debug, thiserror::Error)]
#[error("device ranges {first:#x?} and {second:#x?} overlap")]
pub struct BusError {
    /// One.
    pub first: Range<u64>,
    /// The other.
    pub second: Range<u64>,
}

/// A device and the addresses it answers.
pub type Mapped = (Range<u64>, Arc<dyn BusDevice>);

/// One address space, memory mapped or ports.
pub struct Bus {
    /// Sorted by start, not overlapping.
    devices: Box<[Mapped]>,
}

impl Bus {
    /// Freezes a set of devices.
    ///
    /// # Errors
    /// Overlapping ranges.
    pub fn new(mut devices: Vec<Mapped>) -> Result<Self, BusError> {
        devices.sort_by_key(|(range, _)| range.start);
        for pair in devices.windows(2) {
            if let [(first, _), (second, _)] = pair
                && second.start < first.end
            {
                return Err(BusError { first: first.clone(), second: second.clone() });
            }
        }
        Ok(Self { devices: devices.into() })
    }

    /// Reads `size` bytes (at most 8) at `address`, little-endian. Where no device answers all bits are one.
    pub fn read(&self, address: u64, size: u8) -> u64 {
        let mut bytes = [0u8; 8];
        let data = bytes.get_mut(..usize::from(size)).unwrap_or_default();
        match self.find(address, size) {
            Some((offset, device)) => device.read(offset, data),
            None => data.fill(0xff),
        }
        u64::from_le_bytes(bytes)
    }

    /// Writes the low `size` bytes (at most 8) of `value` at `address`. Where no device answers nothing happens.
    pub fn write(&self, address: u64, size: u8, value: u64) -> Request {
        let bytes = value.to_le_bytes();
        let data = bytes.get(..usize::from(size)).unwrap_or_default();
        self.find(address, size).map_or(Request::None, |(offset, device)| device.write(offset, data))
    }

    fn find(&self, address: u64, size: u8) -> Option<(u64, &dyn BusDevice)> {
        let index = self.devices.partition_point(|(range, _)| range.start <= address).checked_sub(1)?;
        let (range, device) = self.devices.get(index)?;
        let end = address.checked_add(u64::from(size))?;
        (end <= range.end).then(|| (address - range.start, device.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;

    impl BusDevice for Echo {
        fn read(&self, offset: u64, data: &mut [u8]) {
            data.fill(offset as u8);
        }
        fn write(&self, offset: u64, _: &[u8]) -> Request {
            if offset == 4 { Request::Reset } else { Request::None }
        }
    }

    #[test]
    fn accesses_reach_the_device_that_holds_them_whole() {
        let bus = Bus::new(vec![(0x20..0x30, Arc::new(Echo)), (0x10..0x18, Arc::new(Echo))]).expect("no overlap");
        assert_eq!(bus.read(0x17, 1), 7);
        assert_eq!(bus.read(0x17, 2), 0xffff);
        assert_eq!(bus.read(0x18, 1), 0xff);
        assert_eq!(bus.read(0x2c, 4), 0x0c0c_0c0c);
        assert_eq!(bus.read(u64::MAX, 8), u64::MAX);
        assert_eq!(bus.write(0x24, 4, 1), Request::Reset);
        assert_eq!(bus.write(0x0, 8, 1), Request::None);
    }

    #[test]
    fn overlap_is_refused() {
        assert!(Bus::new(vec![(0..9, Arc::new(Echo)), (8..16, Arc::new(Echo))]).is_err());
    }
}

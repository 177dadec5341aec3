//! The device the guest talks to, and random numbers.

use supermachine_hv::Exit;

/// Random numbers with a seed (SplitMix64).
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// Answers every read with the next random number and sums up every write: an access lost, doubled or out of order
/// shows in the end.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Device {
    reads: Random,
    writes: u64,
    pub(super) accesses: u32,
}

impl Device {
    /// Does an access; gives what a read reads.
    pub(super) fn serve(&mut self, exit: &Exit) -> Option<u64> {
        self.accesses += 1;
        let (place, value) = match *exit {
            Exit::MmioRead { .. } | Exit::PioRead { .. } => return Some(self.reads.next()),
            Exit::MmioWrite { gpa, size, value } => (gpa << 8 | u64::from(size), value),
            Exit::PioWrite { port, size, value } => (u64::from(port) << 8 | u64::from(size), value.into()),
            ref other => panic!("the guest has no reason for {other:?}"),
        };
        self.writes = Random(self.writes ^ place ^ value.rotate_left(32)).next();
        None
    }
}

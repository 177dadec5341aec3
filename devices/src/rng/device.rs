//! The entropy device. It has no state to save.

use std::io;

use crate::GuestMemory;
use crate::virtio::spec::device_type;
use crate::virtio::{DeviceError, Progress, Queue, Served, VirtioDevice, serve};

const QUEUE_SIZES: &[u16] = &[64];
/// Most bytes for one request; a driver asks again for more (virtio 1.2 §5.4.6.1 lets a device give fewer).
const MAX_REQUEST: usize = 4096;
/// Requests answered in one call.
const CALL_BUDGET: u64 = 64;

/// Where random bytes come from.
pub trait EntropySource: Send {
    /// Fills `buf` with bytes fit for keys.
    ///
    /// # Errors
    /// The source is broken; the device stops rather than give the guest something else.
    fn fill(&mut self, buf: &mut [u8]) -> io::Result<()>;
}

/// A virtio entropy device.
pub struct Rng {
    source: Box<dyn EntropySource>,
}

impl std::fmt::Debug for Rng {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rng").finish_non_exhaustive()
    }
}

impl Rng {
    /// A device that hands out bytes of `source`.
    #[must_use]
    pub fn new(source: Box<dyn EntropySource>) -> Self {
        Self { source }
    }
}

impl VirtioDevice for Rng {
    fn device_type(&self) -> u32 {
        device_type::ENTROPY
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_max_sizes(&self) -> &'static [u16] {
        QUEUE_SIZES
    }

    fn read_config(&self, _offset: u64, _data: &mut [u8]) {}

    fn activate(&mut self, _features: u64) {}

    fn process_queue(
        &mut self,
        index: usize,
        mem: &GuestMemory,
        queues: &mut [Queue],
    ) -> Result<Progress, DeviceError> {
        serve(queues, index, mem, CALL_BUDGET, |mut chain| {
            let mut bytes = [0; MAX_REQUEST];
            let count = usize::try_from(chain.writable.len()).unwrap_or(MAX_REQUEST).min(MAX_REQUEST);
            let bytes = bytes.get_mut(..count).unwrap_or_default();
            self.source.fill(bytes).map_err(|_| DeviceError::Host { what: "entropy source" })?;
            let written = chain.writable.write(mem, bytes)?;
            Ok(Served { written: written as u32, cost: 1 })
        })
    }

    fn reset(&mut self) {
        let Self { source: _ } = self;
    }
}

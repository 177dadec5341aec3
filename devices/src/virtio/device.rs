//! The trait that a virtio device implements under a transport.

use super::{Chain, MemoryError, Queue, QueueError};
use crate::GuestMemory;

/// How far a device came within the bounded work of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Everything that could be done was done.
    Done,
    /// The budget of one call ran out; there is more.
    More,
}

impl Progress {
    /// `More` if either has more.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        if self == Self::More { self } else { other }
    }
}

/// Why a device stopped. The transport answers with `DEVICE_NEEDS_RESET`; the process goes on.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The ring itself is broken.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// A buffer that the device cannot do without is not in guest memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The host's end failed and the device will not make something up.
    #[error("host end failed: {what}")]
    Host {
        /// Which end.
        what: &'static str,
    },
    /// The driver broke a rule of the device type that no status byte can report.
    #[error("malformed request: {what}")]
    Malformed {
        /// The rule in a few words.
        what: &'static str,
    },
}

/// A device type: features, configuration space and the work on its queues.
///
/// Order of life: any number of configuration reads; [`activate`](Self::activate) when the driver is ready;
/// `process_queue` and `service` in any order; [`reset`](Self::reset) back to the start. The transport calls
/// `process_queue` and `service` only between `activate` and `reset`, and never after one of them failed.
pub trait VirtioDevice: Send {
    /// Device type number (virtio 1.2 §5).
    fn device_type(&self) -> u32;

    /// Features of this device type; the transport adds its own. Constant for the life of the device.
    fn features(&self) -> u64;

    /// Largest size of each queue, powers of two; the slice's length is the number of queues. Constant.
    fn queue_max_sizes(&self) -> &'static [u16];

    /// Fills `data` from the configuration space at `offset`; bytes outside of it read as zero.
    fn read_config(&self, offset: u64, data: &mut [u8]);

    /// Takes a write to the configuration space; what is not writable is ignored.
    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    /// The driver is ready and negotiated `features`.
    fn activate(&mut self, features: u64);

    /// Works on queue `index` after the driver notified it. Bounded: gives [`Progress::More`] instead of going on for long.
    ///
    /// # Errors
    /// Only for what a request's own status cannot report.
    fn process_queue(&mut self, index: usize, mem: &GuestMemory, queues: &mut [Queue])
    -> Result<Progress, DeviceError>;

    /// Works on whatever waits: after a host event, after [`Progress::More`], after a restore.
    ///
    /// # Errors
    /// As for [`process_queue`](Self::process_queue).
    fn service(&mut self, mem: &GuestMemory, queues: &mut [Queue]) -> Result<Progress, DeviceError> {
        let mut progress = Progress::Done;
        for index in 0..queues.len() {
            progress = progress.and(self.process_queue(index, mem, queues)?);
        }
        Ok(progress)
    }

    /// Whether the configuration space changed on the device's side since the last call.
    fn take_config_change(&mut self) -> bool {
        false
    }

    /// Back to the state before `activate`. Host ends (files, a reclaimer) stay.
    fn reset(&mut self);
}

/// What became of one chain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Served {
    /// Bytes written to it.
    pub(crate) written: u32,
    /// What it took of the budget of a call.
    pub(crate) cost: u64,
}

/// Gives the chains of queue `index` to `handle`, one after the other, until none is left or they have cost `budget`.
pub(crate) fn serve(
    queues: &mut [Queue],
    index: usize,
    mem: &GuestMemory,
    mut budget: u64,
    mut handle: impl FnMut(Chain) -> Result<Served, DeviceError>,
) -> Result<Progress, DeviceError> {
    let Some(queue) = queues.get_mut(index) else { return Ok(Progress::Done) };
    while budget > 0 {
        let Some(chain) = queue.pop(mem)? else { return Ok(Progress::Done) };
        let head = chain.head;
        let Served { written, cost } = handle(chain)?;
        queue.push_used(mem, head, written)?;
        budget = budget.saturating_sub(cost);
    }
    Ok(Progress::More)
}

/// Copies what a read at `offset` covers of a configuration space; the rest of `data` is left alone.
pub(crate) fn read_config_bytes(config: &[u8], offset: u64, data: &mut [u8]) {
    let Ok(offset) = usize::try_from(offset) else { return };
    for (to, from) in data.iter_mut().zip(config.iter().skip(offset)) {
        *to = *from;
    }
}

//! A split virtqueue that reports a malformed ring instead of skipping over it.

use serde::{Deserialize, Serialize};
use virtio_queue::{Queue as Ring, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemory as _, Permissions};

use super::Buffers;
use super::spec::ring;
use crate::GuestMemory;

/// Most descriptors in one chain, indirect ones included (a driver may not pass the queue size, virtio 1.2 §2.7.5.3.1;
/// real drivers do for indirect tables, so this is a bound on work rather than that rule).
const MAX_CHAIN: usize = 1024;

/// How often [`Queue::pop`] looks again when a driver adds buffers just as it gives up.
const POP_ATTEMPTS: u32 = 4;

/// What is wrong with a ring.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The size is not a power of two up to the maximum.
    #[error("queue size {size} is not a power of two up to {max_size}")]
    Size {
        /// The driver's size.
        size: u16,
        /// The device's maximum.
        max_size: u16,
    },
    /// One of the three areas is misaligned or not in guest memory.
    #[error("{area} at {gpa:#x} is misaligned or not in guest memory")]
    Area {
        /// Which of the three.
        area: &'static str,
        /// Its guest physical address.
        gpa: u64,
    },
    /// A chain has no descriptor, loops, is too long, leaves its table, or mixes directions.
    #[error("descriptor chain {head} is malformed")]
    Chain {
        /// Its head.
        head: u16,
    },
    /// The ring's indices make no sense, or memory went away.
    #[error("ring access failed")]
    Ring(#[source] virtio_queue::Error),
}

/// Saved state of a queue; untrusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueState {
    /// Size the driver chose.
    pub size: u16,
    /// Whether the driver enabled the queue.
    pub ready: bool,
    /// Guest physical address of the descriptor table.
    pub desc_table: u64,
    /// Guest physical address of the available ring.
    pub avail_ring: u64,
    /// Guest physical address of the used ring.
    pub used_ring: u64,
    /// Next entry of the available ring to take.
    pub next_avail: u16,
    /// Next entry of the used ring to fill.
    pub next_used: u16,
}

/// One descriptor chain taken from a queue, its readable part before its writable part.
#[derive(Debug)]
pub struct Chain {
    /// Index to give back with [`Queue::push_used`].
    pub head: u16,
    /// What the driver wrote for the device.
    pub readable: Buffers,
    /// Where the device may write.
    pub writable: Buffers,
}

/// A queue of a device, with the addresses the driver is setting up or has set up.
#[derive(Debug)]
pub struct Queue {
    max_size: u16,
    size: u16,
    desc_table: u64,
    avail_ring: u64,
    used_ring: u64,
    /// Present while the queue is enabled.
    ring: Option<Ring>,
    used_since_interrupt: bool,
}

impl Queue {
    pub(super) fn new(max_size: u16) -> Self {
        Self {
            max_size,
            size: max_size,
            desc_table: 0,
            avail_ring: 0,
            used_ring: 0,
            ring: None,
            used_since_interrupt: false,
        }
    }

    /// Whether the driver enabled the queue.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ring.is_some()
    }

    /// Takes the next chain. `None` when the driver made none available; it will then notify for the next one.
    ///
    /// # Errors
    /// The ring or the chain is malformed.
    pub fn pop(&mut self, mem: &GuestMemory) -> Result<Option<Chain>, QueueError> {
        let Some(ring) = self.ring.as_mut() else { return Ok(None) };
        for _ in 0..POP_ATTEMPTS {
            let next = ring.iter(mem).map_err(QueueError::Ring)?.next();
            if let Some(chain) = next {
                return collect(chain).map(Some);
            }
            if !ring.enable_notification(mem).map_err(QueueError::Ring)? {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// Gives the chain that the last [`pop`](Self::pop) took back to the ring, to be taken again.
    pub fn undo_pop(&mut self) {
        if let Some(ring) = self.ring.as_mut() {
            ring.go_to_previous_position();
        }
    }

    /// Returns a chain to the driver with `len` bytes written to it.
    ///
    /// # Errors
    /// The head is not of this queue, or the ring went away.
    pub fn push_used(&mut self, mem: &GuestMemory, head: u16, len: u32) -> Result<(), QueueError> {
        if let Some(ring) = self.ring.as_mut() {
            ring.add_used(mem, head, len).map_err(QueueError::Ring)?;
            self.used_since_interrupt = true;
        }
        Ok(())
    }

    /// How far the driver has filled the available ring, for noticing that it added something.
    ///
    /// # Errors
    /// The ring went away.
    pub fn avail_idx(&self, mem: &GuestMemory) -> Result<u16, QueueError> {
        let Some(ring) = self.ring.as_ref() else { return Ok(0) };
        let idx = ring.avail_idx(mem, std::sync::atomic::Ordering::Acquire);
        idx.map(|idx| idx.0).map_err(QueueError::Ring)
    }

    /// Asks the driver to notify when it fills available ring entry `idx` (`avail_event`, virtio 1.2 §2.7.10),
    /// rather than when it fills the first entry after the ring ran empty.
    ///
    /// # Errors
    /// The ring went away.
    pub fn notify_at(&mut self, mem: &GuestMemory, idx: u16) -> Result<(), QueueError> {
        let Some(ring) = self.ring.as_ref() else { return Ok(()) };
        if !ring.event_idx_enabled() {
            return Ok(());
        }
        let offset = ring::RING_OFFSET + ring::USED_ELEMENT * u64::from(self.size);
        let gpa = self.used_ring.saturating_add(offset);
        let stored = mem.store(idx.to_le(), GuestAddress(gpa), std::sync::atomic::Ordering::Release);
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        stored.map_err(|_| QueueError::Area { area: "used ring", gpa })
    }

    /// Whether the driver wants an interrupt for what was returned since the last call.
    pub(super) fn take_interrupt(&mut self, mem: &GuestMemory) -> Result<bool, QueueError> {
        if !std::mem::take(&mut self.used_since_interrupt) {
            return Ok(false);
        }
        let Some(ring) = self.ring.as_mut() else { return Ok(false) };
        ring.needs_notification(mem).map_err(QueueError::Ring)
    }

    pub(super) fn max_size(&self) -> u16 {
        self.max_size
    }

    pub(super) fn set_size(&mut self, size: u16) {
        self.size = size;
    }

    pub(super) fn desc_table_mut(&mut self) -> &mut u64 {
        &mut self.desc_table
    }

    pub(super) fn avail_ring_mut(&mut self) -> &mut u64 {
        &mut self.avail_ring
    }

    pub(super) fn used_ring_mut(&mut self) -> &mut u64 {
        &mut self.used_ring
    }

    pub(super) fn disable(&mut self) {
        self.ring = None;
        self.used_since_interrupt = false;
    }

    pub(super) fn reset(&mut self) {
        *self = Self::new(self.max_size);
    }

    /// Starts the queue with the addresses set before.
    pub(super) fn enable(&mut self, mem: &GuestMemory, event_idx: bool) -> Result<(), QueueError> {
        let Self { max_size, size, desc_table, avail_ring, used_ring, .. } = *self;
        if size > max_size || !size.is_power_of_two() {
            return Err(QueueError::Size { size, max_size });
        }
        let count = u64::from(size);
        check_area(mem, "descriptor table", desc_table, ring::DESCRIPTOR_SIZE * count, ring::DESCRIPTOR_ALIGN)?;
        check_area(
            mem,
            "available ring",
            avail_ring,
            ring::AVAIL_META + ring::AVAIL_ELEMENT * count,
            ring::AVAIL_ALIGN,
        )?;
        check_area(mem, "used ring", used_ring, ring::USED_META + ring::USED_ELEMENT * count, ring::USED_ALIGN)?;
        let state = virtio_queue::QueueState {
            max_size,
            next_avail: 0,
            next_used: 0,
            event_idx_enabled: event_idx,
            size,
            ready: true,
            desc_table,
            avail_ring,
            used_ring,
        };
        self.ring = Some(Ring::try_from(state).map_err(QueueError::Ring)?);
        Ok(())
    }

    pub(super) fn save(&self) -> QueueState {
        let Self { max_size: _, size, desc_table, avail_ring, used_ring, ring, used_since_interrupt: _ } = self;
        QueueState {
            size: *size,
            ready: ring.is_some(),
            desc_table: *desc_table,
            avail_ring: *avail_ring,
            used_ring: *used_ring,
            next_avail: ring.as_ref().map_or(0, QueueT::next_avail),
            next_used: ring.as_ref().map_or(0, QueueT::next_used),
        }
    }

    pub(super) fn restore(
        state: QueueState,
        max_size: u16,
        event_idx: bool,
        mem: &GuestMemory,
    ) -> Result<Self, QueueError> {
        let QueueState { size, ready, desc_table, avail_ring, used_ring, next_avail, next_used } = state;
        let mut queue = Self { size, desc_table, avail_ring, used_ring, ..Self::new(max_size) };
        if ready {
            queue.enable(mem, event_idx)?;
        }
        if let Some(ring) = queue.ring.as_mut() {
            ring.set_next_avail(next_avail);
            ring.set_next_used(next_used);
        }
        Ok(queue)
    }
}

fn check_area(mem: &GuestMemory, area: &'static str, gpa: u64, len: u64, align: u64) -> Result<(), QueueError> {
    // Address zero would read as "not set up" further down.
    let usable = gpa != 0
        && gpa.is_multiple_of(align)
        && gpa.checked_add(len).is_some()
        && usize::try_from(len).is_ok_and(|len| mem.check_range(GuestAddress(gpa), len, Permissions::ReadWrite));
    if usable { Ok(()) } else { Err(QueueError::Area { area, gpa }) }
}

/// Walks a chain to its end. The walk is bounded and a chain that stops early still points onwards.
fn collect(chain: virtio_queue::DescriptorChain<&GuestMemory>) -> Result<Chain, QueueError> {
    let head = chain.head_index();
    let malformed = || QueueError::Chain { head };
    let mut out = Chain { head, readable: Buffers::default(), writable: Buffers::default() };
    let (mut complete, mut writing) = (false, false);
    for (count, descriptor) in chain.enumerate() {
        if count >= MAX_CHAIN || (writing && !descriptor.is_write_only()) {
            return Err(malformed());
        }
        writing = descriptor.is_write_only();
        let half = if writing { &mut out.writable } else { &mut out.readable };
        half.push(descriptor.addr(), descriptor.len());
        complete = !descriptor.has_next();
    }
    if complete { Ok(out) } else { Err(malformed()) }
}

//! The balloon: page numbers and free ranges in, ranges to discard out.

use vm_memory::{GuestAddress, GuestMemory as _, Permissions};

use super::{BalloonState, spec};
use crate::GuestMemory;
use crate::virtio::spec::device_type;
use crate::virtio::{Buffers, DeviceError, Progress, Queue, Served, VirtioDevice, read_config_bytes, serve};

/// Gives guest memory back to the host.
pub trait MemoryReclaimer: Send {
    /// The guest does not need the contents of a range, which lies inside guest memory and is aligned to 4 KiB. It
    /// may touch it again at any time and expects no particular contents (a host with larger pages leaves the rest
    /// of a partly covered page alone).
    fn discard(&mut self, gpa: u64, len: u64);
}

/// A virtio memory balloon with free page reporting. The guest may deflate it when it is short of memory.
pub struct Balloon {
    reclaimer: Box<dyn MemoryReclaimer>,
    target_pages: u32,
    actual_pages: u32,
    config_changed: bool,
}

impl std::fmt::Debug for Balloon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Balloon")
            .field("target_pages", &self.target_pages)
            .field("actual_pages", &self.actual_pages)
            .finish_non_exhaustive()
    }
}

impl Balloon {
    /// An empty balloon.
    #[must_use]
    pub fn new(reclaimer: Box<dyn MemoryReclaimer>) -> Self {
        Self { reclaimer, target_pages: 0, actual_pages: 0, config_changed: false }
    }

    /// A balloon as it was saved.
    #[must_use]
    pub fn restore(state: BalloonState, reclaimer: Box<dyn MemoryReclaimer>) -> Self {
        let BalloonState { target_pages, actual_pages } = state;
        Self { target_pages, actual_pages, ..Self::new(reclaimer) }
    }

    /// State to save.
    #[must_use]
    pub fn save(&self) -> BalloonState {
        let Self { reclaimer: _, target_pages, actual_pages, config_changed: _ } = self;
        BalloonState { target_pages: *target_pages, actual_pages: *actual_pages }
    }

    /// Asks the guest for so many pages of 4 KiB in all. Service the transport afterwards.
    pub fn set_target_pages(&mut self, pages: u32) {
        self.config_changed |= pages != self.target_pages;
        self.target_pages = pages;
    }

    /// Pages of 4 KiB that the guest says it gave; it may say anything.
    #[must_use]
    pub fn actual_pages(&self) -> u32 {
        self.actual_pages
    }

    fn inflate(&mut self, mem: &GuestMemory, pages: &mut Buffers) -> Result<(), DeviceError> {
        let mut raw = [0; spec::MAX_PFNS * spec::PFN_SIZE];
        let count = pages.read(mem, &mut raw)?;
        let bytes = raw.get(..count).unwrap_or_default();
        let words = bytes.chunks_exact(spec::PFN_SIZE).filter_map(|word| word.try_into().ok());
        let mut numbers: Vec<u32> = words.map(u32::from_le_bytes).collect();
        numbers.sort_unstable();
        numbers.dedup();
        for run in numbers.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
            let first = run.first().copied().map_or(0, u64::from);
            self.discard(mem, first << spec::PAGE_SHIFT, (run.len() as u64) << spec::PAGE_SHIFT);
        }
        Ok(())
    }

    /// Only whole pages inside guest memory are given back; a range that is partly outside is left alone.
    fn discard(&mut self, mem: &GuestMemory, gpa: u64, len: u64) {
        let Some(end) = gpa.checked_add(len) else { return };
        let Some(start) = gpa.checked_next_multiple_of(spec::PAGE_SIZE) else { return };
        let len = (end & !(spec::PAGE_SIZE - 1)).saturating_sub(start);
        let inside =
            usize::try_from(len).is_ok_and(|len| mem.check_range(GuestAddress(start), len, Permissions::ReadWrite));
        if len > 0 && inside {
            self.reclaimer.discard(start, len);
        }
    }
}

impl VirtioDevice for Balloon {
    fn device_type(&self) -> u32 {
        device_type::BALLOON
    }

    fn features(&self) -> u64 {
        spec::F_DEFLATE_ON_OOM | spec::F_REPORTING
    }

    fn queue_max_sizes(&self) -> &'static [u16] {
        spec::QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let mut config = [0; spec::CONFIG_SIZE];
        let fields = self.target_pages.to_le_bytes().into_iter().chain(self.actual_pages.to_le_bytes());
        config.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
        read_config_bytes(&config, offset, data);
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        if let (spec::CONFIG_ACTUAL, Ok(bytes)) = (offset, data.try_into()) {
            self.actual_pages = u32::from_le_bytes(bytes);
        }
    }

    fn activate(&mut self, _features: u64) {}

    fn process_queue(
        &mut self,
        index: usize,
        mem: &GuestMemory,
        queues: &mut [Queue],
    ) -> Result<Progress, DeviceError> {
        serve(queues, index, mem, spec::CALL_BUDGET, |mut chain| {
            match index {
                spec::INFLATE => self.inflate(mem, &mut chain.readable)?,
                spec::REPORTING => {
                    chain.writable.ranges().for_each(|(gpa, len)| self.discard(mem, gpa, len));
                }
                // Deflated pages come back when the guest touches them.
                _ => {}
            }
            Ok(Served { written: 0, cost: 1 })
        })
    }

    fn take_config_change(&mut self) -> bool {
        std::mem::take(&mut self.config_changed)
    }

    fn reset(&mut self) {
        let Self { reclaimer: _, target_pages: _, actual_pages, config_changed: _ } = self;
        *actual_pages = 0;
    }
}

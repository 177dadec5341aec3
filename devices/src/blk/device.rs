//! The block device: configuration space, backend and queue.

use super::request::{self, Context};
use super::{BlkState, BlockBackend, spec};
use crate::virtio::spec::device_type;
use crate::virtio::{DeviceError, Progress, Queue, VirtioDevice, read_config_bytes, serve};
use crate::{GuestMemory, RestoreError};

/// What is fixed about a block device before the guest sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlkConfig {
    /// Announces a read-only device; every write fails.
    pub read_only: bool,
    /// Announces DISCARD and WRITE_ZEROES.
    pub discard: bool,
    /// Answer to GET_ID, cut at 20 bytes (the guest's `/sys/block/*/serial`).
    pub id: String,
}

/// A virtio block device. Without a backend its capacity is zero and every access fails.
pub struct Blk {
    read_only: bool,
    discard: bool,
    id: [u8; spec::ID_SIZE],
    backend: Option<Box<dyn BlockBackend>>,
    capacity_sectors: u64,
    config_changed: bool,
}

impl std::fmt::Debug for Blk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blk")
            .field("read_only", &self.read_only)
            .field("capacity_sectors", &self.capacity_sectors)
            .finish_non_exhaustive()
    }
}

impl Blk {
    /// A device of the given shape, with capacity zero.
    #[must_use]
    pub fn new(config: BlkConfig) -> Self {
        let BlkConfig { read_only, discard, id: text } = config;
        let mut id = [0; spec::ID_SIZE];
        for (to, from) in id.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        Self { read_only, discard, id, backend: None, capacity_sectors: 0, config_changed: false }
    }

    /// A device with the capacity the guest was told, and no backend yet: supply it before the guest runs.
    ///
    /// # Errors
    /// The saved shape is not the one in `config`.
    pub fn restore(config: BlkConfig, state: BlkState) -> Result<Self, RestoreError> {
        let BlkState { read_only, discard, capacity_sectors } = state;
        let field = |field, value| Err(RestoreError::Field { field, value });
        if read_only != config.read_only {
            return field("read_only", u64::from(read_only));
        }
        if discard != config.discard {
            return field("discard", u64::from(discard));
        }
        if capacity_sectors > u64::MAX / spec::SECTOR_SIZE {
            return field("capacity_sectors", capacity_sectors);
        }
        Ok(Self { capacity_sectors, ..Self::new(config) })
    }

    /// State to save. The backend is the owner's to remember.
    #[must_use]
    pub fn save(&self) -> BlkState {
        let Self { read_only, discard, id: _, backend: _, capacity_sectors, config_changed: _ } = self;
        BlkState { read_only: *read_only, discard: *discard, capacity_sectors: *capacity_sectors }
    }

    /// Gives the device its storage, or other storage than before; the capacity follows. Service the transport
    /// afterwards: where the capacity changed, the guest gets a configuration interrupt. On a read-only backend every write
    /// fails, even if the guest was told that it can write.
    pub fn set_backend(&mut self, backend: Box<dyn BlockBackend>) {
        let capacity_sectors = backend.len_bytes() / spec::SECTOR_SIZE;
        self.config_changed |= capacity_sectors != self.capacity_sectors;
        self.capacity_sectors = capacity_sectors;
        self.backend = Some(backend);
    }

    /// Capacity the guest sees, in sectors of 512 bytes.
    #[must_use]
    pub fn capacity_sectors(&self) -> u64 {
        self.capacity_sectors
    }

    /// The storage, for instance to flush it before a save.
    pub fn backend_mut(&mut self) -> Option<&mut (dyn BlockBackend + 'static)> {
        self.backend.as_deref_mut()
    }

    fn config(&self) -> [u8; spec::CONFIG_SIZE] {
        let mut config = [0; spec::CONFIG_SIZE];
        let mut put = |at: usize, bytes: &[u8]| {
            config.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
        };
        put(spec::CONFIG_CAPACITY, &self.capacity_sectors.to_le_bytes());
        put(spec::CONFIG_SIZE_MAX, &spec::SIZE_MAX.to_le_bytes());
        put(spec::CONFIG_SEG_MAX, &spec::SEG_MAX.to_le_bytes());
        put(spec::CONFIG_BLK_SIZE, &(spec::SECTOR_SIZE as u32).to_le_bytes());
        if self.discard {
            put(spec::CONFIG_MAX_DISCARD_SECTORS, &spec::MAX_RANGE_SECTORS.to_le_bytes());
            put(spec::CONFIG_MAX_DISCARD_SEG, &spec::MAX_RANGES.to_le_bytes());
            put(spec::CONFIG_DISCARD_SECTOR_ALIGNMENT, &1u32.to_le_bytes());
            put(spec::CONFIG_MAX_WRITE_ZEROES_SECTORS, &spec::MAX_RANGE_SECTORS.to_le_bytes());
            put(spec::CONFIG_MAX_WRITE_ZEROES_SEG, &spec::MAX_RANGES.to_le_bytes());
        }
        config
    }
}

impl VirtioDevice for Blk {
    fn device_type(&self) -> u32 {
        device_type::BLOCK
    }

    fn features(&self) -> u64 {
        let mut features = spec::F_SIZE_MAX | spec::F_SEG_MAX | spec::F_BLK_SIZE | spec::F_FLUSH;
        if self.read_only {
            features |= spec::F_RO;
        }
        if self.discard {
            features |= spec::F_DISCARD | spec::F_WRITE_ZEROES;
        }
        features
    }

    fn queue_max_sizes(&self) -> &'static [u16] {
        spec::QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_config_bytes(&self.config(), offset, data);
    }

    fn activate(&mut self, _features: u64) {}

    fn process_queue(
        &mut self,
        index: usize,
        mem: &GuestMemory,
        queues: &mut [Queue],
    ) -> Result<Progress, DeviceError> {
        let read_only = self.read_only || self.backend.as_ref().is_some_and(|backend| backend.read_only());
        serve(queues, index, mem, spec::CALL_BUDGET, |chain| {
            let context = Context {
                backend: self.backend.as_mut(),
                capacity_sectors: self.capacity_sectors,
                read_only,
                discard: self.discard,
                id: &self.id,
            };
            request::handle(chain, mem, context)
        })
    }

    fn take_config_change(&mut self) -> bool {
        std::mem::take(&mut self.config_changed)
    }

    fn reset(&mut self) {
        let Self { read_only: _, discard: _, id: _, backend: _, capacity_sectors: _, config_changed: _ } = self;
    }
}

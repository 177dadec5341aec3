//! The machine's block devices: what is behind each, and how it gets there.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use supermachine_agent_protocol::container::Extent;
use supermachine_devices::blk::{Blk, BlkConfig, BlkState, BlockBackend};
use supermachine_devices::virtio::Transport;

use super::{Builder, Machine, MachineError};
use crate::attach::Attached;
use crate::backend::disk::{DiskCounters, DiskError, FileDisk};
use crate::backend::layers::LayerDisk;
use crate::freeze::Saved;
use crate::settings::Disk;

/// Bytes that the capacity of a block device is counted in.
const SECTOR: u64 = 512;

/// One block device and its counters.
pub(super) struct DiskSlot {
    pub(super) device: Arc<Attached<Blk>>,
    counters: Arc<DiskCounters>,
    state: Mutex<SlotState>,
    /// The capacity that the guest of a snapshot was told, in bytes.
    saved_bytes: Option<u64>,
}

/// What is behind a block device.
enum SlotState {
    Empty,
    Backed(Backing, Vec<File>),
}

impl DiskSlot {
    /// No code panics while it holds the lock; a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a block device's backing is to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backing {
    /// The guest cannot write.
    ReadOnly,
    /// What the guest writes is to be there when the machine has ended.
    Lasting,
    /// What the guest writes ends with the machine.
    Scratch,
}

impl Backing {
    /// For a disk of the user's.
    fn of(read_only: bool) -> Self {
        if read_only { Self::ReadOnly } else { Self::Lasting }
    }
}

impl Builder<'_> {
    pub(super) fn attach_disks(
        &mut self,
        disks: &[Disk],
        saved: Option<Vec<Saved<BlkState>>>,
    ) -> Result<Vec<DiskSlot>, MachineError> {
        let mut slots = Vec::new();
        let mut saved = saved.map(Vec::into_iter);
        for (slot, disk) in disks.iter().enumerate() {
            let read_only = matches!(disk, Disk::File { read_only: true, .. } | Disk::Empty { read_only: true });
            let config = BlkConfig { read_only, discard: !read_only, id: format!("disk{slot}") };
            let counters = Arc::<DiskCounters>::default();
            let mut saved_bytes = None;
            let mut transport = match saved.as_mut().and_then(Iterator::next) {
                Some(Saved { transport, device }) => {
                    saved_bytes = device.capacity_sectors.checked_mul(SECTOR);
                    self.restored("disk", Blk::restore(config, device), transport)?
                }
                None => Transport::new(Blk::new(config)),
            };
            if let Disk::File { path, read_only } = disk {
                let backend = FileDisk::open(path, *read_only, counters.clone())?;
                transport.device_mut().set_backend(Box::new(backend));
            }
            let empty = matches!(disk, Disk::Empty { .. });
            let state = Mutex::new(if empty {
                SlotState::Empty
            } else {
                SlotState::Backed(Backing::of(read_only), Vec::new())
            });
            let saved_bytes = saved_bytes.filter(|bytes| *bytes > 0);
            slots.push(DiskSlot { device: self.attach(transport), counters, state, saved_bytes });
        }
        Ok(slots)
    }
}

impl Machine {
    /// Gives an empty block device the image at a path as its backing.
    ///
    /// # Errors
    /// There is no such device, it has a backing, or the image cannot be used.
    pub fn attach_disk(&self, slot: usize, path: &Path, read_only: bool) -> Result<(), MachineError> {
        self.back(slot, Backing::of(read_only), Vec::new(), |counters| FileDisk::open(path, read_only, counters))
    }

    /// Gives an empty block device an open image, which errors call `name`, as its backing.
    ///
    /// # Errors
    /// As for [`attach_disk`](Self::attach_disk).
    pub fn attach_image(&self, slot: usize, image: File, name: &str, backing: Backing) -> Result<(), MachineError> {
        let read_only = backing == Backing::ReadOnly;
        let kept = vec![image.try_clone().map_err(|source| MachineError::Host { what: "descriptor", source })?];
        self.back(slot, backing, kept, |counters| FileDisk::new(image, name.as_ref(), read_only, counters))
    }

    /// Gives an empty block device many images, one behind the other; gives where each is.
    ///
    /// # Errors
    /// As for [`attach_disk`](Self::attach_disk).
    pub fn attach_layers(&self, slot: usize, images: Vec<File>) -> Result<Vec<Extent>, MachineError> {
        let mut places = Vec::new();
        let kept = images.iter().map(File::try_clone).collect::<io::Result<_>>();
        let kept = kept.map_err(|source| MachineError::Host { what: "descriptor", source })?;
        self.back(slot, Backing::ReadOnly, kept, |counters| {
            let disk = LayerDisk::new(images, counters)?;
            places = disk.places();
            Ok::<_, DiskError>(disk)
        })?;
        Ok(places)
    }

    fn back<B: BlockBackend + 'static>(
        &self,
        slot: usize,
        backing: Backing,
        kept: Vec<File>,
        open: impl FnOnce(Arc<DiskCounters>) -> Result<B, DiskError>,
    ) -> Result<(), MachineError> {
        let missing = MachineError::NoSlot { slot, disks: self.disks.len() };
        let DiskSlot { device, counters, state, saved_bytes } = self.disks.get(slot).ok_or(missing)?;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*state, SlotState::Empty) {
            return Err(MachineError::Occupied { slot });
        }
        let backend = open(counters.clone())?;
        if let Some(saved) = saved_bytes.filter(|saved| *saved != backend.len_bytes()) {
            return Err(MachineError::OtherDisk { slot, saved, here: backend.len_bytes() });
        }
        device.host(|blk| blk.set_backend(Box::new(backend)));
        *state = SlotState::Backed(backing, kept);
        Ok(())
    }

    /// Says that every block device has what is behind it that the guest of the snapshot knows.
    ///
    /// # Errors
    /// The first one that is empty.
    pub fn check_disks(&self) -> Result<(), MachineError> {
        for (slot, disk) in self.disks.iter().enumerate() {
            let here = u64::from(!matches!(*disk.lock(), SlotState::Empty));
            if let Some(saved) = disk.saved_bytes.filter(|_| here == 0) {
                return Err(MachineError::OtherDisk { slot, saved, here });
            }
        }
        Ok(())
    }

    /// What is behind a block device, and the open images of it, if they were given open.
    ///
    /// # Errors
    /// The process has no descriptor to give.
    pub fn images(&self, slot: usize) -> io::Result<Option<(Backing, Vec<File>)>> {
        let Some(disk) = self.disks.get(slot) else { return Ok(None) };
        match &*disk.lock() {
            SlotState::Empty => Ok(None),
            SlotState::Backed(backing, kept) => {
                Ok(Some((*backing, kept.iter().map(File::try_clone).collect::<io::Result<_>>()?)))
            }
        }
    }

    /// Whether the guest may hold writes that a disk image is to have in the end and has not seen.
    pub fn has_lasting_disks(&self) -> bool {
        self.disks.iter().any(|disk| matches!(*disk.lock(), SlotState::Backed(Backing::Lasting, _)))
    }

    /// Bytes read and written by each block device.
    pub fn disk_bytes(&self) -> impl Iterator<Item = (u64, u64)> {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        self.disks.iter().map(move |disk| (load(&disk.counters.read_bytes), load(&disk.counters.written_bytes)))
    }
}

//! The file system device: configuration space, queues, and the requests that are being served.

use std::collections::VecDeque;

use super::{FsDone, FsRequest, FsState, FsWork, FsWorker, spec};
use crate::virtio::spec::device_type;
use crate::virtio::{DeviceError, Progress, Queue, VirtioDevice, read_config_bytes};
use crate::{GuestMemory, RestoreError};

/// What is fixed about a file system device before the guest sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsConfig {
    /// Name by which the guest mounts it, cut at [`TAG_MAX`](super::TAG_MAX) bytes.
    pub tag: String,
}

/// A virtio file system device.
///
/// Requests are served elsewhere, in order: the owner takes [work](Self::take_work) when its [`FsWorker`] is woken, has it
/// done without the device's lock, and gives what was [completed](Self::complete) back.
pub struct Fs {
    config: FsConfig,
    worker: Box<dyn FsWorker>,
    /// Not taken yet.
    work: VecDeque<FsWork>,
    /// Completed, not told to the driver yet.
    done: Vec<FsDone>,
    /// Requests that were taken from each queue and whose end the driver does not know.
    pending: [u16; spec::QUEUE_SIZES.len()],
    /// Counts the driver's lives: answers to requests of an earlier one go nowhere.
    life: u64,
}

impl std::fmt::Debug for Fs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fs").field("config", &self.config).field("pending", &self.pending).finish_non_exhaustive()
    }
}

impl Fs {
    /// A device whose requests `worker` serves.
    #[must_use]
    pub fn new(config: FsConfig, worker: Box<dyn FsWorker>) -> Self {
        let pending = [0; spec::QUEUE_SIZES.len()];
        Self { config, worker, work: VecDeque::new(), done: Vec::new(), pending, life: 0 }
    }

    /// The device that was saved.
    ///
    /// # Errors
    /// The saved tag is not the one in `config`.
    pub fn restore(config: FsConfig, state: FsState, worker: Box<dyn FsWorker>) -> Result<Self, RestoreError> {
        let FsState { tag } = state;
        if tag != config.tag {
            return Err(RestoreError::Field { field: "tag", value: tag.len() as u64 });
        }
        Ok(Self::new(config, worker))
    }

    /// State to save. Nothing may be [under way](Self::is_idle): the requests themselves are not part of it.
    #[must_use]
    pub fn save(&self) -> FsState {
        let Self { config: FsConfig { tag }, worker: _, work: _, done: _, pending: _, life: _ } = self;
        FsState { tag: tag.clone() }
    }

    /// Whether no request waits or is being served.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.work.is_empty() && self.pending.iter().all(|count| *count == 0)
    }

    /// What is to be done next.
    pub fn take_work(&mut self) -> Option<FsWork> {
        self.work.pop_front()
    }

    /// A request was served. Service the transport afterwards: the driver is told then.
    pub fn complete(&mut self, done: FsDone) {
        if done.life == self.life {
            self.done.push(done);
        }
    }

    fn tell(&mut self, mem: &GuestMemory, queues: &mut [Queue]) -> Result<(), DeviceError> {
        for FsDone { queue: index, head, life: _, written } in self.done.drain(..) {
            if let Some(queue) = queues.get_mut(index) {
                queue.push_used(mem, head, written)?;
            }
            if let Some(pending) = self.pending.get_mut(index) {
                *pending = pending.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// Takes requests up to the queue's size: what a driver offers beyond that waits for answers.
    fn take(&mut self, index: usize, mem: &GuestMemory, queue: &mut Queue) -> Result<(), DeviceError> {
        let (Some(pending), Some(most)) = (self.pending.get_mut(index), spec::QUEUE_SIZES.get(index)) else {
            return Ok(());
        };
        let mut found = false;
        while *pending < *most
            && let Some(chain) = queue.pop(mem)?
        {
            *pending += 1;
            found = true;
            self.work.push_back(FsWork::Request(FsRequest::new(index, chain, self.life)));
        }
        if found {
            self.worker.wake();
        }
        Ok(())
    }
}

impl VirtioDevice for Fs {
    fn device_type(&self) -> u32 {
        device_type::FILE_SYSTEM
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_max_sizes(&self) -> &'static [u16] {
        spec::QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let mut config = [0; spec::CONFIG_SIZE];
        let tag = self.config.tag.bytes().take(spec::TAG_MAX);
        config.iter_mut().zip(tag).for_each(|(to, from)| *to = from);
        let queues = spec::NUM_REQUEST_QUEUES.to_le_bytes();
        config.iter_mut().skip(spec::CONFIG_NUM_REQUEST_QUEUES).zip(queues).for_each(|(to, from)| *to = from);
        read_config_bytes(&config, offset, data);
    }

    fn activate(&mut self, _features: u64) {}

    fn process_queue(
        &mut self,
        index: usize,
        mem: &GuestMemory,
        queues: &mut [Queue],
    ) -> Result<Progress, DeviceError> {
        self.tell(mem, queues)?;
        if let Some(queue) = queues.get_mut(index) {
            self.take(index, mem, queue)?;
        }
        Ok(Progress::Done)
    }

    fn reset(&mut self) {
        let Self { config: _, worker, work, done, pending, life } = self;
        work.clear();
        done.clear();
        *pending = [0; spec::QUEUE_SIZES.len()];
        *life = life.wrapping_add(1);
        worker.settle();
        work.push_back(FsWork::Reset);
        worker.wake();
    }
}

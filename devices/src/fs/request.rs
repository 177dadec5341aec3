//! A request on its way from the device to its server and back.

use super::FsBackend;
use crate::GuestMemory;
use crate::virtio::{Buffers, Chain};

/// What the server's thread does next.
#[derive(Debug)]
pub enum FsWork {
    /// Serve a request, and give the outcome to [`Fs::complete`](super::Fs::complete).
    Request(FsRequest),
    /// Call [`FsBackend::reset`].
    Reset,
}

/// One request.
#[derive(Debug)]
pub struct FsRequest {
    pub(super) queue: usize,
    pub(super) head: u16,
    /// Which life of the driver it belongs to.
    pub(super) life: u64,
    readable: Buffers,
    writable: Buffers,
}

/// An answered request.
#[derive(Debug)]
pub struct FsDone {
    pub(super) queue: usize,
    pub(super) head: u16,
    pub(super) life: u64,
    pub(super) written: u32,
}

impl FsRequest {
    pub(super) fn new(queue: usize, chain: Chain, life: u64) -> Self {
        let Chain { head, readable, writable } = chain;
        Self { queue, head, life, readable, writable }
    }

    /// Has it carried out. One whose buffers are not in guest memory gets no reply.
    #[must_use]
    pub fn serve(self, mem: &GuestMemory, backend: &dyn FsBackend) -> FsDone {
        let Self { queue, head, life, readable, writable } = self;
        let written = match (readable.slices(mem), writable.slices(mem)) {
            (Ok(request), Ok(reply)) => backend.handle(&request, &reply),
            _ => 0,
        };
        // More than there was room for cannot have been written.
        let written = u64::try_from(written).unwrap_or(u64::MAX).min(writable.len());
        FsDone { queue, head, life, written: u32::try_from(written).unwrap_or(u32::MAX) }
    }
}

//! Who serves the requests of a file system device, and on which thread.

use vm_memory::VolatileSlice;

/// A FUSE server: bytes of a request in, bytes of a reply out.
pub trait FsBackend: Send + Sync {
    /// Carries out one request and writes its reply; gives the reply's length in bytes, 0 for requests that have none.
    ///
    /// Both are the guest's memory, which it may change meanwhile: what was read once must not be read again.
    fn handle(&self, request: &[VolatileSlice<'_>], reply: &[VolatileSlice<'_>]) -> usize;

    /// The driver went away: open files and known inodes are forgotten. The next request comes from another one.
    fn reset(&self);
}

/// The thread that calls the backend. The device is locked by the caller in both calls.
pub trait FsWorker: Send {
    /// There is [work](super::Fs::take_work). Does not wait for it.
    fn wake(&self);

    /// Returns when no request is being served: the guest's memory is then its own again.
    fn settle(&self);
}

//! virtio-fs: FUSE requests from two queues, handed to whoever serves them, answered when that is done.

mod backend;
mod device;
mod request;
mod spec;
mod state;
#[cfg(test)]
mod tests;

pub use backend::{FsBackend, FsWorker};
pub use device::{Fs, FsConfig};
pub use request::{FsDone, FsRequest, FsWork};
pub use spec::TAG_MAX;
pub use state::FsState;

//! Serves host directories and single files to a guest as one FUSE file system: requests in, replies out.
//!
//! No bus, no virtqueue, no thread of its own. [`Server::handle`] takes one request as it lies in guest memory, carries
//! it out on the host and writes the reply to guest memory. Every byte of a request is hostile input.
//!
//! The file system's root has one entry per share, named by its number: a directory, or the single file that is
//! shared. What a share can do and what is refused stands in `docs/shares.md`.

mod devices;
mod error;
mod handles;
mod io;
mod message;
mod nodes;
mod ops;
mod os;
mod server;
mod share;
pub mod spec;
mod stat;

pub use error::ShareError;
pub use server::{Limits, Server, Usage};
pub use share::{ShareConfig, SymlinkPolicy};

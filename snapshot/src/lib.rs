//! Snapshots of machines as files: serde and file formats, no device, no hypervisor, no mapping of memory.
//!
//! A snapshot is two files, `state` and `memory`; `docs/snapshot-format.md` draws them. [`Writer`] makes one, [`Snapshot::open`] is
//! the constructor that distrusts one, [`Layout`] tells what to map where.

mod error;
mod format;
mod layout;
mod limits;
mod manifest;
mod memory;
#[cfg(target_os = "linux")]
mod pagemap_linux;
mod ram;
mod snapshot;
pub mod sparse;
pub mod spec;
pub mod store;
mod writer;

pub use error::{Limit, SnapshotError};
pub use layout::{Layout, Mapping};
pub use limits::Limits;
pub use manifest::{About, Kind, Manifest, MemoryRecord, SnapshotId};
pub use memory::Run;
#[cfg(target_os = "linux")]
pub use pagemap_linux::{Pagemap, Pages};
pub use ram::{Present, Ram, Region, Span};
pub use snapshot::Snapshot;
pub use writer::Writer;

//! Where layers come from.

mod tar;
mod tree;

pub use tar::{EntryError, TarError};
pub use tree::TreeError;

pub(crate) use tar::{decompress, read_tar};
pub(crate) use tree::read_tree;

//! What images of a store are known by beside what they were made from: the writer that wrote them.

use crate::{Compressor, Options};

/// Goes up whenever the writer gives other bytes for the same source and options.
const WRITER: u32 = 2;

/// A word for how images are written, for [`crate::store::Key::layer`].
pub fn form(options: &Options) -> String {
    let compressor = match options.compressor {
        Compressor::None => "none".to_owned(),
        Compressor::Lz4 => "lz4".to_owned(),
        Compressor::Zstd { level } => format!("zstd{level}"),
    };
    format!("v{WRITER}{compressor}b{}", options.block_size)
}

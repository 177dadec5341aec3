//! The compressors.

use super::{Compressor, ImageError, spec};

/// One thread's compressor with its memory.
pub(super) struct Codec {
    kind: Kind,
    scratch: Vec<u8>,
}

enum Kind {
    None,
    Lz4,
    Zstd(zstd::bulk::Compressor<'static>),
}

/// A block as it is stored.
pub(super) struct Packed {
    pub(super) bytes: Vec<u8>,
    /// Not compressed, because that would not make it smaller.
    pub(super) raw: bool,
}

impl Codec {
    pub(super) fn new(compressor: Compressor) -> Result<Self, ImageError> {
        let kind = match compressor {
            Compressor::None => Kind::None,
            Compressor::Lz4 => Kind::Lz4,
            Compressor::Zstd { level } => Kind::Zstd(zstd::bulk::Compressor::new(level).map_err(ImageError::Compress)?),
        };
        Ok(Self { kind, scratch: Vec::new() })
    }

    /// Compresses a block in its own memory; leaves it as it is where that is no gain.
    pub(super) fn pack(&mut self, mut block: Vec<u8>) -> Result<Packed, ImageError> {
        let length = self.compress(&block)?;
        let smaller =
            length.and_then(|length| self.scratch.get(..length)).filter(|smaller| smaller.len() < block.len());
        let raw = smaller.is_none();
        if let Some(smaller) = smaller {
            block.clear();
            block.extend_from_slice(smaller);
        }
        Ok(Packed { bytes: block, raw })
    }

    /// Compresses into `scratch`; gives the length there, or none if nothing is to be compressed.
    fn compress(&mut self, block: &[u8]) -> Result<Option<usize>, ImageError> {
        match &mut self.kind {
            Kind::None => Ok(None),
            Kind::Lz4 => {
                self.scratch.resize(lz4_flex::block::get_maximum_output_size(block.len()), 0);
                let length = lz4_flex::block::compress_into(block, &mut self.scratch);
                length.map(Some).map_err(|error| ImageError::Compress(std::io::Error::other(error)))
            }
            Kind::Zstd(zstd) => {
                self.scratch.resize(zstd::zstd_safe::compress_bound(block.len()), 0);
                zstd.compress_to_buffer(block, &mut self.scratch[..]).map(Some).map_err(ImageError::Compress)
            }
        }
    }
}

/// The superblock's number of a compressor. Without compression the number says nothing; every kernel knows that of zlib.
pub(super) fn number(compressor: Compressor) -> u16 {
    match compressor {
        Compressor::None => spec::compressor::ZLIB,
        Compressor::Lz4 => spec::compressor::LZ4,
        Compressor::Zstd { .. } => spec::compressor::ZSTD,
    }
}

/// The options that follow the superblock; none where there are none to tell.
pub(super) fn options(compressor: Compressor) -> Vec<u8> {
    match compressor {
        Compressor::None => Vec::new(),
        Compressor::Lz4 => [spec::LZ4_VERSION.to_le_bytes(), 0u32.to_le_bytes()].concat(),
        Compressor::Zstd { level } => level.to_le_bytes().to_vec(),
    }
}

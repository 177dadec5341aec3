//! From a layer's blob to an image in the store, every digest checked on the way.

use std::fs::File;
use std::io::{BufReader, Read};

use super::blobs::{Blobs, Digesting, check_digest, check_size};
use super::{Conversion, LayerError, LayerSource};
use crate::source::decompress;
use crate::store::Made;
use crate::{PackError, Summary};

/// Bytes that are read at once from a blob.
const BUFFER: usize = 1 << 17;

/// Converts one layer into `out`.
pub(super) fn convert(
    blobs: &Blobs,
    layer: &LayerSource,
    conversion: &Conversion,
    out: File,
) -> Result<Made, LayerError> {
    let (file, length) = blobs.open(&layer.name)?;
    let what = || format!("layer {}", layer.name);
    if let Some((_, size)) = layer.blob {
        check_size(&what, length, size)?;
    }
    let mut blob = Digesting::new(file, u64::MAX);
    let packed = pack(&mut blob, layer, conversion, out);
    if let Err(LayerError::TooLarge { .. }) = packed {
        return packed;
    }
    // That a blob is not what it should be explains whatever else is wrong with it.
    let digest = blob.finish().map_err(LayerError::Read)?;
    if let Some((wanted, _)) = layer.blob {
        check_digest(&what, digest, wanted)?;
    }
    packed
}

fn pack(blob: impl Read, layer: &LayerSource, conversion: &Conversion, out: File) -> Result<Made, LayerError> {
    // Whatever its media type is, its first bytes tell how it is compressed.
    let plain = decompress(BufReader::with_capacity(BUFFER, blob)).map_err(PackError::from)?;
    let mut tar = Digesting::new(plain, conversion.tar_bytes_max);
    let packed = crate::pack_tar(&mut tar, out, &conversion.options, &conversion.caps);
    if tar.over {
        return Err(LayerError::TooLarge { cap: conversion.tar_bytes_max });
    }
    let summary = packed?;
    let diff_id = tar.finish();
    if tar.over {
        return Err(LayerError::TooLarge { cap: conversion.tar_bytes_max });
    }
    let diff_id = diff_id.map_err(LayerError::Read)?;
    check_digest(&|| format!("layer {}, unpacked,", layer.name), diff_id, layer.diff_id)?;
    Ok(made(&summary))
}

/// What the store is told of an image.
pub fn made(summary: &Summary) -> Made {
    Made {
        image: crate::digest::Digest::new(summary.sha256),
        bytes: summary.bytes,
        entries: summary.entries,
        content_bytes: summary.content_bytes,
        root_opaque: summary.root_opaque,
        unlisted: summary.unlisted,
    }
}

//! Finds out how an archive is compressed, and undoes it.

use std::io::{BufReader, Cursor, Read};

use super::header::Header;
use super::stream::{BLOCK, fill};
use super::{EntryError, TarError};

/// How much of a plain archive is read at once.
const READ_BYTES: usize = 128 << 10;
/// The largest window of zstd that is accepted, 128 MiB: what the decompressor may take of memory. It is zstd's own default.
const WINDOW_LOG: u32 = 27;

/// First bytes of what is not known, to say so.
const UNKNOWN: [(&[u8], &str); 4] =
    [(b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"\x04\x22\x4d\x18", "lz4"), (b"\x5d\0\0", "lzma")];

/// The archive in plain form.
pub(crate) fn open<'a>(mut input: impl Read + 'a) -> Result<Box<dyn Read + 'a>, TarError> {
    let mut first = [0; BLOCK];
    let failed = |error| TarError::Header { after: String::new(), source: EntryError::read(error) };
    let got = fill(&mut input, &mut first).map_err(failed)?;
    let first_bytes = first.get(..got).unwrap_or_default().to_vec();
    let rest = Cursor::new(first_bytes.clone()).chain(input);
    // A name may begin with any bytes: what is a header is no compressor's.
    if Header::new(first).is_ok() || got < BLOCK && first_bytes.is_empty() {
        return Ok(Box::new(BufReader::with_capacity(READ_BYTES, rest)));
    }
    if first_bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(flate2::read::MultiGzDecoder::new(rest)));
    }
    if is_zstd(&first_bytes) {
        let mut decoder = zstd::stream::read::Decoder::new(rest).map_err(failed)?;
        decoder.window_log_max(WINDOW_LOG).map_err(failed)?;
        return Ok(Box::new(decoder));
    }
    match UNKNOWN.iter().find(|(magic, _)| first_bytes.starts_with(magic)) {
        Some((_, name)) => Err(TarError::Compression { name }),
        None => Ok(Box::new(BufReader::with_capacity(READ_BYTES, rest))),
    }
}

/// Frames of zstd, or such as its decompressor passes over.
fn is_zstd(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
        || bytes.first().is_some_and(|byte| byte & 0xf0 == 0x50) && bytes.get(1..4) == Some(&[0x2a, 0x4d, 0x18])
}

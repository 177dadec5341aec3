//! Disk images with holes: copies that have the same, digests that pass over them.
//!
//! The position of the file that is read changes: nobody may read it through the same description meanwhile but with
//! positions of their own.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

/// Bytes looked at at once; pieces begin at multiples of it.
const PIECE: u64 = 1 << 20;

/// Copies `from` to a new file, of which only the owner has anything. Zeroes become holes.
///
/// # Errors
/// There is a file already, or the host's disk is full or broken.
pub fn copy(from: &File, to: &Path) -> io::Result<()> {
    let copy = File::options().write(true).create_new(true).mode(0o600).open(to)?;
    copy_into(from, &copy)?;
    copy.sync_data()
}

/// Copies `from` into a file that is empty.
///
/// # Errors
/// The host's disk is full or broken.
pub fn copy_into(from: &File, to: &File) -> io::Result<()> {
    to.set_len(from.metadata()?.len())?;
    pieces(from, |at, bytes| to.write_all_at(bytes, at))
}

/// The BLAKE3 digest of a file's length and of its pieces that are not all zeroes, in hex.
///
/// # Errors
/// It cannot be read.
pub fn digest(file: &File) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&file.metadata()?.len().to_le_bytes());
    pieces(file, |at, bytes| {
        hasher.update(&at.to_le_bytes());
        hasher.update(bytes);
        Ok(())
    })?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Calls `with` for each piece that is not all zeroes.
fn pieces(file: &File, mut with: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
    let length = file.metadata()?.len();
    let mut buffer = vec![0; PIECE as usize];
    let mut at = 0;
    while let Some(data) = next_data(file, at)?.filter(|data| *data < length) {
        let start = (data - data % PIECE).max(at);
        let end = start.saturating_add(PIECE).min(length);
        let piece = buffer.get_mut(..usize::try_from(end - start).unwrap_or(0)).unwrap_or_default();
        file.read_exact_at(piece, start)?;
        if piece.iter().any(|byte| *byte != 0) {
            with(start, piece)?;
        }
        at = end;
    }
    Ok(())
}

/// Where data begins at or behind `from`; `from` itself where the file system cannot tell.
fn next_data(file: &File, from: u64) -> io::Result<Option<u64>> {
    let offset = i64::try_from(from).map_err(io::Error::other)?;
    match lseek(file, offset, Whence::SeekData) {
        Ok(data) => Ok(u64::try_from(data).ok()),
        Err(Errno::ENXIO) => Ok(None),
        Err(Errno::EINVAL) => Ok(Some(from)),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn scattered(folder: &Path) -> File {
        let path = folder.join("from");
        let file = File::options().read(true).write(true).create_new(true).open(path).expect("a file");
        file.set_len(64 << 20).expect("a length");
        let noise: Vec<u8> = (0..3_000_000_u32).map(|number| ((number * 7) >> 3) as u8).collect();
        for place in [0, (20 << 20) + 12_345, (64 << 20) - 3_000_000] {
            file.write_all_at(&noise, place).expect("written");
        }
        file
    }

    #[test]
    fn a_copy_has_the_bytes_and_the_holes() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let (file, to) = (scattered(folder.path()), folder.path().join("to"));
        copy(&file, &to).expect("copied");
        assert!(std::fs::read(folder.path().join("from")).expect("read") == std::fs::read(&to).expect("read"));
        let (from, copied) = (file.metadata().expect("a file"), std::fs::metadata(&to).expect("a file"));
        let most = from.blocks() + 4 * (PIECE / 512);
        assert!(copied.blocks() <= most, "{} blocks, {} in the copy", from.blocks(), copied.blocks());
        assert_eq!(copied.mode() & 0o777, 0o600);
        assert!(copy(&file, &to).is_err(), "nothing is written over");
        let copied = File::open(&to).expect("opens");
        assert_eq!(digest(&file).expect("read"), digest(&copied).expect("read"));
    }

    #[test]
    fn a_digest_sees_every_byte_and_no_hole() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let file = scattered(folder.path());
        let before = digest(&file).expect("read");
        file.write_all_at(&[0; 4096], 10 << 20).expect("written");
        assert_eq!(digest(&file).expect("read"), before, "zeroes where a hole was");
        for place in [0, 10 << 20, (64 << 20) - 1] {
            let mut byte = [0];
            file.read_exact_at(&mut byte, place).expect("read");
            file.write_all_at(&[!byte[0]], place).expect("written");
            assert_ne!(digest(&file).expect("read"), before, "{place}");
            file.write_all_at(&byte, place).expect("written");
        }
        file.set_len((64 << 20) + 1).expect("a length");
        assert_ne!(digest(&file).expect("read"), before);
        let empty = tempfile::tempfile().expect("a file");
        assert_eq!(digest(&empty).expect("read").len(), 64);
    }
}

//! Digests of files, kept by what `stat` says of them: a kernel is not read at each create.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::error::{StoreError, io_error};
use super::seal::Stamp;
use super::{DIGESTS, Store};

/// Bytes of the file at most, and files in it.
const FILE_MAX: u64 = 256 << 10;
const ENTRIES_MAX: usize = 128;
/// A file that changed less than this many seconds before it was read may change again without a new time: it is not kept.
const RACY_SECONDS: u64 = 2;

/// A file whose digest is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    dev: u64,
    ino: u64,
    stamp: Stamp,
    digest: String,
}

type Table = BTreeMap<String, Known>;

impl Store {
    /// The BLAKE3 digest of a file in hex. It is read only when it is another file than the last time, or has other times.
    ///
    /// # Errors
    /// The file cannot be read. A table of digests that is damaged is made anew, one that cannot be written is not.
    pub fn digest_of(&self, path: &Path) -> Result<String, StoreError> {
        let file = File::open(path).map_err(io_error("open", path))?;
        let before = file.metadata().map_err(io_error("look at", path))?;
        let name = std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string();
        let mut table = self.read_digests();
        if let Some(known) = table.get(&name).filter(|known| known.is(&before)) {
            return Ok(known.digest.clone());
        }
        let digest = digest(&file).map_err(io_error("read", path))?;
        let after = file.metadata().map_err(io_error("look at", path))?;
        let known = Known { dev: after.dev(), ino: after.ino(), stamp: Stamp::of(&after), digest };
        let digest = known.digest.clone();
        if known.is(&before) && is_settled(&known.stamp) {
            table.retain(|name, _| fs::exists(name).unwrap_or(false));
            if table.len() >= ENTRIES_MAX {
                table.clear();
            }
            table.insert(name, known);
            self.write_digests(&table).unwrap_or_else(|error| log::debug!("digests are not kept: {error}"));
        }
        Ok(digest)
    }

    fn read_digests(&self) -> Table {
        let mut json = Vec::new();
        let read = File::open(self.dir.join(DIGESTS)).and_then(|file| file.take(FILE_MAX).read_to_end(&mut json));
        read.ok().and_then(|_| serde_json::from_slice(&json).ok()).unwrap_or_default()
    }

    /// Replaces the table, unless another process does: then the file is read once more by the next.
    fn write_digests(&self, table: &Table) -> io::Result<()> {
        let new = self.dir.join(format!("{DIGESTS}.new"));
        let Some(mut file) = supermachine_lock::try_hold_removable(&new)? else { return Ok(()) };
        file.set_len(0)?;
        file.write_all(&serde_json::to_vec(table)?)?;
        fs::rename(new, self.dir.join(DIGESTS))
    }
}

impl Known {
    fn is(&self, metadata: &Metadata) -> bool {
        (self.dev, self.ino, self.stamp) == (metadata.dev(), metadata.ino(), Stamp::of(metadata))
    }
}

fn digest(file: &File) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Whether a file's times are so old that any later write gives it others.
fn is_settled(stamp: &Stamp) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_secs());
    u64::try_from(stamp.changed()).is_ok_and(|changed| changed.saturating_add(RACY_SECONDS) < now)
}

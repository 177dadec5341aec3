//! The seal of a template: sizes and times of its files when it was baked. It costs two `stat` calls to see that nobody wrote to them
//! since; their content is read only when somebody did.

use std::fs::{self, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::spec::{MEMORY_FILE, STATE_FILE};

use super::{SEAL, SNAPSHOT};

/// Bytes of a seal at most.
const SEAL_MAX: u64 = 4096;

/// When a file was last changed, and its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    bytes: u64,
    mtime: i64,
    mtime_ns: i64,
    ctime: i64,
    ctime_ns: i64,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            bytes: metadata.len(),
            mtime: metadata.mtime(),
            mtime_ns: metadata.mtime_nsec(),
            ctime: metadata.ctime(),
            ctime_ns: metadata.ctime_nsec(),
        }
    }

    /// Seconds since 1970 of the last change of any kind.
    pub(super) fn changed(&self) -> i64 {
        self.mtime.max(self.ctime)
    }
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seal {
    state: Stamp,
    memory: Stamp,
}

impl Seal {
    fn of(dir: &Path) -> io::Result<Self> {
        let stamp = |name: &str| fs::symlink_metadata(dir.join(SNAPSHOT).join(name)).map(|found| Stamp::of(&found));
        Ok(Self { state: stamp(STATE_FILE)?, memory: stamp(MEMORY_FILE)? })
    }
}

/// Seals the template in `dir`; an older seal is replaced as a whole.
pub(super) fn write(dir: &Path) -> io::Result<()> {
    let new = dir.join(format!("{SEAL}.new"));
    let mut file = fs::File::create(&new)?;
    file.write_all(&serde_json::to_vec(&Seal::of(dir)?)?)?;
    file.sync_all()?;
    fs::rename(new, dir.join(SEAL))
}

/// Whether nobody wrote to the template in `dir` since it was sealed.
pub(super) fn holds(dir: &Path) -> bool {
    let mut json = Vec::new();
    let read = fs::File::open(dir.join(SEAL)).and_then(|file| file.take(SEAL_MAX).read_to_end(&mut json));
    let (Ok(_), Ok(now)) = (read, Seal::of(dir)) else { return false };
    serde_json::from_slice::<Seal>(&json).is_ok_and(|then| then == now)
}

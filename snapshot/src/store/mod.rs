//! The store of templates: one directory each, found by the digest of what it was made of.
//!
//! ```text
//! <data>/templates/          mode 0700
//!   <key>/                   a template; it appears whole, by a rename
//!     snapshot/state, memory
//!     seal                   sizes and times of both: whoever changed them since is noticed
//!     use                    locked shared by each user for as long as it uses the template; its mtime is the last use
//!   <key>.lock               held by the baker, who alone makes or removes <key>/
//!   <key>.work.<random>/     what a baker makes, or what is being removed
//!   digests                  digests of files that were read before
//!   wanted                   which templates somebody wanted once
//! ```
//!
//! Locks are flocks: they end with their holders, and waiting for one is no polling. A dead baker leaves a work directory and a free
//! lock; the next one removes the directory.

mod bake;
mod digests;
mod error;
mod key;
mod list;
mod look;
mod prune;
mod remove;
mod seal;
mod wanted;
mod work;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

pub use bake::Event;
pub use error::{BakeFailure, StoreError};
pub use key::{Key, Parts};
pub use list::Entry;
pub use look::Template;
pub use prune::{Kept, Pruned};

use error::io_error;

const DIR: &str = "templates";
const SNAPSHOT: &str = "snapshot";
const USE: &str = "use";
const SEAL: &str = "seal";
const LOCK: &str = "lock";
const WORK: &str = "work";
const DIGESTS: &str = "digests";
const WANTED: &str = "wanted";

/// The templates below one data directory.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// The store below `data`; made if it is not there.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(data: &Path) -> Result<Self, StoreError> {
        let dir = data.join(DIR);
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(io_error("make", &dir))?;
        Ok(Self { dir })
    }

    /// Where the templates are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn template_dir(&self, key: &Key) -> PathBuf {
        self.dir.join(key.as_str())
    }

    fn lock_path(&self, key: &Key) -> PathBuf {
        self.dir.join(format!("{key}.{LOCK}"))
    }
}

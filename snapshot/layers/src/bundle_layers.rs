//! `layers.json`: the layers of a bundle that has no `rootfs/` of its own.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Name of the file, beside `config.json`.
pub const NAME: &str = "layers.json";
/// Largest file that is read, bytes.
const READ_MAX: u64 = 1 << 20;
/// Version of its form.
const VERSION: u32 = 1;

/// What is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleLayers {
    version: u32,
    /// The layers, the lowest first.
    pub layers: Vec<BundleLayer>,
}

/// One layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BundleLayer {
    /// Digest of the squashfs image in the store.
    pub image: Digest,
    /// Digest of the tar that it was made from, uncompressed; for people. None for the layer of attributes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff_id: Option<Digest>,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleLayersError {
    /// It cannot be read.
    #[error("{}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is something else.
    #[error("{}: no list of layers", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// It is longer than any that this program writes, of another version, or has no layer.
    #[error("{}: {reason}", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
}

impl BundleLayers {
    /// A list to be written.
    pub fn new(layers: Vec<BundleLayer>) -> Self {
        Self { version: VERSION, layers }
    }

    /// Reads that of the bundle in `dir`; none if the bundle has none.
    pub fn read(dir: &Path) -> Result<Option<Self>, BundleLayersError> {
        let path = dir.join(NAME);
        let read = || -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            File::open(&path)?.take(READ_MAX + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = match read() {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(source) => return Err(BundleLayersError::Read { path, source }),
            Ok(bytes) => bytes,
        };
        let form = |reason| BundleLayersError::Form { path: path.clone(), reason };
        if bytes.len() as u64 > READ_MAX {
            return Err(form("too long"));
        }
        let parsed: Self =
            serde_json::from_slice(&bytes).map_err(|source| BundleLayersError::Json { path: path.clone(), source })?;
        match parsed {
            Self { version, .. } if version != VERSION => Err(form("of another version")),
            Self { layers, .. } if layers.is_empty() => Err(form("no layer in it")),
            whole => Ok(Some(whole)),
        }
    }
}

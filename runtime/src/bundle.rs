//! Reads a bundle: its directory and `config.json`.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxResources, Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::Value;
use supermachine_layers::bundle_layers::{BundleLayers, BundleLayersError};
use supermachine_layers::digest::Digest;

mod normalize;

/// Largest `config.json` that is read, bytes.
pub const CONFIG_MAX: u64 = 16 << 20;

/// A bundle: where it is and what it says.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    /// Absolute path of its directory.
    pub dir: PathBuf,
    /// Its `config.json`.
    pub spec: Spec,
    /// Its layers, the lowest first, if it has a `layers.json` and so no root file system of its own.
    pub layers: Option<Vec<Digest>>,
    /// What was left out of `spec` because this runtime cannot know it, one line each.
    pub warnings: Vec<String>,
}

/// A bundle or a part of one that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The bundle's directory cannot be entered.
    #[error("bundle {}", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of JSON cannot be read.
    #[error("{}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its layers cannot be read.
    #[error(transparent)]
    Layers(#[from] BundleLayersError),
    /// A file of JSON is too long.
    #[error("{} has more than {CONFIG_MAX} bytes", file.display())]
    TooLong {
        /// The file.
        file: PathBuf,
    },
    /// A file is no JSON.
    #[error("{name} is not JSON: {source}")]
    Json {
        /// What was read.
        name: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A file is JSON of the wrong kind.
    #[error("{name} is not a JSON object")]
    NotAnObject {
        /// What was read.
        name: String,
    },
    /// A field has the wrong type or an unknown value, or a needed one is missing.
    #[error("{name}: {path}: {source}")]
    Field {
        /// What was read.
        name: String,
        /// Place in it, for example `linux.namespaces[0].type`.
        path: String,
        /// Why.
        source: serde_json::Error,
    },
}

impl Bundle {
    /// Reads the bundle in `dir`, whose configuration is `config` if given and `config.json` in `dir` otherwise.
    pub fn read(dir: &Path, config: Option<&Path>) -> Result<Self, BundleError> {
        let dir = dir.canonicalize().map_err(|source| BundleError::Directory { dir: dir.to_owned(), source })?;
        let file = dir.join(config.unwrap_or(Path::new("config.json")));
        let bytes = read_capped(&file)?;
        let layers = BundleLayers::read(&dir)?;
        let layers = layers.map(|layers| layers.layers.iter().map(|layer| layer.image).collect());
        Ok(Self { layers, ..Self::parse(dir, &bytes)? })
    }

    /// A bundle without layers from the bytes of its `config.json`.
    pub fn parse(dir: PathBuf, config: &[u8]) -> Result<Self, BundleError> {
        let (spec, warnings) = parse(config, "config.json", normalize::spec)?;
        Ok(Self { dir, spec, layers: None, warnings })
    }
}

/// Reads a process as `exec --process` has it; also gives warnings.
pub fn parse_process(json: &[u8]) -> Result<(Process, Vec<String>), BundleError> {
    parse(json, "process", |process, warnings| normalize::process(process, "process", warnings))
}

/// Reads resources as `update --resources` has them; also gives warnings.
pub fn parse_resources(json: &[u8]) -> Result<(LinuxResources, Vec<String>), BundleError> {
    parse(json, "resources", |_, _| ())
}

/// Reads a file of at most [`CONFIG_MAX`] bytes.
pub fn read_capped(file: &Path) -> Result<Vec<u8>, BundleError> {
    let read = |source| BundleError::Read { file: file.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(file).map_err(read)?.take(CONFIG_MAX.saturating_add(1)).read_to_end(&mut bytes).map_err(read)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len <= CONFIG_MAX) {
        Ok(bytes)
    } else {
        Err(BundleError::TooLong { file: file.to_owned() })
    }
}

fn parse<T: DeserializeOwned>(
    json: &[u8],
    name: &str,
    tidy: fn(&mut Value, &mut Vec<String>),
) -> Result<(T, Vec<String>), BundleError> {
    let mut value: Value =
        serde_json::from_slice(json).map_err(|source| BundleError::Json { name: name.to_owned(), source })?;
    if !value.is_object() {
        return Err(BundleError::NotAnObject { name: name.to_owned() });
    }
    let mut warnings = Vec::new();
    normalize::drop_nulls(&mut value);
    tidy(&mut value, &mut warnings);
    let parsed = serde_path_to_error::deserialize(value).map_err(|error| BundleError::Field {
        name: name.to_owned(),
        path: error.path().to_string(),
        source: error.into_inner(),
    })?;
    Ok((parsed, warnings))
}

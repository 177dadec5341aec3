//! The documents of images, as far as they are read. Fields that Go leaves out or writes as `null` have their types' defaults.

use std::collections::{BTreeMap, HashMap};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::{ImageError, Platform};

/// Longest document that is read, bytes; containerd has the same cap.
pub(super) const DOCUMENT_MAX: u64 = 4 << 20;

/// What a thing of an image is.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default, deserialize_with = "or_null")]
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(default, deserialize_with = "or_null")]
    pub(super) annotations: HashMap<String, String>,
    pub(super) platform: Option<Platform>,
}

/// An index, or a manifest: which of them tells which fields it has.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    #[serde(default)]
    pub(super) schema_version: Option<u64>,
    #[serde(default, deserialize_with = "or_null")]
    pub(super) media_type: String,
    pub(super) manifests: Option<Vec<Descriptor>>,
    pub(super) config: Option<Descriptor>,
    pub(super) layers: Option<Vec<Descriptor>>,
}

/// `oci-layout`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Layout {
    pub(super) image_layout_version: String,
}

/// An image in docker's `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerImage {
    pub(super) config: String,
    #[serde(default, deserialize_with = "or_null")]
    pub(super) repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "or_null")]
    pub(super) layers: Vec<String>,
}

/// An image's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Config {
    /// When it was made, RFC 3339.
    #[serde(default, deserialize_with = "or_null")]
    pub created: String,
    /// Who made it.
    #[serde(default, deserialize_with = "or_null")]
    pub author: String,
    /// What its programs run on.
    #[serde(flatten)]
    pub platform: Platform,
    /// Version of the operating system.
    #[serde(default, rename = "os.version", deserialize_with = "or_null")]
    pub os_version: String,
    /// What it needs of the operating system.
    #[serde(default, rename = "os.features", deserialize_with = "or_null")]
    pub os_features: Vec<String>,
    /// What its process is like.
    #[serde(default, deserialize_with = "or_null")]
    pub config: ProcessConfig,
    /// Its layers.
    #[serde(default, deserialize_with = "or_null")]
    pub(super) rootfs: RootFs,
}

/// What the process of an image is like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ProcessConfig {
    /// `user`, `uid`, `user:group` and so on.
    #[serde(deserialize_with = "or_null")]
    pub user: String,
    /// `port/protocol`.
    #[serde(deserialize_with = "keys")]
    pub exposed_ports: Vec<String>,
    /// `NAME=value`.
    #[serde(deserialize_with = "or_null")]
    pub env: Vec<String>,
    /// Its program, with arguments.
    #[serde(deserialize_with = "or_null")]
    pub entrypoint: Vec<String>,
    /// Further arguments.
    #[serde(deserialize_with = "or_null")]
    pub cmd: Vec<String>,
    /// Directories for data.
    #[serde(deserialize_with = "keys")]
    pub volumes: Vec<String>,
    /// Where it works.
    #[serde(deserialize_with = "or_null")]
    pub working_dir: String,
    /// Notes.
    #[serde(deserialize_with = "or_null")]
    pub labels: BTreeMap<String, String>,
    /// What asks it to end.
    #[serde(deserialize_with = "or_null")]
    pub stop_signal: String,
}

/// The layers of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct RootFs {
    #[serde(rename = "type", deserialize_with = "or_null")]
    pub(super) kind: String,
    #[serde(deserialize_with = "or_null")]
    pub(super) diff_ids: Vec<String>,
}

/// Reads a document.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, ImageError> {
    serde_json::from_slice(bytes).map_err(|source| ImageError::Json { what: what.to_owned(), source })
}

fn or_null<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(input: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(input)?.unwrap_or_default())
}

/// Go's way to write a set: an object whose values are empty.
fn keys<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    let set = Option::<BTreeMap<String, serde::de::IgnoredAny>>::deserialize(input)?;
    Ok(set.unwrap_or_default().into_keys().collect())
}

//! What a snapshot says about itself, in JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{Limit, SnapshotError, at_most};
use crate::limits::Limits;
use crate::ram::{self, Region};
use crate::spec;

/// The identity of a snapshot: the digest of its head, which holds the digests of all else.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnapshotId(pub [u8; spec::DIGEST_BYTES]);

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for SnapshotId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SnapshotId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes =
            blake3::Hash::from_hex(text.as_bytes()).map_err(|_| de::Error::custom("a digest in hex expected"))?;
        Ok(Self(*bytes.as_bytes()))
    }
}

/// What was saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A booted machine without an image.
    Base,
    /// A machine with an image's layers, perhaps with its process.
    Image,
    /// A running container.
    Container,
}

/// What the caller says about a machine that is saved. The format keeps it and gives it no meaning, but for `base`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// What was saved.
    pub kind: Kind,
    /// Program and version that saved it.
    pub software: String,
    /// When, in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// The hypervisor, as `--hypervisor` names it.
    pub hypervisor: String,
    /// CPU model that the guest sees.
    pub cpu_model: String,
    /// vCPUs.
    pub vcpus: u16,
    /// The device shape: one string for each device, in the order of the bus.
    pub devices: Vec<String>,
    /// The parts of the key that it was made for.
    pub key: BTreeMap<String, String>,
    /// The snapshot whose pages are beneath this one's; without it, all pages are here.
    pub base: Option<SnapshotId>,
}

impl About {
    fn check(&self) -> Result<(), SnapshotError> {
        at_most(Limit::ListEntries, self.devices.len() as u64, spec::LIST_MAX as u64)?;
        let strings = [&self.software, &self.hypervisor, &self.cpu_model].into_iter().chain(&self.devices);
        strings.into_iter().try_for_each(|string| text(string))?;
        check_key(&self.key)
    }
}

/// Whether a key fits a manifest.
pub(crate) fn check_key(key: &BTreeMap<String, String>) -> Result<(), SnapshotError> {
    at_most(Limit::ListEntries, key.len() as u64, spec::LIST_MAX as u64)?;
    key.iter().flat_map(|(name, value)| [name, value]).try_for_each(|string| text(string))
}

fn text(text: &str) -> Result<(), SnapshotError> {
    at_most(Limit::TextBytes, text.len() as u64, spec::TEXT_MAX as u64)?;
    if text.chars().any(char::is_control) { Err(SnapshotError::Text) } else { Ok(()) }
}

/// What the memory file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryRecord {
    /// Size of the pages that it is cut in.
    pub page_bytes: u32,
    /// RAM, in ascending order. The first region's first byte is the file's first byte; regions follow each other without gaps.
    pub regions: Vec<Region>,
    /// Bytes of pages that are not all zeros.
    pub stored_bytes: u64,
    /// Digest of those pages; also in the file's trailer.
    pub digest: SnapshotId,
}

impl MemoryRecord {
    /// Bytes of RAM.
    pub fn ram_bytes(&self) -> u64 {
        ram::total(&self.regions)
    }
}

/// All of the JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What the caller said.
    pub about: About,
    /// The memory file.
    pub memory: MemoryRecord,
}

impl Manifest {
    /// Parses and checks it.
    pub(crate) fn decode(json: &[u8], limits: &Limits) -> Result<Self, SnapshotError> {
        let manifest: Self = serde_json::from_slice(json).map_err(|source| SnapshotError::Manifest { source })?;
        manifest.check(limits)?;
        Ok(manifest)
    }

    /// Checks it, then gives the JSON.
    pub(crate) fn encode(&self, limits: &Limits) -> Result<Vec<u8>, SnapshotError> {
        self.check(limits)?;
        serde_json::to_vec(self).map_err(|source| SnapshotError::Manifest { source })
    }

    fn check(&self, limits: &Limits) -> Result<(), SnapshotError> {
        self.about.check()?;
        ram::check(&self.memory.regions, self.memory.page_bytes)?;
        at_most(Limit::RamBytes, self.memory.ram_bytes(), limits.ram_bytes)
    }
}

//! Saved state of a file system device.

use serde::{Deserialize, Serialize};

/// What the guest was told about the device; untrusted when it comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FsState {
    /// Name by which the guest mounts it.
    pub tag: String,
}

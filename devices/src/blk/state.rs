//! Saved state of a block device.

use serde::{Deserialize, Serialize};

/// What the guest was told about the device; untrusted when it comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlkState {
    /// Whether the device announced itself read-only.
    pub read_only: bool,
    /// Whether the device announced DISCARD and WRITE_ZEROES.
    pub discard: bool,
    /// Capacity in sectors at the time of the save.
    pub capacity_sectors: u64,
}

//! Saved state of a balloon.

use serde::{Deserialize, Serialize};

/// Sizes in pages of 4 KiB; untrusted when it comes back, but any value is possible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalloonState {
    /// What the host asked for.
    pub target_pages: u32,
    /// What the guest says it gave.
    pub actual_pages: u32,
}

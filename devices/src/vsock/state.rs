//! Saved state of a socket device.

use serde::{Deserialize, Serialize};

/// What outlives a save; untrusted when it comes back. Connections do not: the guest is told so on restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VsockState {
    /// The guest's context id.
    pub guest_cid: u64,
    /// Host port of the next connection the host makes; the guest may still hold all before it.
    pub next_port: u32,
    /// Whether the driver was ready.
    pub active: bool,
    /// Whether the guest may hold connections, and so has to hear of the reset.
    pub connected: bool,
}

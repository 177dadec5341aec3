//! Numbers of the file system device (virtio 1.2 §5.11) and the sizes of this one's queues.

/// Longest tag in bytes (§5.11.4).
pub const TAG_MAX: usize = 36;

/// The queue of requests that must not wait, in front of the one of all others (§5.11.2).
///
/// Linux limits a request to as many pages as the queue has entries, less four: 512 let it have the 256 that FUSE allows.
pub(super) const QUEUE_SIZES: &[u16] = &[128, 512];

// Offsets in the configuration space (§5.11.4).
pub(super) const CONFIG_NUM_REQUEST_QUEUES: usize = TAG_MAX;
pub(super) const CONFIG_SIZE: usize = CONFIG_NUM_REQUEST_QUEUES + 4;

/// Queues besides the first.
pub(super) const NUM_REQUEST_QUEUES: u32 = 1;

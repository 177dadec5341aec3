//! Numbers of the memory balloon (virtio 1.2 §5.5) and the limits this one keeps.

/// Unit of the balloon, whatever the guest's or host's page size is (§5.5.6).
pub const PAGE_SIZE: u64 = 4096;
pub(super) const PAGE_SHIFT: u32 = 12;

pub(super) const F_DEFLATE_ON_OOM: u64 = 1 << 2;
pub(super) const F_REPORTING: u64 = 1 << 5;

/// Inflate, deflate, reporting: the queues of features that are not offered have no index (drivers number the
/// queues they use without gaps).
pub(super) const QUEUE_SIZES: &[u16] = &[128, 128, 128];
pub(super) const INFLATE: usize = 0;
#[cfg(test)]
pub(super) const DEFLATE: usize = 1;
pub(super) const REPORTING: usize = 2;

// Configuration space (§5.5.4).
pub(super) const CONFIG_SIZE: usize = 8;
pub(super) const CONFIG_ACTUAL: u64 = 4;

/// Bytes of a page frame number in the inflate and deflate queues.
pub(super) const PFN_SIZE: usize = 4;
/// Most page frame numbers taken from one request; Linux sends 256.
pub(super) const MAX_PFNS: usize = 4096;
/// Requests handled in one call.
pub(super) const CALL_BUDGET: u64 = 64;

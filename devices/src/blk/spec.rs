//! Numbers of the block device (virtio 1.2 §5.2) and the limits this one announces.

/// Unit of all offsets and of the capacity (§5.2.4).
pub const SECTOR_SIZE: u64 = 512;

pub(super) const QUEUE_SIZES: &[u16] = &[256];

// Feature bits (§5.2.3), as masks.
pub(super) const F_SIZE_MAX: u64 = 1 << 1;
pub(super) const F_SEG_MAX: u64 = 1 << 2;
pub(super) const F_RO: u64 = 1 << 5;
pub(super) const F_BLK_SIZE: u64 = 1 << 6;
pub(super) const F_FLUSH: u64 = 1 << 9;
pub(super) const F_DISCARD: u64 = 1 << 13;
pub(super) const F_WRITE_ZEROES: u64 = 1 << 14;

// Offsets in the configuration space (§5.2.4).
pub(super) const CONFIG_SIZE: usize = 60;
pub(super) const CONFIG_CAPACITY: usize = 0;
pub(super) const CONFIG_SIZE_MAX: usize = 8;
pub(super) const CONFIG_SEG_MAX: usize = 12;
pub(super) const CONFIG_BLK_SIZE: usize = 20;
pub(super) const CONFIG_MAX_DISCARD_SECTORS: usize = 36;
pub(super) const CONFIG_MAX_DISCARD_SEG: usize = 40;
pub(super) const CONFIG_DISCARD_SECTOR_ALIGNMENT: usize = 44;
pub(super) const CONFIG_MAX_WRITE_ZEROES_SECTORS: usize = 48;
pub(super) const CONFIG_MAX_WRITE_ZEROES_SEG: usize = 52;

// Request types (§5.2.6).
pub(super) const T_IN: u32 = 0;
pub(super) const T_OUT: u32 = 1;
pub(super) const T_FLUSH: u32 = 4;
pub(super) const T_GET_ID: u32 = 8;
pub(super) const T_DISCARD: u32 = 11;
pub(super) const T_WRITE_ZEROES: u32 = 13;

// Status bytes (§5.2.6).
pub(super) const S_OK: u8 = 0;
pub(super) const S_IOERR: u8 = 1;
pub(super) const S_UNSUPP: u8 = 2;

/// type, reserved, sector.
pub(super) const HEADER_SIZE: usize = 16;
/// Bytes of the answer to GET_ID.
pub(super) const ID_SIZE: usize = 20;
/// One discard or write-zeroes segment: sector, num_sectors, flags.
pub(super) const RANGE_SIZE: usize = 16;

// Limits of this device.
/// Longest segment announced, in bytes.
pub(super) const SIZE_MAX: u32 = 256 * 1024;
/// Most data segments in a request: with header and status they fit in half of the queue.
pub(super) const SEG_MAX: u32 = 126;
/// No request with more data is carried out; it is what the two limits above allow.
pub(super) const MAX_DATA: u64 = SIZE_MAX as u64 * SEG_MAX as u64;
/// Most sectors in one discard or write-zeroes segment.
pub(super) const MAX_RANGE_SECTORS: u32 = 64 * 1024;
/// Most segments in one discard or write-zeroes request.
pub(super) const MAX_RANGES: u32 = 16;
/// Bytes moved in one call before others get their turn.
pub(super) const CALL_BUDGET: u64 = 32 * 1024 * 1024;
/// What a request costs besides its data, in bytes.
pub(super) const REQUEST_COST: u64 = 4096;

//! Register layout of virtio-mmio (virtio 1.2 §4.2.2, table 4.1).

/// Size of the region that a bus should give to one device.
pub const REGION_SIZE: u64 = 0x1000;

/// `"virt"`, little-endian.
pub(super) const MAGIC: u32 = 0x7472_6976;
/// Not the legacy interface.
pub(super) const VERSION: u32 = 2;
/// Free choice; `"SMVM"`, little-endian.
pub(super) const VENDOR_ID: u32 = 0x4d56_4d53;

pub(super) const MAGIC_VALUE: u64 = 0x000;
pub(super) const VERSION_REG: u64 = 0x004;
pub(super) const DEVICE_ID: u64 = 0x008;
pub(super) const VENDOR_ID_REG: u64 = 0x00c;
pub(super) const DEVICE_FEATURES: u64 = 0x010;
pub(super) const DEVICE_FEATURES_SEL: u64 = 0x014;
pub(super) const DRIVER_FEATURES: u64 = 0x020;
pub(super) const DRIVER_FEATURES_SEL: u64 = 0x024;
pub(super) const QUEUE_SEL: u64 = 0x030;
pub(super) const QUEUE_NUM_MAX: u64 = 0x034;
pub(super) const QUEUE_NUM: u64 = 0x038;
pub(super) const QUEUE_READY: u64 = 0x044;
pub(super) const QUEUE_NOTIFY: u64 = 0x050;
pub(super) const INTERRUPT_STATUS: u64 = 0x060;
pub(super) const INTERRUPT_ACK: u64 = 0x064;
pub(super) const STATUS: u64 = 0x070;
pub(super) const QUEUE_DESC_LOW: u64 = 0x080;
pub(super) const QUEUE_DESC_HIGH: u64 = 0x084;
pub(super) const QUEUE_DRIVER_LOW: u64 = 0x090;
pub(super) const QUEUE_DRIVER_HIGH: u64 = 0x094;
pub(super) const QUEUE_DEVICE_LOW: u64 = 0x0a0;
pub(super) const QUEUE_DEVICE_HIGH: u64 = 0x0a4;
pub(super) const SHM_LEN_LOW: u64 = 0x0b0;
pub(super) const SHM_LEN_HIGH: u64 = 0x0b4;
pub(super) const SHM_BASE_LOW: u64 = 0x0b8;
pub(super) const SHM_BASE_HIGH: u64 = 0x0bc;
pub(super) const CONFIG_GENERATION: u64 = 0x0fc;
pub(super) const CONFIG: u64 = 0x100;

/// A shared memory region that does not exist has length and base of all ones.
pub(super) const SHM_NONE: u32 = 0xffff_ffff;

/// The device used a buffer.
pub(super) const INTERRUPT_VRING: u32 = 1;
/// The configuration changed.
pub(super) const INTERRUPT_CONFIG: u32 = 2;

//! Numbers of virtio 1.2 that are not tied to one device type or transport.

/// Device types (virtio 1.2 §5).
pub mod device_type {
    /// Block device (§5.2).
    pub const BLOCK: u32 = 2;
    /// Entropy device (§5.4).
    pub const ENTROPY: u32 = 4;
    /// Traditional memory balloon (§5.5).
    pub const BALLOON: u32 = 5;
    /// Socket device (§5.10).
    pub const SOCKET: u32 = 19;
    /// File system device (§5.11).
    pub const FILE_SYSTEM: u32 = 26;
}

/// Bits of the device status field (§2.1).
pub mod status {
    /// The guest found the device.
    pub const ACKNOWLEDGE: u32 = 1;
    /// The guest knows how to drive it.
    pub const DRIVER: u32 = 2;
    /// The driver is ready.
    pub const DRIVER_OK: u32 = 4;
    /// Feature negotiation is complete.
    pub const FEATURES_OK: u32 = 8;
    /// The device met an error it cannot recover from.
    pub const DEVICE_NEEDS_RESET: u32 = 64;
    /// The guest gave up on the device.
    pub const FAILED: u32 = 128;
}

/// Device-independent feature bits (§6), as masks.
pub mod feature {
    /// Indirect descriptors.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// `used_event` and `avail_event`.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// Not a legacy device.
    pub const VERSION_1: u64 = 1 << 32;
}

/// Split virtqueue layout (§2.7).
pub mod ring {
    /// Bytes of one descriptor.
    pub const DESCRIPTOR_SIZE: u64 = 16;
    /// Alignment of the descriptor table.
    pub const DESCRIPTOR_ALIGN: u64 = 16;
    /// Alignment of the available ring.
    pub const AVAIL_ALIGN: u64 = 2;
    /// Alignment of the used ring.
    pub const USED_ALIGN: u64 = 4;
    /// Bytes of an available ring besides its elements: flags, idx, used_event.
    pub const AVAIL_META: u64 = 6;
    /// Bytes of an available ring element.
    pub const AVAIL_ELEMENT: u64 = 2;
    /// Bytes of a used ring besides its elements: flags, idx, avail_event.
    pub const USED_META: u64 = 6;
    /// Bytes of a used ring element.
    pub const USED_ELEMENT: u64 = 8;
    /// Offset of the first element in either ring.
    pub const RING_OFFSET: u64 = 4;
}

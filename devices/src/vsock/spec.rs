//! Numbers of the socket device (virtio 1.2 §5.10) and the limits this one keeps.

/// Context id of the host (§5.10.4).
pub(super) const HOST_CID: u64 = 2;
/// Smallest context id a guest can have; below are reserved ones.
pub(super) const MIN_GUEST_CID: u64 = 3;
/// Context ids have 32 bits, and all ones is "any".
pub(super) const MAX_GUEST_CID: u64 = 0xffff_fffe;

/// Receive, transmit and event queue (§5.10.2).
pub(super) const QUEUE_SIZES: &[u16] = &[256, 256, 16];

/// Bytes of a packet header (§5.10.6).
pub(super) const HEADER_SIZE: usize = 44;

/// Stream socket.
pub(super) const TYPE_STREAM: u16 = 1;

// Operations (§5.10.6).
pub(super) const OP_REQUEST: u16 = 1;
pub(super) const OP_RESPONSE: u16 = 2;
pub(super) const OP_RST: u16 = 3;
pub(super) const OP_SHUTDOWN: u16 = 4;
pub(super) const OP_RW: u16 = 5;
pub(super) const OP_CREDIT_UPDATE: u16 = 6;
pub(super) const OP_CREDIT_REQUEST: u16 = 7;

// Flags of OP_SHUTDOWN (§5.10.6.5): the sender will not receive, will not send.
pub(super) const SHUTDOWN_RECEIVE: u32 = 1;
pub(super) const SHUTDOWN_SEND: u32 = 2;

/// Event: all connections are gone (§5.10.6.7).
pub(super) const EVENT_TRANSPORT_RESET: u32 = 0;

// Limits of this device.
/// Most connections, those that still drain to the host included.
pub(super) const MAX_CONNECTIONS: usize = 1024;
/// Bytes a connection holds for a host end that does not take them.
pub(super) const BUF_ALLOC: u32 = 256 * 1024;
/// The guest hears of freed buffer space after this many bytes at the latest.
pub(super) const CREDIT_STEP: u32 = BUF_ALLOC / 4;
/// Most payload in one packet.
pub(super) const MAX_PAYLOAD: usize = 64 * 1024;
/// Resets waiting for a receive buffer before the device stops taking packets.
pub(super) const MAX_RESETS: usize = 256;
/// Packets taken, and packets given, in one call.
pub(super) const CALL_BUDGET: u32 = 512;

/// Host ports of connections that the host makes: far from the ports that services use.
pub(super) const FIRST_HOST_PORT: u32 = 0x4000_0000;
pub(super) const LAST_HOST_PORT: u32 = 0x7fff_ffff;

//! Numbers of the protocol, as `docs/agent-protocol.md` gives them.

/// The protocol's version; peers that differ do not talk.
pub const VERSION: u32 = 3;
/// The vsock port on which the agent listens in the guest, and on which the host awaits its ready call.
pub const AGENT_PORT: u32 = 1028;
/// The vsock address (CID) of every guest.
pub const GUEST_CID: u32 = 3;
/// The vsock address (CID) of the host.
pub const HOST_CID: u32 = 2;

/// Bytes before a frame's payload: type and length.
pub const HEADER_LEN: usize = 5;
/// Largest payload of any frame, in bytes. A decoder may be told to accept less.
pub const MAX_PAYLOAD: u32 = 16 << 20;
/// Largest payload that the agent accepts before the hellos are done, in bytes.
pub const MAX_HELLO: u32 = 64 << 10;
/// Largest payload that the agent accepts while a process runs, in bytes: a whole window of stdin.
pub const MAX_STDIN: u32 = WINDOW;
/// Largest stdout or stderr payload that the agent sends, in bytes.
pub const MAX_OUTPUT: u32 = 64 << 10;

/// Bytes of each stream of a process that may be under way before its reader has said that it takes more.
pub const WINDOW: u32 = 256 << 10;

/// Most data of one read or write of the container's files by the host, in bytes.
pub const FUSE_DATA: u32 = 128 << 10;
/// Largest FUSE message, in bytes: the data and what is around them.
pub const MAX_FUSE: u32 = FUSE_DATA + 4096;

/// Name of the virtio-fs device that shows all shared directories and files of the host, each under its number.
pub const SHARES_TAG: &str = "shares";
/// Most layers of a root file system: a disk of Linux has as many partitions.
pub const LAYERS_MAX: usize = 255;
/// Most mounts of a container's furnishings: their descriptors go through one message, which takes 253 (`SCM_MAX_FD`).
pub const SHARED_MOUNTS_MAX: usize = 128;

/// `PATH` used for the look-up of a program if the request's environment has none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Type byte of [`FrameKind::Stdin`](crate::FrameKind::Stdin).
pub const TYPE_STDIN: u8 = 0;
/// Type byte of [`FrameKind::Stdout`](crate::FrameKind::Stdout).
pub const TYPE_STDOUT: u8 = 1;
/// Type byte of [`FrameKind::Stderr`](crate::FrameKind::Stderr).
pub const TYPE_STDERR: u8 = 2;
/// Type byte of [`FrameKind::Resize`](crate::FrameKind::Resize).
pub const TYPE_RESIZE: u8 = 3;
/// Type byte of [`FrameKind::Signal`](crate::FrameKind::Signal).
pub const TYPE_SIGNAL: u8 = 4;
/// Type byte of [`FrameKind::Exit`](crate::FrameKind::Exit).
pub const TYPE_EXIT: u8 = 5;
/// Type byte of [`FrameKind::Error`](crate::FrameKind::Error).
pub const TYPE_ERROR: u8 = 6;
/// Type byte of [`FrameKind::Window`](crate::FrameKind::Window).
pub const TYPE_WINDOW: u8 = 7;
/// Type byte of [`FrameKind::Close`](crate::FrameKind::Close).
pub const TYPE_CLOSE: u8 = 8;
/// Type byte of [`FrameKind::Fuse`](crate::FrameKind::Fuse).
pub const TYPE_FUSE: u8 = 9;
/// Type byte of [`FrameKind::Control`](crate::FrameKind::Control).
pub const TYPE_CONTROL: u8 = 0xfe;
/// Type byte of [`FrameKind::Request`](crate::FrameKind::Request).
pub const TYPE_REQUEST: u8 = 0xff;

/// First byte of an exit frame's payload: the process called exit.
pub const EXIT_EXITED: u8 = 0;
/// First byte of an exit frame's payload: a signal ended the process.
pub const EXIT_SIGNALED: u8 = 1;

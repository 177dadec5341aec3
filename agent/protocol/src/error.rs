//! What can be wrong with a frame.

use crate::FrameKind;

/// Errors of the codec. After one, the rest of the byte stream has no meaning: close the connection.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The type byte is not one of the protocol.
    #[error("unknown frame type {0:#04x}")]
    UnknownKind(u8),
    /// The length field is above what the reader accepts, or what the protocol allows.
    #[error("{kind} frame of {len} bytes, {max} are allowed")]
    TooLong {
        /// The frame's type.
        kind: FrameKind,
        /// Its length in bytes.
        len: u64,
        /// The limit in bytes.
        max: u32,
    },
    /// A frame of fixed length has another one.
    #[error("{kind} frame of {len} bytes, {want} are expected")]
    WrongLength {
        /// The frame's type.
        kind: FrameKind,
        /// Its length in bytes.
        len: u64,
        /// The length it must have.
        want: u32,
    },
    /// The frame is not of the type that is due.
    #[error("{got} frame, {want} is due")]
    WrongKind {
        /// What came.
        got: FrameKind,
        /// What was due.
        want: FrameKind,
    },
    /// The first byte of an exit frame is not one of the protocol.
    #[error("unknown exit kind {0}")]
    UnknownExit(u8),
    /// The byte that should name a stream names none.
    #[error("unknown stream {0}")]
    UnknownStream(u8),
    /// A JSON payload does not parse, or is not the message that is due.
    #[error("bad JSON in {kind} frame")]
    Json {
        /// The frame's type.
        kind: FrameKind,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// The decoder was used again after an error.
    #[error("the stream was already refused")]
    Poisoned,
}

//! One frame: its type, its header, and how it is written.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::FrameError;
use crate::spec;

/// The types of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// Bytes for the process's standard input; an empty one closes it.
    Stdin = spec::TYPE_STDIN,
    /// Bytes of the process's standard output; an empty one says it is at its end.
    Stdout = spec::TYPE_STDOUT,
    /// Bytes of the process's standard error; an empty one says it is at its end.
    Stderr = spec::TYPE_STDERR,
    /// A new terminal size, see [`WindowSize`](crate::WindowSize).
    Resize = spec::TYPE_RESIZE,
    /// A signal for the process, see [`Signal`](crate::Signal).
    Signal = spec::TYPE_SIGNAL,
    /// How the process ended, see [`ExitStatus`](crate::ExitStatus).
    Exit = spec::TYPE_EXIT,
    /// What went wrong, JSON, see [`ErrorReply`](crate::ErrorReply).
    Error = spec::TYPE_ERROR,
    /// The reader of a stream takes more of it, see [`Window`](crate::Window).
    Window = spec::TYPE_WINDOW,
    /// The reader of a stream wants no more of it, see [`Close`](crate::Close).
    Close = spec::TYPE_CLOSE,
    /// One FUSE message of `linux/fuse.h`: a request of the host's kernel, or the reply to one.
    Fuse = spec::TYPE_FUSE,
    /// A hello or a reply, JSON, see [`Control`](crate::Control).
    Control = spec::TYPE_CONTROL,
    /// What is asked for, JSON, see [`Request`](crate::Request).
    Request = spec::TYPE_REQUEST,
}

impl FrameKind {
    /// The type byte.
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// The length that a payload of this type must have in bytes, if it is fixed.
    pub const fn fixed_len(self) -> Option<u32> {
        match self {
            Self::Resize | Self::Signal => Some(4),
            Self::Exit | Self::Window => Some(5),
            Self::Close => Some(1),
            _ => None,
        }
    }

    /// The type's name, for logs and errors.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdin => "stdin",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Resize => "resize",
            Self::Signal => "signal",
            Self::Exit => "exit",
            Self::Error => "error",
            Self::Window => "window",
            Self::Close => "close",
            Self::Fuse => "fuse",
            Self::Control => "control",
            Self::Request => "request",
        }
    }
}

impl TryFrom<u8> for FrameKind {
    type Error = FrameError;

    fn try_from(byte: u8) -> Result<Self, FrameError> {
        Ok(match byte {
            spec::TYPE_STDIN => Self::Stdin,
            spec::TYPE_STDOUT => Self::Stdout,
            spec::TYPE_STDERR => Self::Stderr,
            spec::TYPE_RESIZE => Self::Resize,
            spec::TYPE_SIGNAL => Self::Signal,
            spec::TYPE_EXIT => Self::Exit,
            spec::TYPE_ERROR => Self::Error,
            spec::TYPE_WINDOW => Self::Window,
            spec::TYPE_CLOSE => Self::Close,
            spec::TYPE_FUSE => Self::Fuse,
            spec::TYPE_CONTROL => Self::Control,
            spec::TYPE_REQUEST => Self::Request,
            other => return Err(FrameError::UnknownKind(other)),
        })
    }
}

impl fmt::Display for FrameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The five bytes before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The frame's type.
    pub kind: FrameKind,
    /// Payload length in bytes.
    pub len: u32,
}

impl Header {
    /// Reads a header and refuses a length above `max` or one that the type forbids.
    pub fn parse(bytes: [u8; spec::HEADER_LEN], max: u32) -> Result<Self, FrameError> {
        let [kind, len @ ..] = bytes;
        let kind = FrameKind::try_from(kind)?;
        Self::checked(kind, u64::from(u32::from_be_bytes(len)), max)
    }

    /// The header's bytes.
    pub const fn bytes(self) -> [u8; spec::HEADER_LEN] {
        let [a, b, c, d] = self.len.to_be_bytes();
        [self.kind.byte(), a, b, c, d]
    }

    fn checked(kind: FrameKind, len: u64, max: u32) -> Result<Self, FrameError> {
        let max = max.min(spec::MAX_PAYLOAD);
        match (kind.fixed_len(), u32::try_from(len)) {
            (Some(want), short) if short != Ok(want) => Err(FrameError::WrongLength { kind, len, want }),
            (_, Ok(short)) if short <= max => Ok(Self { kind, len: short }),
            _ => Err(FrameError::TooLong { kind, len, max }),
        }
    }
}

/// A whole frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The frame's type.
    pub kind: FrameKind,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame whose payload is `message` as JSON.
    pub fn json<T: Serialize>(kind: FrameKind, message: &T) -> Result<Self, FrameError> {
        let payload = serde_json::to_vec(message).map_err(|source| FrameError::Json { kind, source })?;
        Ok(Self { kind, payload })
    }

    /// Appends the frame's bytes to `out`; nothing is appended if it is too long.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FrameError> {
        encode_frame(self.kind, &self.payload, out)
    }

    /// Gives the frame back if it is of type `want`.
    pub fn expect(self, want: FrameKind) -> Result<Self, FrameError> {
        if self.kind == want { Ok(self) } else { Err(FrameError::WrongKind { got: self.kind, want }) }
    }

    /// Parses the payload as JSON.
    pub fn parse_json<T: DeserializeOwned>(&self) -> Result<T, FrameError> {
        serde_json::from_slice(&self.payload).map_err(|source| FrameError::Json { kind: self.kind, source })
    }
}

/// Appends a frame's bytes to `out`; nothing is appended if the payload is longer than the protocol or the type allows.
pub fn encode_frame(kind: FrameKind, payload: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
    let len = u64::try_from(payload.len()).unwrap_or(u64::MAX);
    let header = Header::checked(kind, len, spec::MAX_PAYLOAD)?;
    out.reserve(spec::HEADER_LEN.saturating_add(payload.len()));
    out.extend_from_slice(&header.bytes());
    out.extend_from_slice(payload);
    Ok(())
}

/// Appends a frame with `message` as JSON to `out`; nothing is appended if that is too long.
pub fn encode_json<T: Serialize>(kind: FrameKind, message: &T, out: &mut Vec<u8>) -> Result<(), FrameError> {
    Frame::json(kind, message)?.encode(out)
}

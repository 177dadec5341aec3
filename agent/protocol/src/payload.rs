//! Payloads that are not JSON: window size, signal, exit status.

use serde::{Deserialize, Serialize};

use crate::spec::{EXIT_EXITED, EXIT_SIGNALED};
use crate::{Frame, FrameError, FrameKind};

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

/// A signal by its Linux number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(pub u32);

/// One of a process's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard input: the agent reads it.
    Stdin,
    /// Standard output: the host reads it.
    Stdout,
    /// Standard error: the host reads it.
    Stderr,
}

impl Stream {
    /// The kind of the frames that carry this stream; its type byte names the stream in other frames.
    pub const fn kind(self) -> FrameKind {
        match self {
            Self::Stdin => FrameKind::Stdin,
            Self::Stdout => FrameKind::Stdout,
            Self::Stderr => FrameKind::Stderr,
        }
    }

    fn from_byte(byte: u8) -> Result<Self, FrameError> {
        match FrameKind::try_from(byte)? {
            FrameKind::Stdin => Ok(Self::Stdin),
            FrameKind::Stdout => Ok(Self::Stdout),
            FrameKind::Stderr => Ok(Self::Stderr),
            _ => Err(FrameError::UnknownStream(byte)),
        }
    }
}

/// The reader of a stream took `bytes` bytes and can take as many more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Which stream.
    pub stream: Stream,
    /// Bytes.
    pub bytes: u32,
}

/// The reader of a stream will read no more of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close(pub Stream);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// It called exit with this status.
    Exited(u32),
    /// The signal of this number ended it.
    Signaled(u32),
}

impl ExitStatus {
    /// The status as shells and container tools give it: a signal counts as 128 plus its number.
    pub const fn shell_status(self) -> u32 {
        match self {
            Self::Exited(status) => status,
            Self::Signaled(number) => number.saturating_add(128),
        }
    }
}

impl From<WindowSize> for Frame {
    fn from(size: WindowSize) -> Self {
        let mut payload = size.rows.to_be_bytes().to_vec();
        payload.extend_from_slice(&size.cols.to_be_bytes());
        Self { kind: FrameKind::Resize, payload }
    }
}

impl TryFrom<&Frame> for WindowSize {
    type Error = FrameError;

    fn try_from(frame: &Frame) -> Result<Self, FrameError> {
        let [a, b, c, d] = fixed(frame, FrameKind::Resize)?;
        Ok(Self { rows: u16::from_be_bytes([a, b]), cols: u16::from_be_bytes([c, d]) })
    }
}

impl From<Signal> for Frame {
    fn from(signal: Signal) -> Self {
        Self { kind: FrameKind::Signal, payload: signal.0.to_be_bytes().to_vec() }
    }
}

impl TryFrom<&Frame> for Signal {
    type Error = FrameError;

    fn try_from(frame: &Frame) -> Result<Self, FrameError> {
        fixed(frame, FrameKind::Signal).map(|bytes| Self(u32::from_be_bytes(bytes)))
    }
}

impl From<Window> for Frame {
    fn from(window: Window) -> Self {
        let mut payload = vec![window.stream.kind().byte()];
        payload.extend_from_slice(&window.bytes.to_be_bytes());
        Self { kind: FrameKind::Window, payload }
    }
}

impl TryFrom<&Frame> for Window {
    type Error = FrameError;

    fn try_from(frame: &Frame) -> Result<Self, FrameError> {
        let [stream, bytes @ ..] = fixed::<5>(frame, FrameKind::Window)?;
        Ok(Self { stream: Stream::from_byte(stream)?, bytes: u32::from_be_bytes(bytes) })
    }
}

impl From<Close> for Frame {
    fn from(close: Close) -> Self {
        Self { kind: FrameKind::Close, payload: vec![close.0.kind().byte()] }
    }
}

impl TryFrom<&Frame> for Close {
    type Error = FrameError;

    fn try_from(frame: &Frame) -> Result<Self, FrameError> {
        let [stream] = fixed(frame, FrameKind::Close)?;
        Stream::from_byte(stream).map(Self)
    }
}

impl From<ExitStatus> for Frame {
    fn from(status: ExitStatus) -> Self {
        let (kind, value) = match status {
            ExitStatus::Exited(status) => (EXIT_EXITED, status),
            ExitStatus::Signaled(number) => (EXIT_SIGNALED, number),
        };
        let mut payload = vec![kind];
        payload.extend_from_slice(&value.to_be_bytes());
        Self { kind: FrameKind::Exit, payload }
    }
}

impl TryFrom<&Frame> for ExitStatus {
    type Error = FrameError;

    fn try_from(frame: &Frame) -> Result<Self, FrameError> {
        let [kind, value @ ..] = fixed::<5>(frame, FrameKind::Exit)?;
        let value = u32::from_be_bytes(value);
        match kind {
            EXIT_EXITED => Ok(Self::Exited(value)),
            EXIT_SIGNALED => Ok(Self::Signaled(value)),
            other => Err(FrameError::UnknownExit(other)),
        }
    }
}

fn fixed<const N: usize>(frame: &Frame, want: FrameKind) -> Result<[u8; N], FrameError> {
    if frame.kind != want {
        return Err(FrameError::WrongKind { got: frame.kind, want });
    }
    <[u8; N]>::try_from(frame.payload.as_slice()).map_err(|_| FrameError::WrongLength {
        kind: want,
        len: u64::try_from(frame.payload.len()).unwrap_or(u64::MAX),
        want: u32::try_from(N).unwrap_or(u32::MAX),
    })
}

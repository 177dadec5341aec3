//! The protocol over blocking streams: anything that is `Read` and `Write`.
//!
//! [`FrameReader`] and [`FrameWriter`] are the two directions, for two threads; [`Connection`] is both, for one.

use std::io::{self, Read, Write};

use serde::Serialize;

use crate::spec::{HEADER_LEN, VERSION};
use crate::{
    Control, ErrorCode, ErrorReply, Frame, FrameError, FrameKind, Header, Hello, Request, encode_frame, encode_json,
};

/// Errors of a conversation.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The stream failed.
    #[error("connection failed")]
    Io(#[from] io::Error),
    /// The peer sent something that is not a frame, or not the one that is due.
    #[error("the peer broke the protocol")]
    Frame(#[from] FrameError),
    /// The stream ended where a frame was due.
    #[error("the peer closed the connection")]
    Closed,
    /// The peer speaks another version.
    #[error("the peer speaks protocol version {theirs}, this program {VERSION}")]
    Version {
        /// The peer's version.
        theirs: u32,
    },
    /// The peer answered with an error frame.
    #[error(transparent)]
    Refused(ErrorReply),
    /// The peer gave a reply to something else.
    #[error("unexpected reply {0:?}")]
    Unexpected(Control),
}

/// Writes one frame.
pub fn write_frame(to: &mut impl Write, kind: FrameKind, payload: &[u8]) -> Result<(), ConnectionError> {
    let mut bytes = Vec::new();
    encode_frame(kind, payload, &mut bytes)?;
    Ok(to.write_all(&bytes)?)
}

/// Reads one frame of at most `max_payload` bytes; `None` if the stream ends before its first byte.
pub fn read_frame(from: &mut impl Read, max_payload: u32) -> Result<Option<Frame>, ConnectionError> {
    let mut bytes = [0; HEADER_LEN];
    let mut have = 0;
    while let Some(free) = bytes.get_mut(have..).filter(|free| !free.is_empty()) {
        match from.read(free) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(ConnectionError::Closed),
            Ok(count) => have = have.saturating_add(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The peer closed without reading all of ours; everything it sent before was read.
            Err(error) if have == 0 && error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    let header = Header::parse(bytes, max_payload)?;
    let mut payload = Vec::new();
    let count = from.take(u64::from(header.len)).read_to_end(&mut payload)?;
    if u64::try_from(count).ok() != Some(u64::from(header.len)) {
        return Err(ConnectionError::Closed);
    }
    Ok(Some(Frame { kind: header.kind, payload }))
}

/// The receiving direction.
#[derive(Debug)]
pub struct FrameReader<R> {
    from: R,
    max_payload: u32,
}

impl<R: Read> FrameReader<R> {
    /// Reads frames of at most `max_payload` bytes from `from`.
    pub fn new(from: R, max_payload: u32) -> Self {
        Self { from, max_payload }
    }

    /// The next frame, or `None` at the end of the stream.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ConnectionError> {
        read_frame(&mut self.from, self.max_payload)
    }

    /// The next frame, where one must come.
    pub fn frame(&mut self) -> Result<Frame, ConnectionError> {
        self.next_frame()?.ok_or(ConnectionError::Closed)
    }

    /// The stream.
    pub fn get_ref(&self) -> &R {
        &self.from
    }

    /// The stream back; no byte is buffered.
    pub fn into_inner(self) -> R {
        self.from
    }
}

/// The sending direction.
#[derive(Debug)]
pub struct FrameWriter<W> {
    to: W,
    bytes: Vec<u8>,
}

impl<W: Write> FrameWriter<W> {
    /// Writes frames to `to`.
    pub fn new(to: W) -> Self {
        Self { to, bytes: Vec::new() }
    }

    /// Sends a frame with this payload.
    pub fn send(&mut self, kind: FrameKind, payload: &[u8]) -> Result<(), ConnectionError> {
        self.bytes.clear();
        encode_frame(kind, payload, &mut self.bytes)?;
        Ok(self.to.write_all(&self.bytes)?)
    }

    /// Sends a frame, for example `WindowSize { .. }` or `Signal(15)`.
    pub fn send_frame(&mut self, frame: impl Into<Frame>) -> Result<(), ConnectionError> {
        let frame = frame.into();
        self.send(frame.kind, &frame.payload)
    }

    /// Sends a frame with `message` as JSON.
    pub fn send_json<T: Serialize>(&mut self, kind: FrameKind, message: &T) -> Result<(), ConnectionError> {
        self.bytes.clear();
        encode_json(kind, message, &mut self.bytes)?;
        Ok(self.to.write_all(&self.bytes)?)
    }

    /// The stream.
    pub fn get_ref(&self) -> &W {
        &self.to
    }

    /// The stream back; no byte is buffered.
    pub fn into_inner(self) -> W {
        self.to
    }
}

/// Both directions of one conversation.
#[derive(Debug)]
pub struct Connection<R, W> {
    /// The receiving direction.
    pub reader: FrameReader<R>,
    /// The sending direction.
    pub writer: FrameWriter<W>,
}

impl<R: Read, W: Write> Connection<R, W> {
    /// A conversation over two halves of a stream, for example a socket and its `try_clone`, or `&socket` twice.
    pub fn new(from: R, to: W, max_payload: u32) -> Self {
        Self { reader: FrameReader::new(from, max_payload), writer: FrameWriter::new(to) }
    }

    /// Exchanges hellos, from either side; gives the peer's.
    ///
    /// A peer of another version is told so in an error frame.
    pub fn hello(&mut self, ours: &Hello) -> Result<Hello, ConnectionError> {
        self.writer.send_json(FrameKind::Control, &Control::Hello(ours.clone()))?;
        let theirs = match self.reply()? {
            Control::Hello(theirs) => theirs,
            other => return Err(ConnectionError::Unexpected(other)),
        };
        if theirs.version == VERSION {
            return Ok(theirs);
        }
        let message = format!("protocol version {} is not spoken here, only {VERSION}", theirs.version);
        let reply = ErrorReply { code: ErrorCode::BadVersion, errno: None, message };
        // A peer that has gone already needs no telling.
        let _ = self.writer.send_json(FrameKind::Error, &reply);
        Err(ConnectionError::Version { theirs: theirs.version })
    }

    /// Sends a request and gives the agent's answer to it.
    pub fn request(&mut self, request: &Request) -> Result<Control, ConnectionError> {
        self.writer.send_json(FrameKind::Request, request)?;
        self.reply()
    }

    /// Sends a request that is answered with [`Control::Ok`] or [`Control::Pong`].
    pub fn request_done(&mut self, request: &Request) -> Result<(), ConnectionError> {
        match self.request(request)? {
            Control::Ok {} | Control::Pong {} => Ok(()),
            other => Err(ConnectionError::Unexpected(other)),
        }
    }

    /// Sends an exec request and gives the process id once the process runs.
    pub fn exec(&mut self, exec: crate::Exec) -> Result<u32, ConnectionError> {
        match self.request(&Request::Exec(exec))? {
            Control::Started { pid } => Ok(pid),
            other => Err(ConnectionError::Unexpected(other)),
        }
    }

    /// Reads one control frame; an error frame becomes [`ConnectionError::Refused`].
    pub fn reply(&mut self) -> Result<Control, ConnectionError> {
        let frame = self.reader.frame()?;
        if frame.kind == FrameKind::Error {
            return Err(ConnectionError::Refused(frame.parse_json()?));
        }
        Ok(frame.expect(FrameKind::Control)?.parse_json()?)
    }
}

//! A blocking client of the control socket.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use supermachine_agent_protocol::blocking::{ConnectionError, FrameReader, FrameWriter};
use supermachine_agent_protocol::{ErrorReply, Exec, FrameError, FrameKind, Hello};

use crate::{FRAME_MAX, Reply, Request, VERSION};

/// Errors of a conversation with a vmm.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No vmm listens there.
    #[error("cannot connect to the control socket {}", path.display())]
    Connect {
        /// Which socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The stream or its framing failed.
    #[error("control connection")]
    Connection(#[from] ConnectionError),
    /// The vmm refused the request.
    #[error(transparent)]
    Refused(ErrorReply),
    /// The vmm speaks another version.
    #[error("the vmm speaks control protocol version {theirs}, this program {VERSION}")]
    Version {
        /// The vmm's version.
        theirs: u32,
    },
    /// The vmm gave a reply to something else.
    #[error("unexpected reply {0:?}")]
    Unexpected(Box<Reply>),
}

impl From<FrameError> for ClientError {
    fn from(error: FrameError) -> Self {
        Self::Connection(error.into())
    }
}

/// One connection to a vmm, after the hellos.
#[derive(Debug)]
pub struct Client {
    reader: FrameReader<UnixStream>,
    writer: FrameWriter<UnixStream>,
}

impl Client {
    /// Connects and exchanges hellos; `software` names this program to the vmm.
    pub fn connect(path: &Path, software: &str) -> Result<Self, ClientError> {
        let connect = |source| ClientError::Connect { path: path.to_owned(), source };
        let stream = UnixStream::connect(path).map_err(connect)?;
        let writer = FrameWriter::new(stream.try_clone().map_err(connect)?);
        let mut client = Self { reader: FrameReader::new(stream, FRAME_MAX), writer };
        let hello = Hello { version: VERSION, software: software.to_owned(), kernel: None };
        client.writer.send_json(FrameKind::Control, &Reply::Hello(hello))?;
        match client.reply()? {
            Reply::Hello(theirs) if theirs.version == VERSION => Ok(client),
            Reply::Hello(theirs) => Err(ClientError::Version { theirs: theirs.version }),
            other => Err(ClientError::Unexpected(Box::new(other))),
        }
    }

    /// Sends a request and waits for its reply.
    pub fn request(&mut self, request: &Request) -> Result<Reply, ClientError> {
        self.writer.send_json(FrameKind::Request, request)?;
        self.reply()
    }

    /// Starts a process; the two directions of the connection are then its streams. Gives its process id too.
    pub fn exec(mut self, exec: Exec) -> Result<(FrameReader<UnixStream>, FrameWriter<UnixStream>, u32), ClientError> {
        match self.request(&Request::Exec(Box::new(exec)))? {
            Reply::Started { pid } => Ok((self.reader, self.writer, pid)),
            other => Err(ClientError::Unexpected(Box::new(other))),
        }
    }

    fn reply(&mut self) -> Result<Reply, ClientError> {
        let frame = self.reader.frame()?;
        if frame.kind == FrameKind::Error {
            return Err(ClientError::Refused(frame.parse_json()?));
        }
        Ok(frame.expect(FrameKind::Control)?.parse_json()?)
    }
}

//! A blocking client of the control socket.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde::Serialize;
use supermachine_agent_protocol::blocking::{ConnectionError, FrameReader, FrameWriter};
use supermachine_agent_protocol::{ErrorReply, Exec, FrameError, FrameKind, Hello};

use crate::{FRAME_MAX, Reply, Request, VERSION, files};

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
        Self::from_stream(UnixStream::connect(path).map_err(connect)?, software)
    }

    /// Exchanges hellos on a connection that exists already, such as the other end of `--control-fd`.
    pub fn from_stream(stream: UnixStream, software: &str) -> Result<Self, ClientError> {
        let writer = FrameWriter::new(stream.try_clone().map_err(ConnectionError::from)?);
        let mut client = Self { reader: FrameReader::new(stream, FRAME_MAX), writer };
        let hello = Hello { version: VERSION, software: software.to_owned(), kernel: None };
        match client.send_and_read(FrameKind::Control, &Reply::Hello(hello))? {
            Reply::Hello(theirs) if theirs.version == VERSION => Ok(client),
            Reply::Hello(theirs) => Err(ClientError::Version { theirs: theirs.version }),
            other => Err(ClientError::Unexpected(Box::new(other))),
        }
    }

    /// Sends a request and waits for its reply.
    pub fn request(&mut self, request: &Request) -> Result<Reply, ClientError> {
        self.send_and_read(FrameKind::Request, request)
    }

    /// Passes open files, whose numbers on this connection go on from those before.
    pub fn files(&mut self, files: &[BorrowedFd<'_>]) -> Result<(), ClientError> {
        let count = u32::try_from(files.len()).unwrap_or(u32::MAX);
        let told = self.writer.send_json(FrameKind::Request, &Request::Files { count });
        let passed = told.and_then(|()| Ok(files::send(self.writer.get_ref(), files)?));
        match (passed, self.reply()) {
            (_, Ok(Reply::Ok {})) => Ok(()),
            (_, Ok(other)) => Err(ClientError::Unexpected(Box::new(other))),
            // Why it took no more counts, not that.
            (Err(error), Err(ClientError::Connection(_))) => Err(error.into()),
            (_, Err(error)) => Err(error),
        }
    }

    /// The connection, for timeouts and the like.
    pub fn stream(&self) -> &UnixStream {
        self.writer.get_ref()
    }

    /// Starts a process; the two directions of the connection are then its streams. Gives its process id too.
    pub fn exec(mut self, exec: Exec) -> Result<(FrameReader<UnixStream>, FrameWriter<UnixStream>, u32), ClientError> {
        match self.request(&Request::Exec(Box::new(exec)))? {
            Reply::Started { pid } => Ok((self.reader, self.writer, pid)),
            other => Err(ClientError::Unexpected(Box::new(other))),
        }
    }

    /// A vmm that ends says why before it does, and then takes no more: its last words count, not our failure to send.
    fn send_and_read<T: Serialize>(&mut self, kind: FrameKind, message: &T) -> Result<Reply, ClientError> {
        match (self.writer.send_json(kind, message), self.reply()) {
            (Err(error), Err(ClientError::Connection(_))) => Err(error.into()),
            (_, reply) => reply,
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

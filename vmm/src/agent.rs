//! Conversations with the agent in the guest: one vsock connection each.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use supermachine_agent_protocol::blocking::{Connection, ConnectionError, FrameReader};
use supermachine_agent_protocol::spec::{AGENT_PORT, MAX_HELLO, VERSION};
use supermachine_agent_protocol::{Control, FrameKind, Hello, Request};
use supermachine_devices::vsock::{ConnectError, Vsock};

use crate::attach::Attached;
use crate::backend::vsock::Streams;
use crate::leash::Cut;

/// How this program names itself to peers.
pub const SOFTWARE: &str = concat!("supermachine-vmm ", env!("CARGO_PKG_VERSION"));
/// Largest frame that the vmm takes from the agent, bytes. Output frames have at most 64 KiB.
const FRAME_MAX: u32 = 1 << 20;
/// How long the agent's first call may take to say hello.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// A conversation that failed.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The host has no socket to give.
    #[error("cannot make a socket for the agent")]
    Socket(#[from] io::Error),
    /// The vsock device took no more connections.
    #[error("cannot call the agent")]
    Connect(#[from] ConnectError),
    /// The agent refused, or broke the protocol.
    #[error(transparent)]
    Conversation(#[from] ConnectionError),
    /// The conversation was cut short.
    #[error(transparent)]
    Cut(#[from] Cut),
}

/// A conversation with the agent, after the hellos.
pub type Link = Connection<UnixStream, UnixStream>;

/// Makes connections to the agent.
#[derive(Clone)]
pub struct Agent {
    vsock: Arc<Attached<Vsock>>,
    streams: Arc<Streams>,
    /// A conversation that has come as far as the hellos.
    kept: Arc<Mutex<Option<Link>>>,
}

impl Agent {
    /// An agent behind this vsock device.
    pub fn new(vsock: Arc<Attached<Vsock>>, streams: Arc<Streams>) -> Self {
        Self { vsock, streams, kept: Arc::default() }
    }

    /// Keeps a conversation whose next request is still to come, for whoever asks next.
    pub fn keep(&self, link: Link) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(link);
    }

    /// The conversation that was kept, if one was.
    pub fn kept(&self) -> Option<Link> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Calls the agent and exchanges hellos. Blocks while the guest does not answer.
    pub fn call(&self) -> Result<Link, AgentError> {
        Self::greet(self.dial()?)
    }

    /// Opens a stream to the agent, whose hello is still to come.
    pub fn dial(&self) -> Result<UnixStream, AgentError> {
        self.connect(AGENT_PORT)
    }

    /// Exchanges hellos.
    pub fn greet(socket: UnixStream) -> Result<Link, AgentError> {
        let mut link = Connection::new(socket.try_clone()?, socket, FRAME_MAX);
        link.hello(&Hello::new(SOFTWARE))?;
        Ok(link)
    }

    /// Asks the guest to end in good order; returns when it has begun to. Blocks while the guest does not answer.
    pub fn shutdown(&self) -> Result<(), AgentError> {
        Ok(self.call()?.request_done(&Request::Shutdown {})?)
    }

    /// Opens a stream to a port of the guest. If nobody listens there, the stream ends at once.
    pub fn connect(&self, port: u32) -> Result<UnixStream, AgentError> {
        let (ours, guests) = UnixStream::pair()?;
        self.attach(port, guests)?;
        Ok(ours)
    }

    /// Lets a port of the guest talk to `socket`.
    pub fn attach(&self, port: u32, socket: UnixStream) -> Result<(), AgentError> {
        socket.set_nonblocking(true)?;
        let (token, stream) = self.streams.polled(mio::net::UnixStream::from_std(socket))?;
        // Bound before the guest can answer: an edge for a connection that nobody knows yet would be lost.
        self.vsock.host(|vsock| {
            let id = vsock.connect(port, Box::new(stream))?;
            self.streams.bind(token, id);
            Ok(())
        })
    }
}

/// Reads the hello of the agent's first call: the guest is up.
pub fn read_call(socket: UnixStream) -> Result<Hello, AgentError> {
    socket.set_read_timeout(Some(CALL_TIMEOUT))?;
    let frame = FrameReader::new(socket, MAX_HELLO).frame()?;
    let control = frame.expect(FrameKind::Control).and_then(|frame| frame.parse_json());
    match control.map_err(ConnectionError::from)? {
        Control::Hello(hello) if hello.version == VERSION => Ok(hello),
        Control::Hello(hello) => Err(ConnectionError::Version { theirs: hello.version }.into()),
        other => Err(ConnectionError::Unexpected(other).into()),
    }
}

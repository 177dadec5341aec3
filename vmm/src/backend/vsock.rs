//! Host ends of vsock connections: Unix sockets, polled edge-triggered by the event loop.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use supermachine_agent_protocol::spec::AGENT_PORT;
use supermachine_devices::vsock::{ConnId, Dialer, HostStream};

use crate::events::{Event, EventSender};

/// First token of a stream; the ones below belong to the event loop.
pub const FIRST_TOKEN: usize = 16;

/// Which connection a poll token belongs to.
pub struct Streams {
    registry: Registry,
    next: AtomicUsize,
    connections: Mutex<HashMap<Token, ConnId>>,
}

impl Streams {
    /// Streams that report to the poll of `registry`.
    pub fn new(registry: Registry) -> Arc<Self> {
        Arc::new(Self { registry, next: AtomicUsize::new(FIRST_TOKEN), connections: Mutex::default() })
    }

    /// The connection behind a token, if it still exists.
    pub fn connection(&self, token: Token) -> Option<ConnId> {
        self.lock().get(&token).copied()
    }

    /// Makes a polled host stream of a socket.
    ///
    /// Edges before [`bind`](Self::bind) are lost: bind before the guest can answer. A connection reads and writes its
    /// stream until it would block when it is established.
    pub fn polled(self: &Arc<Self>, mut socket: UnixStream) -> io::Result<(Token, PolledStream)> {
        let token = Token(self.next.fetch_add(1, Ordering::Relaxed));
        self.registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok((token, PolledStream { socket, token, streams: self.clone() }))
    }

    /// Says which connection the stream of `token` belongs to.
    pub fn bind(&self, token: Token, id: ConnId) {
        self.lock().insert(token, id);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Token, ConnId>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One socket in the poll.
pub struct PolledStream {
    socket: UnixStream,
    token: Token,
    streams: Arc<Streams>,
}

impl HostStream for PolledStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket.read(buf)
    }

    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.socket.write(buf)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }
}

impl Drop for PolledStream {
    fn drop(&mut self) {
        self.streams.lock().remove(&self.token);
        // Closing the socket takes it out of the poll anyway.
        let _ = self.streams.registry.deregister(&mut self.socket);
    }
}

/// Takes calls from the guest: the agent's first one, and ports for which the user has a socket.
pub struct HostDialer {
    streams: Arc<Streams>,
    events: EventSender,
    /// Whether the agent called; it does so once, before anything else runs in the guest.
    agent_called: AtomicBool,
    /// Base path: port N is the Unix socket `BASE_N`.
    base: Option<PathBuf>,
}

impl HostDialer {
    /// A dialer for the ports below `base`, if the user gave one.
    pub fn new(streams: Arc<Streams>, events: EventSender, base: Option<PathBuf>) -> Self {
        Self { streams, events, agent_called: AtomicBool::new(false), base }
    }

    /// The same for a guest from a snapshot, whose agent made its call before.
    #[must_use]
    pub fn after_call(self) -> Self {
        Self { agent_called: AtomicBool::new(true), ..self }
    }

    fn socket(&self, port: u32) -> io::Result<UnixStream> {
        if port == AGENT_PORT {
            if self.agent_called.swap(true, Ordering::Relaxed) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let (ours, guests) = std::os::unix::net::UnixStream::pair()?;
            guests.set_nonblocking(true)?;
            self.events.send(Event::AgentCalled(ours));
            return Ok(UnixStream::from_std(guests));
        }
        let base = self.base.as_ref().ok_or(io::ErrorKind::ConnectionRefused)?;
        let mut path = base.clone().into_os_string();
        path.push(format!("_{port}"));
        UnixStream::connect(path)
    }
}

impl Dialer for HostDialer {
    fn dial(&mut self, id: ConnId, port: u32) -> Option<Box<dyn HostStream>> {
        let polled = self.socket(port).and_then(|socket| self.streams.polled(socket));
        match polled {
            Ok((token, stream)) => {
                self.streams.bind(token, id);
                Some(Box::new(stream))
            }
            Err(error) => {
                log::debug!("guest called host port {port}: {error}");
                None
            }
        }
    }
}

//! The event loop: accepts connections, hands each its events, reaps what they leave behind.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::sys::epoll::{EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::utsname::uname;
use supermachine_agent_protocol::Hello;

use crate::connection::{Connection, Context, SCRATCH, Verdict};
use crate::container::Prepared;
use crate::error::AgentError;
use crate::limits;
use crate::log;
use crate::poller::{Poller, Source, Token, Watch};
use crate::process::Child;
use crate::reply::unavailable;
use crate::socket::Address;

const LISTENER: u64 = 0;
const SIGNALS: u64 = 1;
const FIRST_CONNECTION: u64 = 2;

/// How long the host may take to see the answer to its shutdown request.
const FAREWELL: Duration = Duration::from_secs(1);

/// The agent: its listener and its connections.
#[derive(Debug)]
pub(crate) struct Server {
    address: Address,
    listener: Watch,
    _signals: Watch,
    connections: HashMap<u64, Connection>,
    /// Children of connections that are gone, by the connection's id.
    orphans: HashMap<u64, Child>,
    next_id: u64,
    max_connections: usize,
    cx: Context,
}

impl Server {
    /// Listens, and starts to tell the host so.
    pub(crate) fn new(address: &Address, prepared: Prepared) -> Result<Self, AgentError> {
        let poller = Poller::new().map_err(AgentError::os("create an epoll instance"))?;
        let listener = address.listen().map_err(AgentError::os("listen"))?;
        let mut server = Self {
            listener: poller.adopt(listener, Token { id: LISTENER, source: Source::Socket }),
            _signals: end_signals(&poller)?,
            address: address.clone(),
            connections: HashMap::new(),
            orphans: HashMap::new(),
            next_id: FIRST_CONNECTION,
            max_connections: limits::max_connections(),
            cx: Context {
                poller,
                scratch: vec![0; SCRATCH],
                hello: our_hello(),
                container: None,
                remains: None,
                prepared,
                shutdown: None,
            },
        };
        server.announce();
        Ok(server)
    }

    /// Serves until the host asks for the end, or a signal does.
    pub(crate) fn run(mut self) -> Result<(), AgentError> {
        let mut ready = Vec::new();
        let mut deadline = None;
        loop {
            self.listen_if_room()?;
            let timeout = timeout_until(deadline);
            self.cx.poller.wait(timeout, &mut ready).map_err(AgentError::os("wait for events"))?;
            for (token, flags) in ready.drain(..) {
                match token.id {
                    LISTENER => self.accept(),
                    SIGNALS => return Ok(()),
                    _ => self.on_event(token, flags),
                }
            }
            if let Some(last) = self.cx.shutdown {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + FAREWELL);
                if !self.connections.contains_key(&last) || Instant::now() >= deadline {
                    return Ok(());
                }
            }
        }
    }

    /// With too many connections the listener is left alone: the next ones wait in its queue.
    fn listen_if_room(&mut self) -> Result<(), AgentError> {
        let has_room = self.connections.len() < self.max_connections;
        let wanted = if has_room { EpollFlags::EPOLLIN } else { EpollFlags::empty() };
        self.listener.want(wanted).map_err(AgentError::os("watch the listener"))
    }

    fn accept(&mut self) {
        match self.address.accept(&self.listener) {
            Ok(Some(fd)) => {
                let hello = self.cx.hello.clone();
                self.add(fd, |id, socket| Connection::accepted(id, socket, &hello));
            }
            Ok(None) => {}
            Err(error) => {
                log::error(&format!("cannot accept a connection: {error}"));
                // Out of descriptors or memory: serve what there is, and try for more when one ends.
                self.max_connections = self.connections.len().max(1);
            }
        }
    }

    fn announce(&mut self) {
        if let Some(fd) = self.address.call_host() {
            let hello = self.cx.hello.clone();
            self.add(fd, |id, socket| Connection::announcing(id, socket, &hello));
        }
    }

    fn add(&mut self, fd: OwnedFd, make: impl FnOnce(u64, Watch) -> Connection) {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        let socket = self.cx.poller.adopt(fd, Token { id, source: Source::Socket });
        let mut connection = make(id, socket);
        if matches!(connection.settle(&mut self.cx), Ok(Verdict::Keep)) {
            self.connections.insert(id, connection);
        }
    }

    fn on_event(&mut self, token: Token, flags: EpollFlags) {
        let Some(connection) = self.connections.get_mut(&token.id) else {
            if self.orphans.get(&token.id).is_some_and(|child| !child.still_runs()) {
                self.orphans.remove(&token.id);
                self.forget_container_of(token.id);
            }
            return;
        };
        let verdict = connection.on_event(&mut self.cx, token.source, flags);
        self.judge(token.id, verdict);
    }

    fn judge(&mut self, id: u64, verdict: Verdict) {
        match verdict {
            Verdict::Keep => {}
            Verdict::Gone => self.drop_connection(id),
            Verdict::Attach => self.attach(id),
        }
    }

    fn drop_connection(&mut self, id: u64) {
        let gone = self.connections.remove(&id);
        match gone.and_then(|mut connection| connection.take_child()) {
            Some(child) => drop(self.orphans.insert(id, child)),
            None => self.forget_container_of(id),
        }
    }

    /// The host of connection `id` wants the container that is held.
    fn attach(&mut self, id: u64) {
        let Some(mut host) = self.connections.remove(&id) else { return };
        let holder = self.cx.container.as_ref().map(|container| container.connection);
        let held = holder.and_then(|holder| self.connections.get_mut(&holder)).filter(|held| held.is_held());
        match (host.name(&self.cx, held.is_some()), holder, held) {
            (Ok(()), Some(holder), Some(held)) => {
                let verdict = held.attach(&mut self.cx, host);
                self.judge(holder, verdict);
            }
            (named, ..) => {
                let error = named.err().unwrap_or_else(|| unavailable("no container is held"));
                if host.refuse_attach(&mut self.cx, &error) == Verdict::Keep {
                    self.connections.insert(id, host);
                }
            }
        }
    }

    /// The first process of a container is reaped, and nobody is left to ask about it.
    fn forget_container_of(&mut self, connection: u64) {
        for container in [&mut self.cx.container, &mut self.cx.remains] {
            drop(container.take_if(|container| container.connection == connection));
        }
    }
}

fn timeout_until(deadline: Option<Instant>) -> EpollTimeout {
    let Some(deadline) = deadline else { return EpollTimeout::NONE };
    // One millisecond more, so that the deadline has passed when the wait ends.
    let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
    EpollTimeout::try_from(left).unwrap_or(EpollTimeout::ZERO)
}

/// SIGTERM and SIGINT become events.
fn end_signals(poller: &Poller) -> Result<Watch, AgentError> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set.thread_block().map_err(AgentError::os("block signals"))?;
    let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(AgentError::os("create a signal descriptor"))?;
    let mut watch = poller.adopt(fd.into(), Token { id: SIGNALS, source: Source::Socket });
    watch.want(EpollFlags::EPOLLIN).map_err(AgentError::os("watch for signals"))?;
    Ok(watch)
}

fn our_hello() -> Hello {
    let kernel = uname().ok().and_then(|names| names.release().to_str().map(str::to_owned));
    Hello { kernel, ..Hello::new(concat!("supermachine-agent ", env!("CARGO_PKG_VERSION"))) }
}

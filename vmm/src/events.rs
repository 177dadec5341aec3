//! The event loop: everything the machine waits for, on the vmm's main thread.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use mio::{Events, Poll, Token, Waker};
use supermachine_agent_protocol::Hello;

use crate::agent::AgentError;
use crate::backend::vsock::{FIRST_TOKEN, Streams};
use crate::ending::{self, Ending};
use crate::life::Lifecycle;
use crate::machine::Machine;
use crate::vcpu::VcpuEnd;

/// What other threads tell the event loop.
#[derive(Debug)]
pub enum Event {
    /// A virtio device has more to do than one call may.
    Service(usize),
    /// The agent called: this end of the connection carries its hello.
    AgentCalled(UnixStream),
    /// The agent said hello and the guest is ready for processes, or that failed.
    AgentUp(Result<Hello, AgentError>),
    /// A vCPU ended by itself.
    VcpuEnded {
        /// Which.
        index: u32,
        /// Why.
        end: VcpuEnd,
    },
    /// The machine is over.
    End(Ending),
}

/// Sends events from any thread.
#[derive(Clone)]
pub struct EventSender {
    sender: Sender<Event>,
    waker: Arc<Waker>,
}

impl EventSender {
    /// Sends; an event after the loop's end goes nowhere.
    pub fn send(&self, event: Event) {
        if self.sender.send(event).is_ok()
            && let Err(error) = self.waker.wake()
        {
            log::error!("cannot wake the event loop: {error}");
        }
    }
}

const WAKER: Token = Token(0);

/// See the module.
pub struct EventLoop {
    poll: Poll,
    receiver: Receiver<Event>,
    sender: EventSender,
    streams: Arc<Streams>,
}

impl EventLoop {
    /// A loop with nothing to watch yet.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (sender, receiver) = channel();
        let streams = Streams::new(poll.registry().try_clone()?);
        Ok(Self { poll, receiver, sender: EventSender { sender, waker }, streams })
    }

    /// For other threads.
    pub fn sender(&self) -> EventSender {
        self.sender.clone()
    }

    /// The host ends of vsock connections, which this loop polls.
    pub fn streams(&self) -> Arc<Streams> {
        self.streams.clone()
    }

    /// Runs until the machine ends.
    pub fn run(mut self, machine: &Machine, life: &Arc<Lifecycle>) -> io::Result<Ending> {
        let mut ready = Events::with_capacity(128);
        loop {
            match self.poll.poll(&mut ready, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &ready {
                self.stream_ready(machine, event.token());
            }
            while let Ok(event) = self.receiver.try_recv() {
                if let Some(ending) = self.handle(event, machine, life) {
                    return Ok(ending);
                }
            }
        }
    }

    fn stream_ready(&self, machine: &Machine, token: Token) {
        if token.0 < FIRST_TOKEN {
            return;
        }
        if let Some(id) = self.streams.connection(token) {
            machine.vsock.host(|vsock| vsock.on_stream_ready(id));
        }
    }

    fn handle(&self, event: Event, machine: &Machine, life: &Arc<Lifecycle>) -> Option<Ending> {
        match event {
            Event::Service(index) => machine.service(index),
            Event::AgentCalled(socket) => self.welcome(socket, life),
            Event::AgentUp(Ok(hello)) => life.agent_up(hello),
            Event::AgentUp(Err(error)) => return Some(Ending::Agent { message: ending::chain(&error) }),
            Event::VcpuEnded { end: VcpuEnd::GuestReset, .. } if life.is_stopping() => return Some(Ending::Shutdown),
            Event::VcpuEnded { index, end } => return Some(Ending::Vcpu { index, end }),
            Event::End(ending) => return Some(ending),
        }
        None
    }

    /// Welcomes the agent on a thread of its own: this loop has to move the bytes.
    fn welcome(&self, socket: UnixStream, life: &Arc<Lifecycle>) {
        let (events, life) = (self.sender(), life.clone());
        let welcome = move || events.send(Event::AgentUp(life.welcome(socket)));
        if let Err(error) = std::thread::Builder::new().name("agent-call".into()).spawn(welcome) {
            let message = format!("no thread to take its call: {error}");
            self.sender.send(Event::End(Ending::Agent { message }));
        }
    }
}

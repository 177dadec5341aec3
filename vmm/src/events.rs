//! The event loop: everything the machine waits for, on the vmm's main thread.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

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
    /// Its process was killed: the machine is over when that has ended, or very soon.
    EndSoon,
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
/// Events handled before the sockets are looked at again.
const BATCH: usize = 64;
/// How long a guest has to write its disks back after its main process ended.
const FAREWELL: Duration = Duration::from_secs(10);
/// How long a killed process has to end, and its output to arrive.
const KILL_LIMIT: Duration = Duration::from_secs(1);

/// See the module.
pub struct EventLoop {
    poll: Poll,
    receiver: Receiver<Event>,
    sender: EventSender,
    streams: Arc<Streams>,
    /// How the machine has ended, while the guest may still write its disks back.
    farewell: Option<Ending>,
    /// When the machine ends, whatever the guest does.
    deadline: Option<Instant>,
}

impl EventLoop {
    /// A loop with nothing to watch yet.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (sender, receiver) = channel();
        let streams = Streams::new(poll.registry().try_clone()?);
        Ok(Self { poll, receiver, sender: EventSender { sender, waker }, streams, farewell: None, deadline: None })
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
        let mut more = false;
        loop {
            let timeout = if more { Some(Duration::ZERO) } else { self.left() };
            match self.poll.poll(&mut ready, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &ready {
                self.stream_ready(machine, event.token());
            }
            // A bounded batch: devices that always have more to do must not keep the sockets waiting.
            let batch: Vec<_> = self.receiver.try_iter().take(BATCH).collect();
            more = batch.len() == BATCH;
            for event in batch {
                if let Some(ending) = self.handle(event, machine, life) {
                    return Ok(ending);
                }
            }
            if self.left() == Some(Duration::ZERO) {
                let Some(ending) = self.farewell.take() else { return Ok(Ending::Killed) };
                log::warn!("the guest did not end in time: what it had not written to its disks is lost");
                return Ok(ending);
            }
        }
    }

    /// How long the guest still has; none where nobody waits for its end.
    fn left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    fn end_within(&mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        self.deadline = Some(self.deadline.map_or(deadline, |earlier| earlier.min(deadline)));
    }

    fn stream_ready(&self, machine: &Machine, token: Token) {
        if token.0 < FIRST_TOKEN {
            return;
        }
        if let Some(id) = self.streams.connection(token) {
            machine.vsock.host(|vsock| vsock.on_stream_ready(id));
        }
    }

    fn handle(&mut self, event: Event, machine: &Machine, life: &Arc<Lifecycle>) -> Option<Ending> {
        match event {
            Event::Service(index) => machine.service(index),
            Event::AgentCalled(socket) => self.welcome(socket, life),
            Event::AgentUp(Ok(hello)) => life.agent_up(hello),
            Event::AgentUp(Err(error)) => return Some(Ending::Agent { message: ending::chain(&error) }),
            Event::VcpuEnded { index, end } => return Some(self.vcpu_ended(index, end, machine, life)),
            // Asked to end, the agent goes before the machine does.
            Event::End(Ending::AgentGone) if life.is_stopping() => {}
            Event::End(ending @ (Ending::Process(_) | Ending::NotStarted { .. }))
                if machine.has_lasting_disks() && self.farewell.is_none() =>
            {
                // Until the guest has written back what it holds of its disks, the machine goes on.
                self.farewell = Some(ending);
                self.end_within(FAREWELL);
                life.ask_to_end();
            }
            Event::End(ending) => return Some(self.farewell.take().unwrap_or(ending)),
            // What it wrote to a disk that lasts is written back first.
            Event::EndSoon if machine.has_lasting_disks() => self.end_within(FAREWELL),
            Event::EndSoon => self.end_within(KILL_LIMIT),
        }
        None
    }

    fn vcpu_ended(&mut self, index: u32, end: VcpuEnd, machine: &Machine, life: &Arc<Lifecycle>) -> Ending {
        let asked = life.is_stopping() && matches!(end, VcpuEnd::GuestReset) && machine.console.panic_line().is_none();
        match self.farewell.take() {
            Some(ending) => ending,
            None if asked => Ending::Shutdown,
            None => Ending::Vcpu { index, end },
        }
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

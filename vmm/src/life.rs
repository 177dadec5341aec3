//! The machine's life as its users see it: booting, running, stopping; who waits for what.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use std::os::unix::net::UnixStream;
use supermachine_agent_protocol::blocking::FrameWriter;
use supermachine_agent_protocol::{Frame, Hello, Signal};

use crate::agent::{self, Agent, AgentError};
use crate::ending::Ending;
use crate::events::{Event, EventSender};
use crate::root;

#[derive(Default)]
struct State {
    up: Option<Hello>,
    boot: Option<Duration>,
    stopping: bool,
    /// Where signals for the main process go, while it runs.
    main: Option<FrameWriter<UnixStream>>,
}

/// See the module.
pub struct Lifecycle {
    started: Instant,
    state: Mutex<State>,
    changed: Condvar,
    events: EventSender,
    agent: Agent,
    root_disk: Option<usize>,
}

/// A signal that cannot be delivered.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// The number is no signal.
    #[error("signal {0} does not exist, signals are 1 to 64")]
    Unknown(u32),
    /// There is nobody to signal.
    #[error("the machine has no main process to signal")]
    NoProcess,
}

impl Lifecycle {
    /// A machine that was started at `started`, with this disk as the root of its processes.
    pub fn new(started: Instant, events: EventSender, agent: Agent, root_disk: Option<usize>) -> Self {
        Self { started, state: Mutex::default(), changed: Condvar::new(), events, agent, root_disk }
    }

    /// The agent, once the guest is up; waits for that.
    pub fn agent(&self) -> &Agent {
        let mut state = self.lock();
        while state.up.is_none() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        &self.agent
    }

    /// The agent's hello and how long the boot took, once the guest is up.
    pub fn up(&self) -> Option<(Hello, Duration)> {
        let state = self.lock();
        state.up.clone().zip(state.boot)
    }

    /// Time since the vmm's start.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// The main process runs; `writer` reaches it.
    pub fn set_main(&self, writer: FrameWriter<UnixStream>) {
        self.lock().main = Some(writer);
    }

    /// Signals the main process.
    pub fn signal(&self, number: u32) -> Result<(), SignalError> {
        if !(1..=64).contains(&number) {
            return Err(SignalError::Unknown(number));
        }
        let mut state = self.lock();
        let writer = state.main.as_mut().ok_or(SignalError::NoProcess)?;
        writer.send_frame(Signal(number)).map_err(|_| SignalError::NoProcess)
    }

    /// Sends a frame to the main process; `false` once there is none any more.
    ///
    /// Never waits for the process: each stream has a window, so the connection always takes what is sent.
    pub fn send(&self, frame: impl Into<Frame>) -> bool {
        self.lock().main.as_mut().is_some_and(|writer| writer.send_frame(frame).is_ok())
    }

    /// Ends the machine.
    pub fn end(&self, ending: Ending) {
        self.events.send(Event::End(ending));
    }

    /// Notes that the guest is asked to end; `true` the first time.
    pub fn begin_stop(&self) -> bool {
        !std::mem::replace(&mut self.lock().stopping, true)
    }

    /// No code panics while it holds the lock; a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the agent's first call and makes the guest ready for processes.
    pub fn welcome(&self, socket: UnixStream) -> Result<Hello, AgentError> {
        let hello = agent::read_call(socket)?;
        if let Some(slot) = self.root_disk {
            root::mount(&self.agent, slot)?;
        }
        Ok(hello)
    }

    /// The guest is ready.
    pub fn agent_up(&self, hello: Hello) {
        let mut state = self.lock();
        let boot = self.started.elapsed();
        log::info!(
            "guest is up after {} ms: {}, Linux {}",
            boot.as_millis(),
            hello.software,
            hello.kernel.as_deref().unwrap_or("?")
        );
        (state.up, state.boot) = (Some(hello), Some(boot));
        drop(state);
        self.changed.notify_all();
    }

    /// Whether the guest was asked to end, so that a reset is what was wanted.
    pub fn is_stopping(&self) -> bool {
        self.lock().stopping
    }
}

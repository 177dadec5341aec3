//! The machine's life as its users see it: booting, running, stopping; who waits for what.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use std::os::unix::net::UnixStream;
use supermachine_agent_protocol::blocking::FrameWriter;
use supermachine_agent_protocol::{FrameKind, Hello, Signal};

use crate::agent::Agent;
use crate::ending::Ending;
use crate::events::{Event, EventSender, Life};

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
    /// A machine that was started at `started`.
    pub fn new(started: Instant, events: EventSender, agent: Agent) -> Self {
        Self { started, state: Mutex::default(), changed: Condvar::new(), events, agent }
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

    /// Signals the main process. 9 ends the machine, whatever the guest does.
    pub fn signal(&self, number: u32) -> Result<(), SignalError> {
        if !(1..=64).contains(&number) {
            return Err(SignalError::Unknown(number));
        }
        if number == 9 {
            self.end(Ending::Killed);
            return Ok(());
        }
        let mut state = self.lock();
        let writer = state.main.as_mut().ok_or(SignalError::NoProcess)?;
        writer.send_frame(Signal(number)).map_err(|_| SignalError::NoProcess)
    }

    /// Tells the main process that its terminal has a new size.
    pub fn resize(&self, size: supermachine_agent_protocol::WindowSize) {
        if let Some(writer) = self.lock().main.as_mut() {
            // A process that ended in between has no use for it.
            let _ = writer.send_frame(size);
        }
    }

    /// Sends standard input to the main process; `false` once it takes no more.
    pub fn stdin(&self, bytes: &[u8]) -> bool {
        self.lock().main.as_mut().is_some_and(|writer| writer.send(FrameKind::Stdin, bytes).is_ok())
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
}

impl Life for Lifecycle {
    fn agent_up(&self, hello: Hello) {
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

    fn is_stopping(&self) -> bool {
        self.lock().stopping
    }
}

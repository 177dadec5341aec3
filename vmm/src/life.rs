//! The machine's life as its users see it: booting, running, stopping; who waits for what.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use std::os::unix::net::UnixStream;
use supermachine_agent_protocol::blocking::FrameWriter;
use supermachine_agent_protocol::{Frame, Hello, Signal};

use crate::agent::{self, Agent, AgentError};
use crate::ending::{self, Ending};
use crate::events::{Event, EventSender};
use crate::root;

/// How long a guest may take no bytes for its main process before it is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Default)]
struct State {
    up: Option<Hello>,
    boot: Option<Duration>,
    stopping: bool,
}

/// See the module.
pub struct Lifecycle {
    started: Instant,
    state: Mutex<State>,
    changed: Condvar,
    /// The way to the main process, while it runs. A lock of its own: a guest can make a write wait.
    main: Mutex<Option<FrameWriter<UnixStream>>>,
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
        Self {
            started,
            state: Mutex::default(),
            changed: Condvar::new(),
            main: Mutex::default(),
            events,
            agent,
            root_disk,
        }
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

    /// The main process runs; `socket` reaches it.
    pub fn set_main(&self, socket: UnixStream) -> io::Result<()> {
        socket.set_write_timeout(Some(WRITE_TIMEOUT))?;
        *self.lock_main() = Some(FrameWriter::new(socket));
        Ok(())
    }

    /// Signals the main process.
    pub fn signal(&self, number: u32) -> Result<(), SignalError> {
        if !(1..=64).contains(&number) {
            return Err(SignalError::Unknown(number));
        }
        if self.send(Signal(number)) { Ok(()) } else { Err(SignalError::NoProcess) }
    }

    /// Sends a frame to the main process; `false` once there is none any more.
    ///
    /// Does not wait for the process: each stream has a window, so the connection takes what is sent. A guest that
    /// breaks this rule is given up after [`WRITE_TIMEOUT`].
    pub fn send(&self, frame: impl Into<Frame>) -> bool {
        let mut main = self.lock_main();
        let sent = main.as_mut().is_some_and(|writer| writer.send_frame(frame).is_ok());
        if !sent {
            // Half a frame may be out: nothing that follows would be understood.
            *main = None;
        }
        sent
    }

    /// Ends the machine.
    pub fn end(&self, ending: Ending) {
        self.events.send(Event::End(ending));
    }

    /// Asks the guest to end in good order, on a thread that may wait for it; if it cannot even be asked, the machine
    /// ends.
    pub fn ask_to_end(self: &Arc<Self>) {
        self.begin_stop();
        let asking = self.clone();
        let ask = move || {
            if let Err(error) = asking.agent().shutdown() {
                log::warn!("the guest cannot be asked to end: {}", ending::chain(&error));
                asking.end(Ending::Killed);
            }
        };
        if std::thread::Builder::new().name("ask-to-end".into()).spawn(ask).is_err() {
            self.end(Ending::Killed);
        }
    }

    /// Notes that the guest is asked to end; `true` the first time.
    pub fn begin_stop(&self) -> bool {
        !std::mem::replace(&mut self.lock().stopping, true)
    }

    /// Notes that the guest could not be asked after all.
    pub fn cancel_stop(&self) {
        self.lock().stopping = false;
    }

    fn lock_main(&self) -> MutexGuard<'_, Option<FrameWriter<UnixStream>>> {
        self.main.lock().unwrap_or_else(PoisonError::into_inner)
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
            ending::printable(&hello.software),
            ending::printable(hello.kernel.as_deref().unwrap_or("?"))
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

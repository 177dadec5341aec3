//! The machine's life as its users see it: booting, running, stopping; who waits for what.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use std::os::unix::net::UnixStream;
use supermachine_agent_protocol::Hello;
use supermachine_agent_protocol::blocking::FrameWriter;
use supermachine_vmm_api::{Sender, trace};

use crate::agent::{self, Agent, AgentError};
use crate::container::Slot;
use crate::ending::{self, Ending};
use crate::events::{Event, EventSender};
use crate::identity;
use crate::leash::Cut;
use crate::leashes::Leashes;
use crate::machine::Ready;
use crate::root;
use crate::settings::Settings;

/// How long a guest may take no bytes for its main process before it is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the end of the machine waits for clients to take the news.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Signal number of SIGKILL.
const SIGKILL: u32 = 9;

#[derive(Default)]
struct State {
    up: Option<Hello>,
    boot: Option<Duration>,
    /// Of a guest from a snapshot: the name of its identity.
    generation: Option<String>,
    stopping: bool,
}

/// See the module.
pub struct Lifecycle {
    started: Instant,
    state: Mutex<State>,
    changed: Condvar,
    /// Whether the machine was given a main process to run.
    has_main: bool,
    /// The way to the main process or the container's first, once there is one.
    main: OnceLock<Sender>,
    container: Slot,
    leashes: Leashes,
    events: EventSender,
    agent: Agent,
    root_disk: Option<usize>,
    /// What the agent said once, in a machine that was saved with its container and waits for that one's files.
    asleep: Mutex<Option<(Hello, Ready)>>,
}

/// A signal that cannot be delivered.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// The number is no signal.
    #[error("signal {0} does not exist, signals are 1 to 64")]
    Unknown(u32),
    /// There is nobody to signal.
    #[error("the machine has no process to signal")]
    NoProcess,
}

impl Lifecycle {
    /// A machine that was started at `started`, to do what `settings` want.
    pub fn new(started: Instant, events: EventSender, agent: Agent, settings: &Settings) -> Self {
        Self {
            started,
            state: Mutex::default(),
            changed: Condvar::new(),
            has_main: settings.main.is_some(),
            main: OnceLock::new(),
            container: Slot::default(),
            leashes: Leashes::default(),
            events,
            agent,
            root_disk: settings.root_disk,
            asleep: Mutex::default(),
        }
    }

    /// The machine was saved with its container, and nothing of it runs before that one's files are there.
    pub fn set_asleep(&self, hello: Hello, ready: Ready) {
        *self.asleep.lock().unwrap_or_else(PoisonError::into_inner) = Some((hello, ready));
    }

    /// What the agent said once and what lets the machine run, if it waits for files; it does no more.
    pub fn take_asleep(&self) -> Option<(Hello, Ready)> {
        self.asleep.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The way to the event loop.
    pub fn events(&self) -> &EventSender {
        &self.events
    }

    /// The agent, once the guest is up; waits for that.
    pub fn agent(&self) -> &Agent {
        let Ok(agent) = self.agent_unless(|| Ok::<_, Infallible>(()));
        agent
    }

    /// The agent, once the guest is up; waits for that as long as `check` finds nothing against it. Who changes what it
    /// finds calls [`wake`](Self::wake).
    pub fn agent_unless<E>(&self, check: impl Fn() -> Result<(), E>) -> Result<&Agent, E> {
        let mut state = self.lock();
        while state.up.is_none() {
            check()?;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(&self.agent)
    }

    /// Has everybody who waits for the guest look again at why.
    pub fn wake(&self) {
        drop(self.lock());
        self.changed.notify_all();
        self.container.wake();
    }

    /// The machine is over: whoever waits for the guest is told, or at least given a moment to be.
    pub fn over(&self, reason: String) {
        self.leashes.cut_all(&Cut::MachineOver { reason });
        self.wake();
        self.leashes.wait(LAST_WORDS);
    }

    /// The machine's container, or the place for it.
    pub fn container(&self) -> &Slot {
        &self.container
    }

    /// All conversations with the guest on behalf of clients.
    pub fn leashes(&self) -> &Leashes {
        &self.leashes
    }

    /// Notes in the log how long after the vmm's start something was reached.
    pub fn mark(&self, what: &str) {
        trace::mark("vmm", what);
        log::debug!("{:9.3} ms: {what}", self.started.elapsed().as_secs_f64() * 1e3);
    }

    /// The agent's hello and how long the boot took, once the guest is up.
    pub fn up(&self) -> Option<(Hello, Duration)> {
        let state = self.lock();
        state.up.clone().zip(state.boot)
    }

    /// The name of the guest's identity, if it came from a snapshot and has one by now.
    pub fn generation(&self) -> Option<String> {
        self.lock().generation.clone()
    }

    /// Gives a guest from a snapshot its identity; `hello` is what its agent said once.
    pub fn revive(&self, hello: Hello) -> Result<Hello, AgentError> {
        let generation = identity::give(&self.agent)?;
        self.lock().generation = Some(generation);
        Ok(hello)
    }

    /// Time since the vmm's start.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether the machine was given a main process to run.
    pub fn has_main(&self) -> bool {
        self.has_main
    }

    /// The main process or the container's first is there; `writer` reaches it. A guest that takes nothing is given up
    /// after [`WRITE_TIMEOUT`].
    pub fn set_main(&self, writer: FrameWriter<UnixStream>) -> io::Result<Sender> {
        writer.get_ref().set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(self.main.get_or_init(|| Sender::new(writer)).clone())
    }

    /// The way to the main process or the container's first.
    pub fn main(&self) -> Option<&Sender> {
        self.main.get()
    }

    /// Signals the main process or the container's first.
    pub fn signal(&self, number: u32) -> Result<(), SignalError> {
        if !(1..=64).contains(&number) {
            return Err(SignalError::Unknown(number));
        }
        let sent = self.main().is_some_and(|main| main.signal(number));
        if sent { Ok(()) } else { Err(SignalError::NoProcess) }
    }

    /// Ends the machine by signal 9 to its process, so that what that wrote before still arrives; hard after a moment.
    pub fn kill(&self) {
        match self.main() {
            Some(main) => {
                // If it has ended already, its output has the same moment left to arrive.
                main.signal(SIGKILL);
                self.events.send(Event::EndSoon);
            }
            None => self.end(Ending::Killed),
        }
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
            "guest is up after {:.1} ms: {}, Linux {}",
            boot.as_secs_f64() * 1e3,
            ending::printable(&hello.software),
            ending::printable(hello.kernel.as_deref().unwrap_or("?"))
        );
        (state.up, state.boot) = (Some(hello), Some(boot));
        drop(state);
        trace::mark("vmm", "guest is up");
        self.changed.notify_all();
    }

    /// Whether the guest was asked to end, so that a reset is what was wanted.
    pub fn is_stopping(&self) -> bool {
        self.lock().stopping
    }
}

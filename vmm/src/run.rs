//! Runs one machine from checked settings to its end.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use supermachine_agent_protocol::Exec;

use crate::agent::Agent;
use crate::backend::vsock::HostDialer;
use crate::choose::{self, ChooseError};
use crate::events::{Event, EventLoop, EventSender};
use crate::life::Lifecycle;
use crate::machine::{Machine, MachineError};
use crate::settings::{Settings, SettingsError};
use crate::socket::{Socket, SocketError};
use crate::terminal::RawMode;
use crate::{control, process, signals, vsock_socket};

/// A machine that did not get as far as running.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// What was asked for cannot be.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// No back end.
    #[error(transparent)]
    Choose(#[from] ChooseError),
    /// The machine.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The control or vsock socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Something of the host.
    #[error("{what}")]
    Host {
        /// What was wanted.
        what: &'static str,
        /// Why it is not there.
        #[source]
        source: io::Error,
    },
}

/// How the machine ended, with its status and the line that explains it.
#[derive(Debug)]
pub struct Report {
    /// Exit status for the vmm.
    pub status: u8,
    /// What to tell the user, where the status does not say it.
    pub message: Option<String>,
    /// The kernel's last lines, where they help.
    pub console: Vec<String>,
}

/// Builds and runs the machine; returns when it has ended and all its vCPUs have stopped.
///
/// Takes over the process: it blocks signals in the calling thread, uses standard input and output for the main
/// process and expects the caller to exit with the report's status.
pub fn run(settings: &Settings, started: Instant) -> Result<Report, RunError> {
    let host = |what| move |source| RunError::Host { what, source };
    settings.check()?;
    raise_descriptor_limit();
    let signals = signals::block().map_err(host("signal mask"))?;
    let hypervisor = choose::open(settings.hypervisor, settings.cpu_model.as_deref())?;
    let event_loop = EventLoop::new().map_err(host("event loop"))?;
    let (events, streams) = (event_loop.sender(), event_loop.streams());
    let dialer = HostDialer::new(streams.clone(), events.clone(), settings.vsock.clone());
    let machine = Arc::new(Machine::build(settings, hypervisor.as_ref(), &events, Box::new(dialer))?);
    let agent = Agent::new(machine.vsock.clone(), streams);
    let life = Arc::new(Lifecycle::new(started, events.clone(), agent.clone(), settings.root_disk));

    let bind = |what, path: &Option<PathBuf>| path.as_deref().map(|path| Socket::bind(what, path)).transpose();
    let (control, vsock) = (bind("control", &settings.control)?, bind("vsock", &settings.vsock)?);
    let asking = life.clone();
    signals::watch(signals, life.clone(), events.clone(), move || asking.ask_to_end())
        .map_err(host("signal thread"))?;
    machine.start(&events)?;
    if let Some(control) = &control {
        control::serve(control, &machine, &life).map_err(host("control thread"))?;
    }
    if let Some(vsock) = &vsock {
        vsock_socket::serve(vsock, &agent).map_err(host("vsock thread"))?;
    }
    let terminal = match &settings.main {
        Some(exec) => start_main(exec, &life, &events).map_err(host("terminal or thread"))?,
        None => None,
    };

    let ending = event_loop.run(&machine, &life).map_err(host("event loop"))?;
    machine.gate.stop();
    drop((control, vsock, terminal));
    let (status, message) = ending.explain(&machine.console);
    let console = if ending.wants_console() { machine.console.lines() } else { Vec::new() };
    Ok(Report { status, message, console })
}

/// Starts the thread that runs the main process; the terminal is raw from here on, if the process has one.
fn start_main(exec: &Exec, life: &Arc<Lifecycle>, events: &EventSender) -> io::Result<Option<RawMode>> {
    let terminal = if exec.tty.is_some() { RawMode::enter()? } else { None };
    let (exec, life, events) = (exec.clone(), life.clone(), events.clone());
    let run = move || events.send(Event::End(process::run(&life, exec)));
    std::thread::Builder::new().name("main-process".into()).spawn(run)?;
    Ok(terminal)
}

/// Lets the vmm have as many descriptors as it may: each process in the guest takes some.
fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        log::debug!("the limit of open files stays as it is: {error}");
    }
}

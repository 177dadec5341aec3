//! Runs one machine from checked settings to its end.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use supermachine_agent_protocol::{Exec, Request};

use crate::agent::Agent;
use crate::backend::vsock::HostDialer;
use crate::choose::{self, ChooseError};
use crate::control::{ControlError, ControlSocket};
use crate::ending::{self, Ending};
use crate::events::{Event, EventLoop, EventSender};
use crate::life::Lifecycle;
use crate::machine::{Machine, MachineError};
use crate::settings::{Settings, SettingsError};
use crate::terminal::RawMode;
use crate::vsock_socket::{VsockSocket, VsockSocketError};
use crate::{process, signals};

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
    /// The control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The vsock socket.
    #[error(transparent)]
    Vsock(#[from] VsockSocketError),
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
    let signals = signals::block().map_err(host("signal mask"))?;
    let hypervisor = choose::open(settings.hypervisor)?;
    let event_loop = EventLoop::new().map_err(host("event loop"))?;
    let (events, streams) = (event_loop.sender(), event_loop.streams());
    let dialer = HostDialer::new(streams.clone(), events.clone(), settings.vsock.clone());
    let machine = Arc::new(Machine::build(settings, hypervisor.as_ref(), &events, Box::new(dialer))?);
    let agent = Agent::new(machine.vsock.clone(), streams);
    let life = Arc::new(Lifecycle::new(started, events.clone(), agent.clone(), settings.root_disk));

    let control = settings.control.as_deref().map(ControlSocket::bind).transpose()?;
    let vsock = settings.vsock.as_deref().map(|path| serve_vsock(path, &agent)).transpose()?;
    let asking = life.clone();
    signals::watch(signals, life.clone(), events.clone(), move || ask_to_end(&asking))
        .map_err(host("signal thread"))?;
    machine.start(&events)?;
    if let Some(control) = &control {
        control.serve(&machine, &life)?;
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

fn serve_vsock(path: &Path, agent: &Agent) -> Result<VsockSocket, RunError> {
    Ok(VsockSocket::serve(path, agent.clone())?)
}

/// Starts the thread that runs the main process; the terminal is raw from here on, if the process has one.
fn start_main(exec: &Exec, life: &Arc<Lifecycle>, events: &EventSender) -> io::Result<Option<RawMode>> {
    let terminal = if exec.tty.is_some() { RawMode::enter()? } else { None };
    let (exec, life, events) = (exec.clone(), life.clone(), events.clone());
    let run = move || events.send(Event::End(process::run(&life, exec)));
    std::thread::Builder::new().name("main-process".into()).spawn(run)?;
    Ok(terminal)
}

/// Asks the guest to end in good order; if it cannot even be asked, the machine ends at once.
fn ask_to_end(life: &Lifecycle) {
    let asked = life.agent().call().and_then(|mut link| Ok(link.request_done(&Request::Shutdown {})?));
    if let Err(error) = asked {
        log::warn!("the guest cannot be asked to end: {}", ending::chain(&error));
        life.end(Ending::Killed);
    }
}

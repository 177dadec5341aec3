//! Runs one machine from checked settings to its end.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use supermachine_agent_protocol::Exec;
use supermachine_hv::{Hypervisor, HypervisorKind};
use supermachine_snapshot::Kind;
use supermachine_vmm_api::terminal::RawMode;
use supermachine_vmm_api::trace;

use crate::agent::Agent;
use crate::backend::vsock::HostDialer;
use crate::choose::{self, Choice, ChooseError};
use crate::control::Inherited;
use crate::ending::Ending;
use crate::events::{Event, EventLoop, EventSender};
use crate::freeze::{FreezeError, Label, Snapshot};
use crate::life::Lifecycle;
use crate::machine::{Machine, MachineError};
use crate::settings::{Settings, SettingsError};
use crate::socket::{Socket, SocketError};
use crate::view::View;
use crate::{checkpoint, control, ending, freeze, process, signals, vsock_socket};

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
    /// The snapshot to go on from.
    #[error("snapshot {}", path.display())]
    Snapshot {
        /// Its directory.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: FreezeError,
    },
    /// The snapshot is another back end's.
    #[error("snapshot {}: made on hypervisor {saved}, not on {here}", path.display())]
    Foreign {
        /// Its directory.
        path: PathBuf,
        /// Back end and CPU model that it was made on.
        saved: String,
        /// Those that there are.
        here: String,
    },
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
/// process or the container, and expects the caller to exit with the report's status. `inherited` is served from here on.
pub fn run(
    settings: &Settings,
    inherited: Option<&Inherited>,
    view: Option<View>,
    started: Instant,
) -> Result<Report, RunError> {
    let mark = |what: &str| {
        trace::mark("vmm", what);
        log::debug!("{:9.3} ms: {what}", started.elapsed().as_secs_f64() * 1e3);
    };
    mark("started");
    let host = |what| move |source| RunError::Host { what, source };
    let (snapshot, settings) = match &settings.restore {
        Some(path) => with_snapshot(path, settings)?,
        None => (None, settings.clone()),
    };
    let settings = &settings;
    settings.check()?;
    raise_descriptor_limit();
    let signals = signals::block().map_err(host("signal mask"))?;
    let hypervisor = match settings.probed {
        true => choose::open_probed(settings.hypervisor, settings.cpu_model.as_deref())?,
        false => choose::open(settings.hypervisor, settings.cpu_model.as_deref())?,
    };
    check_origin(settings, snapshot.as_ref(), hypervisor.as_ref())?;
    mark("hypervisor chosen");
    let event_loop = EventLoop::new().map_err(host("event loop"))?;
    let (events, streams) = (event_loop.sender(), event_loop.streams());
    let dialer = HostDialer::new(streams.clone(), events.clone(), settings.vsock.clone());
    let agent_hello = snapshot.as_ref().map(|snapshot| snapshot.state.agent.clone());
    let holds_container = snapshot.as_ref().is_some_and(|snapshot| snapshot.state.holds_container);
    let machine = Arc::new(match snapshot {
        None => Machine::build(settings, hypervisor.as_ref(), &events, Box::new(dialer))?,
        Some(snapshot) => {
            Machine::restore(settings, snapshot, hypervisor.as_ref(), &events, Box::new(dialer.after_call()))?
        }
    });
    let agent = Agent::new(machine.vsock.clone(), streams);
    let life = Arc::new(Lifecycle::new(started, events.clone(), agent.clone(), settings));
    life.mark("machine built");

    let bind = |what, path: &Option<PathBuf>| path.as_deref().map(|path| Socket::bind(what, path)).transpose();
    let (control, vsock) = (bind("control", &settings.control)?, bind("vsock", &settings.vsock)?);
    let asking = life.clone();
    signals::watch(signals, life.clone(), events.clone(), move || asking.ask_to_end())
        .map_err(host("signal thread"))?;
    match agent_hello {
        Some(hello) if holds_container => life.set_asleep(hello, machine.ready(&events)?),
        hello => {
            machine.start(&events)?;
            life.mark("guest entered");
            let revived = hello.map_or(Ok(()), |hello| checkpoint::revive(&life, hello, events.clone()));
            revived.map_err(host("identity thread"))?;
        }
    }
    if let Some(dir) = settings.bake.clone() {
        let (machine, life, key) = (machine.clone(), life.clone(), settings.key.clone());
        spawn("bake", move || life.end(bake(&machine, &life, key, &dir))).map_err(host("bake thread"))?;
    }
    admit(&machine, &life, view, inherited, control.as_ref())?;
    if let Some(vsock) = &vsock {
        vsock_socket::serve(vsock, &agent).map_err(host("vsock thread"))?;
    }
    let terminal = match &settings.main {
        Some(exec) => start_main(exec, &life, &events).map_err(host("terminal or thread"))?,
        None => None,
    };

    let ending = event_loop.run(&machine, &life).map_err(host("event loop"))?;
    life.mark("ending");
    machine.gate.stop();
    let (status, message) = ending.explain(&machine.console);
    life.over(message.clone().unwrap_or_else(|| "the machine has ended".to_owned()));
    life.container().restore_terminal();
    drop((control, vsock, terminal));
    life.mark("ended");
    let console = if ending.wants_console() { machine.console.lines() } else { Vec::new() };
    Ok(Report { status, message, console })
}

/// Serves what reaches the machine from outside: processes that join the container, the caller, whoever finds the socket.
fn admit(
    machine: &Arc<Machine>,
    life: &Arc<Lifecycle>,
    view: Option<View>,
    inherited: Option<&Inherited>,
    control: Option<&Socket>,
) -> Result<(), RunError> {
    let host = |source| RunError::Host { what: "control thread", source };
    if let Some(view) = view
        && let Err(error) = view.serve(life)
    {
        log::warn!("processes of the host that join the container's mount namespace do not see its files: {error}");
    }
    if let Some(inherited) = inherited {
        inherited.serve(machine, life).map_err(host)?;
    }
    if let Some(control) = control {
        control::serve(control, machine, life).map_err(host)?;
    }
    Ok(())
}

/// Reads the snapshot, and makes the settings those of its machine.
fn with_snapshot(path: &Path, settings: &Settings) -> Result<(Option<Snapshot>, Settings), RunError> {
    let snapshot = Snapshot::open(path, settings.base.as_deref());
    let snapshot = snapshot.map_err(|source| RunError::Snapshot { path: path.to_owned(), source })?;
    let mut settings = settings.clone();
    settings.follow(&snapshot.state);
    if settings.hypervisor == Choice::Auto {
        settings.hypervisor = Choice::Only(snapshot.state.hypervisor);
    }
    if snapshot.state.hypervisor == HypervisorKind::Soft && settings.cpu_model.is_none() {
        settings.cpu_model = Some(snapshot.state.cpu_model.clone());
    }
    Ok((Some(snapshot), settings))
}

/// A state goes back to the back end and CPU model that it came from, or nowhere.
fn check_origin(settings: &Settings, snapshot: Option<&Snapshot>, hypervisor: &dyn Hypervisor) -> Result<(), RunError> {
    let (Some(path), Some(Snapshot { state, .. })) = (&settings.restore, snapshot) else { return Ok(()) };
    let here = hypervisor.capabilities();
    if (here.kind, &here.cpu_model) == (state.hypervisor, &state.cpu_model) {
        return Ok(());
    }
    let saved = format!("{} ({})", state.hypervisor, state.cpu_model);
    Err(RunError::Foreign { path: path.clone(), saved, here: format!("{} ({})", here.kind, here.cpu_model) })
}

/// Saves the machine once its guest is up and has nothing left to do.
fn bake(machine: &Machine, life: &Lifecycle, key: BTreeMap<String, String>, dir: &Path) -> Ending {
    life.agent();
    let Some((hello, _)) = life.up() else { return Ending::AgentGone };
    let label = Label { kind: Some(Kind::Base), key, ..Label::default() };
    let baked = freeze::settle(machine).and_then(|()| freeze::save(machine, &hello, &label, dir));
    baked.map_or_else(|error| Ending::NotBaked { message: ending::chain(&error) }, |()| Ending::Baked)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.into()).spawn(work).map(drop)
}

/// Starts the thread that runs the main process; the terminal is raw from here on, if the process has one.
fn start_main(exec: &Exec, life: &Arc<Lifecycle>, events: &EventSender) -> io::Result<Option<RawMode>> {
    let terminal = if exec.tty.is_some() { RawMode::enter(io::stdin().as_fd())? } else { None };
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

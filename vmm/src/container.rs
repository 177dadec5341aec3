//! The container: built at a client's request, its first process joined to the vmm's own streams, started, ended.

mod hold;
mod template;

use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use supermachine_agent_protocol::blocking::ConnectionError;
use supermachine_agent_protocol::container::{Furnishings, Hook, TemplatePoint};
use supermachine_agent_protocol::spec::WINDOW;
use supermachine_agent_protocol::{Control, ErrorReply, Frame, FrameKind, Request};
use supermachine_vmm_api::terminal::{self, RawMode};
use supermachine_vmm_api::{ContainerFiles, ContainerState, Create, Relay, Sender, Valve};

use crate::agent::{AgentError, Link};
use crate::bind::{self, BindError, Files};
use crate::ending::Ending;
use crate::leash::Leash;
use crate::life::Lifecycle;
use crate::machine::Machine;
use crate::process;

use hold::HoldState;
pub(crate) use hold::{Held, can_hold, hold};

/// How long the guest may take to build or start a container, besides its hooks.
const BUILD_LIMIT: Duration = Duration::from_secs(60);

/// Why a container cannot be built or started.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// The machine has something else to do.
    #[error("the machine runs a process of its own, not a container")]
    HasMain,
    /// There is one.
    #[error("the machine has its container already")]
    Exists,
    /// There is none.
    #[error("there is no container yet")]
    Missing,
    /// It is past that.
    #[error("the container is not waiting for its start")]
    NotCreated,
    /// It was killed first.
    #[error("the container ended before its start")]
    Ended,
    /// It is being saved.
    #[error("the container is being saved already")]
    IsHeld,
    /// It has ended.
    #[error("the container has ended")]
    Over,
    /// Somebody else reads the input, so that what was there is not there any more.
    #[error("the container's input is being read by somebody else as well")]
    InputStuck,
    /// Its files.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The guest refused or failed.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The agent refused the start; the machine ends.
    #[error(transparent)]
    NotStarted(ErrorReply),
    /// The host's terminal or threads.
    #[error("standard streams")]
    Host(#[from] io::Error),
}

#[derive(Default)]
struct State {
    life: Option<ContainerState>,
    start: Start,
    start_limit: Option<Duration>,
    hold: HoldState,
    /// The number of the last hold that was asked for.
    holds: u64,
    /// What stops the input of the first process for a while.
    valve: Option<Arc<Valve>>,
    template: template::State,
}

/// A start under way.
#[derive(Default)]
enum Start {
    #[default]
    NotAsked,
    /// A client waits for the answer.
    Awaited,
    /// The answer is there for the client.
    Answered(Result<u32, ErrorReply>),
    /// Asked, and nobody waits.
    Unawaited,
}

/// See the module.
#[derive(Default)]
pub struct Slot {
    state: Mutex<State>,
    changed: Condvar,
    /// The terminal as it was, where the container took it over.
    terminal: Mutex<Option<RawMode>>,
}

impl Slot {
    /// Where the container is in its life.
    pub fn state(&self) -> Option<ContainerState> {
        self.lock().life
    }

    /// Whether there is one, built.
    pub fn is_built(&self) -> bool {
        !matches!(self.state(), None | Some(ContainerState::Creating))
    }

    /// Gives the terminal back.
    pub fn restore_terminal(&self) {
        *self.terminal.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Has everybody who waits look at the leash again.
    pub fn wake(&self) {
        drop(self.lock());
        self.changed.notify_all();
    }

    fn set(&self, life: Option<ContainerState>) {
        self.lock().life = life;
        self.changed.notify_all();
    }

    /// Takes what the agent answered to the start; `false` if no client is there to be told.
    fn answer(&self, answer: Result<u32, ErrorReply>) -> bool {
        let mut state = self.lock();
        if answer.is_ok() {
            state.life = Some(ContainerState::Running);
        }
        let awaited = matches!(state.start, Start::Awaited);
        if awaited {
            state.start = Start::Answered(answer);
        }
        self.changed.notify_all();
        awaited
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Binds the container's files, builds it and joins its first process's streams; gives its process id in the guest.
///
/// # Errors
/// There is a container, or it cannot be built; then there is none, and once the guest has tidied up another may be tried.
pub fn create(
    life: &Arc<Lifecycle>,
    machine: &Arc<Machine>,
    wanted: Create,
    files: Files,
    leash: &Leash,
) -> Result<u32, ContainerError> {
    let slot = life.container();
    {
        let mut state = slot.lock();
        if life.has_main() {
            return Err(ContainerError::HasMain);
        }
        if state.life.is_some() {
            return Err(ContainerError::Exists);
        }
        state.life = Some(ContainerState::Creating);
        state.start_limit = limit(&wanted.container.start_hooks);
    }
    let built = build(life, machine, wanted, files, leash);
    if built.is_err() && slot.state() == Some(ContainerState::Creating) {
        slot.set(None);
    }
    built
}

fn build(
    life: &Arc<Lifecycle>,
    machine: &Arc<Machine>,
    wanted: Create,
    files: Files,
    leash: &Leash,
) -> Result<u32, ContainerError> {
    let Create { mut container, files: names, template: order } = wanted;
    let mut files = files;
    let point = container.template;
    let furnishings = (point == Some(TemplatePoint::PreExec)).then(|| container.take_furnishings());
    let (tty, stdin) = (container.process.tty.is_some(), container.process.stdin);
    if let (Some(size), Some(of_terminal)) = (&mut container.process.tty, terminal::size(io::stdin().as_fd())) {
        *size = of_terminal;
    }
    let limit = limit(&container.create_hooks);
    let mut link = leash.call()?;
    life.mark("agent answers");
    bind::bind_disks(machine, &names, &mut files, &mut container.root)?;
    if furnishings.is_none() {
        bind::share(machine, &names, &mut files, &mut container.mounts)?;
    }
    leash.limit(limit);
    let mut pid = create_in_guest(&mut link, &Request::Create(Box::new(container)), leash)?;
    life.mark("container created");
    match (order, point) {
        (Some(order), Some(TemplatePoint::PreExec)) => {
            leash.explain(template::save_built(life, machine, &order, &mut link))?;
        }
        (Some(order), Some(TemplatePoint::Listener)) => life.container().order_template(machine, order),
        _ => {}
    }
    if let Some(furnishings) = furnishings {
        pid = furnish(machine, &mut link, furnishings, (&names, &mut files), leash)?;
        life.mark("container furnished");
    }
    join(life, link, tty, (tty || stdin).then_some(WINDOW), ContainerState::Created)?;
    leash.release();
    Ok(pid)
}

fn create_in_guest(link: &mut Link, request: &Request, leash: &Leash) -> Result<u32, ContainerError> {
    match leash.explain(link.request(request))? {
        Control::Created { pid } => Ok(pid),
        other => Err(AgentError::from(ConnectionError::Unexpected(other)).into()),
    }
}

/// Gives a container that is, or is to be, in a template what others from there need not have; gives its first process's
/// id in the guest.
pub(crate) fn furnish(
    machine: &Machine,
    link: &mut Link,
    mut furnishings: Furnishings,
    (names, files): (&ContainerFiles, &mut Files),
    leash: &Leash,
) -> Result<u32, ContainerError> {
    bind::share(machine, names, files, &mut furnishings.mounts)?;
    create_in_guest(link, &Request::Furnish(Box::new(furnishings)), leash)
}

/// Joins the first process's streams to the vmm's own. So much input may be sent now; without it none may ever be.
pub(crate) fn join(
    life: &Arc<Lifecycle>,
    link: Link,
    tty: bool,
    stdin: Option<u32>,
    state: ContainerState,
) -> Result<(), ContainerError> {
    if tty {
        let raw = RawMode::enter(io::stdin().as_fd())?;
        *life.container().terminal.lock().unwrap_or_else(PoisonError::into_inner) = raw;
    }
    let sender = life.set_main(link.writer)?;
    let streams = process::own_streams(stdin.is_some())?;
    let relay = Relay::resume(link.reader, sender.clone(), streams, stdin.unwrap_or(0))?;
    // The terminal may have got another size meanwhile, when nobody could be told.
    if let Some(size) = terminal::size(io::stdin().as_fd()).filter(|_| tty) {
        sender.resize(size);
    }
    life.container().lock().valve = Some(relay.valve());
    life.container().set(Some(state));
    let runner = life.clone();
    let run = move || {
        if let Some(ending) = run(&runner, relay) {
            runner.end(ending);
        }
    };
    if let Err(error) = thread::Builder::new().name("container".into()).spawn(run) {
        sender.close();
        life.container().set(Some(ContainerState::Creating));
        return Err(error.into());
    }
    Ok(())
}

/// Relays until the container has ended; gives the machine's end, unless a client is told of it first.
fn run(life: &Arc<Lifecycle>, relay: Relay) -> Option<Ending> {
    let slot = life.container();
    let mut told = false;
    let result = relay.wait_with(|frame| {
        match frame.kind {
            FrameKind::Exit => slot.set(Some(ContainerState::Stopped)),
            _ => match answer(frame) {
                Ok(Answer::Started(pid)) => {
                    life.mark("container started");
                    slot.answer(Ok(pid));
                }
                Ok(Answer::Held(number)) => slot.take_held(number),
                Ok(Answer::Listening) => template::save_listening(life),
                Err(ConnectionError::Refused(reply)) => {
                    told = slot.answer(Err(reply.clone()));
                    return Err(ConnectionError::Refused(reply));
                }
                Err(error) => return Err(error),
            },
        }
        Ok(())
    });
    slot.set(Some(ContainerState::Stopped));
    if slot.lock().hold == HoldState::Over {
        return Some(Ending::Killed);
    }
    let ending = result.map_or_else(|error| process::ending_of(&error.into()), Ending::Process);
    (!told).then_some(ending)
}

/// What the agent answers while the first process is there.
enum Answer {
    /// To a start: the process id.
    Started(u32),
    /// To a hold: its number.
    Held(u64),
    /// It listens on a port.
    Listening,
}

/// A frame that must be an answer.
fn answer(frame: &Frame) -> Result<Answer, ConnectionError> {
    if frame.kind == FrameKind::Error {
        return Err(ConnectionError::Refused(frame.parse_json()?));
    }
    match frame.parse_json()? {
        Control::Started { pid } => Ok(Answer::Started(pid)),
        Control::Held { number } => Ok(Answer::Held(number)),
        Control::Listening {} => Ok(Answer::Listening),
        other => Err(ConnectionError::Unexpected(other)),
    }
}

/// Starts the program of the container's first process; gives its process id in the guest.
///
/// # Errors
/// With [`ContainerError::NotStarted`] it is the caller who ends the machine, once it has passed the error on.
pub fn start(life: &Lifecycle, leash: &Leash) -> Result<u32, ContainerError> {
    let slot = life.container();
    let limit = {
        let mut state = slot.lock();
        match (state.life, &state.start) {
            (None | Some(ContainerState::Creating), _) => return Err(ContainerError::Missing),
            (Some(ContainerState::Created), Start::NotAsked) => state.start = Start::Awaited,
            _ => return Err(ContainerError::NotCreated),
        }
        state.start_limit
    };
    leash.limit(limit);
    if !life.main().is_some_and(ask) {
        slot.lock().start = Start::Unawaited;
        return Err(AgentError::from(ConnectionError::Closed).into());
    }
    let mut state = slot.lock();
    loop {
        match std::mem::replace(&mut state.start, Start::Unawaited) {
            Start::Answered(answer) => return answer.map_err(ContainerError::NotStarted),
            waiting => state.start = waiting,
        }
        let why = match (leash.why(), state.life) {
            (Some(why), _) => Some(AgentError::Cut(why).into()),
            (None, Some(ContainerState::Stopped)) => Some(ContainerError::Ended),
            _ => None,
        };
        if let Some(why) = why {
            state.start = Start::Unawaited;
            return Err(why);
        }
        state = slot.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

fn ask(main: &Sender) -> bool {
    main.send_json(FrameKind::Request, &Request::Start {})
}

/// How long a step with these hooks may take; without end if one of them may.
fn limit(hooks: &[Hook]) -> Option<Duration> {
    hooks.iter().try_fold(BUILD_LIMIT, |sum, hook| {
        let secs = hook.timeout_secs?;
        Some(sum.saturating_add(Duration::from_secs(secs.into())))
    })
}

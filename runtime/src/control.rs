//! Talking to a container's vmm: its control socket, and what its answers mean.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use supermachine_vmm_api::{Client, ClientError, ContainerState, Reply, Request, State};

use crate::state::{Dir, Record, StateError, Status};

/// Who we are, for the vmm's log.
pub const SOFTWARE: &str = concat!("supermachine-runtime ", env!("CARGO_PKG_VERSION"));
/// Longest wait for an answer. The vmm waits 10 s for its guest, and says so.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// Longest wait for the guest's boot and the container's hooks in it.
pub const WORK_MAX: Duration = Duration::from_secs(600);

/// How long a machine takes to end at most once its container has, milliseconds.
const ENDING_MS: u16 = 1_500;
/// The same for one that writes volumes back first.
const ENDING_WITH_VOLUMES_MS: u16 = 11_000;

/// Errors of a conversation with a container's machine.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// It cannot be reached.
    #[error("cannot reach the container's machine")]
    Connect(#[source] io::Error),
    /// It refused, or the conversation broke.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It answered something else.
    #[error("unexpected answer of the container's machine: {0:?}")]
    Unexpected(Box<Reply>),
}

/// Connects to the container's machine.
pub fn connect(dir: &Dir) -> Result<Client, ControlError> {
    let stream = open(dir).map_err(ControlError::Connect)?;
    stream.set_read_timeout(Some(ANSWER_MAX)).map_err(ControlError::Connect)?;
    stream.set_write_timeout(Some(ANSWER_MAX)).map_err(ControlError::Connect)?;
    Ok(Client::from_stream(stream, SOFTWARE)?)
}

/// A state directory's path may be longer than a socket's may be; its descriptor's is short.
#[cfg(target_os = "linux")]
fn open(dir: &Dir) -> io::Result<UnixStream> {
    use std::os::fd::AsRawFd;
    let folder = std::fs::File::open(dir.path())?;
    UnixStream::connect(format!("/proc/self/fd/{}/control", folder.as_raw_fd()))
}

#[cfg(not(target_os = "linux"))]
fn open(dir: &Dir) -> io::Result<UnixStream> {
    UnixStream::connect(dir.join("control"))
}

/// Asks for something that is answered with no more than a yes.
pub fn ask(dir: &Dir, request: &Request) -> Result<(), ControlError> {
    match connect(dir)?.request(request)? {
        Reply::Ok {} => Ok(()),
        other => Err(ControlError::Unexpected(Box::new(other))),
    }
}

/// Where the container is in its life. It has stopped once its machine is gone: until then its output may still be on
/// its way.
pub fn status(dir: &Dir) -> Result<Status, StateError> {
    if !dir.is_alive()? {
        return Ok(Status::Stopped);
    }
    let answer = ask_status(dir);
    let record = dir.record()?.filter(|record| record.complete);
    Ok(match (answer, record) {
        (Ok(Some(status)), _) => status,
        // The socket or the container goes first, the process right after.
        (_, Some(record)) => {
            wait_for_end(&record);
            if dir.is_alive()? { Status::Running } else { Status::Stopped }
        }
        (_, None) => {
            if dir.is_alive()? {
                Status::Creating
            } else {
                Status::Stopped
            }
        }
    })
}

/// How long the machine of a container takes to end at most once that has, milliseconds.
pub fn ending_ms(record: &Record) -> u16 {
    if record.has_volumes { ENDING_WITH_VOLUMES_MS } else { ENDING_MS }
}

/// Gives a machine that is about to end the time it needs.
#[cfg(target_os = "linux")]
pub fn wait_for_end(record: &Record) {
    use crate::host::process::Process;
    let process = record.vmm.and_then(|vmm| Process::find(vmm.pid, vmm.started));
    // Whatever comes of it, whether the machine lives is asked again.
    let _ = process.map(|process| process.wait(ending_ms(record).into()));
}

/// Gives a machine that is about to end the time it needs.
#[cfg(not(target_os = "linux"))]
pub fn wait_for_end(_: &Record) {}

/// What the machine says; none once its container is over.
fn ask_status(dir: &Dir) -> Result<Option<Status>, ControlError> {
    let status = match connect(dir)?.request(&Request::Status {})? {
        Reply::Status(status) => status,
        other => return Err(ControlError::Unexpected(Box::new(other))),
    };
    Ok(match (status.container, status.state) {
        (None | Some(ContainerState::Creating), _) => Some(Status::Creating),
        (Some(ContainerState::Stopped), _) => None,
        (Some(_), State::Paused) => Some(Status::Paused),
        (Some(ContainerState::Created), _) => Some(Status::Created),
        (Some(ContainerState::Running), _) => Some(Status::Running),
    })
}

//! `exec --detach`: a process of this host stands for the one in the guest, with its streams, its signals and its
//! exit status, and goes to the caller's sub-reaper.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde::{Deserialize, Serialize};
use supermachine_agent_protocol::Exec;

use crate::cli::Globals;
use crate::console::Console;
use crate::control;
use crate::host::launch::{Launch, Session};
use crate::relay;
use crate::state::{Root, write_whole};

use super::super::{VerbError, chain};
use super::{Args, started};

/// Number of the report connection in the relay.
const REPORT_FD: RawFd = 3;

/// Arguments of the hidden verb.
#[derive(Debug, clap::Args)]
pub struct RelayArgs {
    /// The container.
    id: String,
}

/// What the relay tells the one that started it.
#[derive(Debug, Serialize, Deserialize)]
enum Report {
    /// The process runs.
    Started,
    /// The guest refused it.
    Refused(String),
    /// Something else went wrong.
    Failed(String),
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> VerbError {
    move |source| VerbError::Io { what, source }
}

/// Starts the relay and waits until its process runs.
pub(super) fn start(root: &Root, globals: &Globals, args: &Args, exec: Exec) -> Result<(), VerbError> {
    let console = Console::detached(exec.tty, args.console_socket.as_deref())?;
    let (mut ours, theirs) = UnixStream::pair().map_err(io_error("make a connection"))?;
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let (stdio, session) = match &console {
        Some(console) => ([console.slave.as_fd(); 3], Session::NewWithTerminal),
        None => ([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()], Session::New),
    };
    let program = std::env::current_exe().map_err(io_error("find this program"))?;
    let launch = Launch {
        program: &program,
        args: &relay_args(root, globals, &args.id),
        cwd: Path::new("/"),
        stdio,
        keep: &[(theirs.as_fd(), REPORT_FD)],
        session,
        cgroup: None,
        namespaces: &[],
        view: None,
        oom_score_adj: None,
    };
    let relay = launch.start().map_err(|error| VerbError::Create(error.into()))?;
    drop(theirs);
    // Before the process runs, so that the caller has given the terminal its size by then.
    if let Some(console) = console {
        console.send()?;
    }
    let request = serde_json::to_vec(&exec).map_err(|error| io_error("write the process")(error.into()))?;
    // A relay that fails at once says why; its answer counts.
    let _ = ours.write_all(&request).and_then(|()| ours.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    ours.read_to_end(&mut answer).map_err(io_error("hear from the process's relay"))?;
    match serde_json::from_slice(&answer) {
        Ok(Report::Started) => {}
        Ok(Report::Refused(message)) => return Err(VerbError::Refused(message)),
        Ok(Report::Failed(message)) => return Err(VerbError::WrongState(message)),
        Err(_) => return Err(VerbError::WrongState("the process's relay ended without a word".to_owned())),
    }
    let Some(path) = &args.pid_file else { return Ok(()) };
    let written = write_whole(path, relay.pid.to_string().as_bytes(), 0o644);
    written.map_err(io_error("write the pid file")).inspect_err(|_| {
        // Nobody would know of the process. It is our child; its connection's end takes the process along.
        let _ = relay.process.signal(9);
    })
}

fn relay_args(root: &Root, globals: &Globals, id: &str) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec!["--root".into(), root.path().into()];
    if let Some(log) = &globals.log {
        args.extend(["--log".into(), std::path::absolute(log).unwrap_or_else(|_| log.clone()).into()]);
    }
    if globals.debug {
        args.push("--debug".into());
    }
    args.extend(["exec-relay".into(), id.into()]);
    args
}

/// The relay itself.
pub fn relay(root: &Root, args: &RelayArgs) -> Result<u8, VerbError> {
    let mut report = report_connection()?;
    let signals = relay::hold_signals().map_err(io_error("block signals"))?;
    let mut begun = || -> Result<_, VerbError> {
        let mut request = Vec::new();
        report.read_to_end(&mut request).map_err(io_error("read the process"))?;
        let mut exec: Exec =
            serde_json::from_slice(&request).map_err(|error| io_error("read the process")(error.into()))?;
        exec.tty = exec.tty.map(|_| relay::window_size());
        let has_terminal = exec.tty.is_some();
        Ok((started(control::connect(&root.find(&args.id)?)?, exec)?, has_terminal))
    };
    let (streams, has_terminal) = match begun() {
        Ok(begun) => begun,
        Err(error) => {
            let told = match &error {
                VerbError::Refused(message) => Report::Refused(message.clone()),
                other => Report::Failed(chain(other)),
            };
            tell(report, &told)?;
            return Ok(u8::MAX);
        }
    };
    tell(report, &Report::Started)?;
    Ok(relay::run(streams, signals, has_terminal)?)
}

fn tell(mut report: UnixStream, what: &Report) -> Result<(), VerbError> {
    let bytes = serde_json::to_vec(what).map_err(|error| io_error("report")(error.into()))?;
    report.write_all(&bytes).map_err(io_error("report"))
}

/// The connection to the one that started this relay.
#[expect(unsafe_code, reason = "an inherited descriptor is a number")]
fn report_connection() -> Result<UnixStream, VerbError> {
    nix::fcntl::fcntl(
        // SAFETY: only asked whether it is open, and closed in children from then on.
        unsafe { std::os::fd::BorrowedFd::borrow_raw(REPORT_FD) },
        nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC),
    )
    .map_err(|errno| io_error("find the report connection")(errno.into()))?;
    // SAFETY: it is open, and this verb is started with it as its own: nothing else here knows the number.
    Ok(UnixStream::from(unsafe { OwnedFd::from_raw_fd(REPORT_FD) }))
}

//! `exec`: another process in a container that runs.

pub mod detached;
mod process;

use std::path::PathBuf;

use supermachine_agent_protocol::Exec;
use supermachine_vmm_api::{Client, ClientError};

use crate::cli::Globals;
use crate::console::ConsoleError;
use crate::control::{self, ControlError};
use crate::plan;
use crate::relay;
use crate::state::{Dir, Root, Status, write_whole};

use super::{VerbError, find};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The container.
    id: String,
    /// The program and its arguments.
    #[arg(trailing_var_arg = true)]
    command: Vec<String>,
    /// Socket that gets the terminal's master.
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Working directory in the container.
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// An environment variable. May be given several times.
    #[arg(long, short, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Give it a terminal.
    #[arg(long, short)]
    tty: bool,
    /// User and group ids.
    #[arg(long, short, value_name = "UID[:GID]")]
    user: Option<String>,
    /// A further group. May be given several times.
    #[arg(long, short = 'g', value_name = "GID")]
    additional_gids: Vec<u32>,
    /// The whole process as JSON, as in `config.json`; other options about it are not looked at.
    #[arg(long, short, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Do not wait for its end.
    #[arg(long, short)]
    detach: bool,
    /// File for the id of the process that stands for it on the host.
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// SELinux label: only an empty one is possible.
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// AppArmor profile.
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// Nothing that it executes may give it more rights.
    #[arg(long)]
    no_new_privs: bool,
    /// A further capability. May be given several times.
    #[arg(long, short, value_name = "CAPABILITY")]
    cap: Vec<String>,
    /// Number of further descriptors to pass on: only 0 is possible.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    preserve_fds: u32,
    /// Control group below the container's: only its own is possible.
    #[arg(long, value_name = "PATH")]
    cgroup: Vec<String>,
    /// Try it in a paused container too.
    #[arg(long)]
    ignore_paused: bool,
}

/// Runs a process; the status is its own.
pub fn run(root: &Root, globals: &Globals, args: &Args) -> Result<u8, VerbError> {
    let found = find(root, &args.id)?;
    let wrong = match found.status {
        Status::Stopped => Some("cannot exec in a stopped container"),
        Status::Creating => Some("cannot exec in a container that is being created"),
        Status::Paused if !args.ignore_paused => {
            Some("cannot exec in a paused container (use --ignore-paused to override)")
        }
        _ => None,
    };
    if let Some(message) = wrong {
        return Err(VerbError::WrongState(message.to_owned()));
    }
    let exec = plan(&found.dir, args)?;
    if args.detach {
        return detached::start(root, globals, args, exec).map(|()| 0);
    }
    if args.console_socket.is_some() {
        return Err(ConsoleError::NotNeeded.into());
    }
    foreground(&found.dir, args, exec)
}

fn plan(dir: &Dir, args: &Args) -> Result<Exec, VerbError> {
    let base = dir.exec_base()?;
    let base = base.ok_or_else(|| VerbError::WrongState("the container's bundle has no process".to_owned()))?;
    let process = process::from_args(args, base.process)?;
    let planned = plan::plan_process(&process, &base.attributes)?;
    planned.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    let mut exec = planned.value;
    exec.container = true;
    exec.stdin = true;
    exec.tty = process.terminal().unwrap_or(false).then(relay::window_size);
    Ok(exec)
}

fn foreground(dir: &Dir, args: &Args, exec: Exec) -> Result<u8, VerbError> {
    let signals = relay::hold_signals().map_err(|source| VerbError::Io { what: "block signals", source })?;
    let has_terminal = exec.tty.is_some();
    let streams = started(control::connect(dir)?, exec)?;
    if let Some(path) = &args.pid_file {
        let pid = std::process::id().to_string();
        let written = write_whole(path, pid.as_bytes(), 0o644);
        written.map_err(|source| VerbError::Io { what: "write the pid file", source })?;
    }
    Ok(relay::run(streams, signals, has_terminal)?)
}

/// Both directions of a process's connection.
type Connection = (
    supermachine_agent_protocol::blocking::FrameReader<std::os::unix::net::UnixStream>,
    supermachine_agent_protocol::blocking::FrameWriter<std::os::unix::net::UnixStream>,
);

/// Starts the process; what the guest says against it is told in runc's words.
fn started(client: Client, exec: Exec) -> Result<Connection, VerbError> {
    match client.exec(exec) {
        Ok((reader, writer, _pid)) => Ok((reader, writer)),
        Err(ClientError::Refused(reply)) => Err(VerbError::Refused(reply.message)),
        Err(error) => Err(ControlError::from(error).into()),
    }
}

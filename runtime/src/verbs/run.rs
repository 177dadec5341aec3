//! `run`: creates and starts a container, and unless detached waits for its end and deletes it.

use std::io;
use std::thread;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::termios::{SetArg, tcgetattr, tcsetattr};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use supermachine_vmm_api::trace;

use crate::cli::Globals;
use crate::create::{self, Created, Terminal};
use crate::state::{Dir, Record, Root, StateError};

use super::create::Common;
use super::{VerbError, delete, start};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Arguments that `create` has too.
    #[command(flatten)]
    common: Common,
    /// Do not wait for its end.
    #[arg(long, short)]
    detach: bool,
    /// Do not delete it at its end.
    #[arg(long)]
    keep: bool,
    /// Accepted and not used: nothing is re-parented to this process.
    #[arg(long)]
    no_subreaper: bool,
}

/// Signals that go on to the container.
const FORWARDED: [Signal; 9] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGCONT,
    Signal::SIGWINCH,
];

/// Runs a container; the status is its own.
pub fn run(root: &Root, globals: &Globals, args: &Args) -> Result<u8, VerbError> {
    let socket = args.common.console_socket.as_deref();
    let terminal = if args.detach || socket.is_some() { Terminal::Own(socket) } else { Terminal::Callers };
    let order = args.common.order(globals, terminal)?;
    if args.detach {
        let created = create::create(root, &order)?;
        started(created)?;
        return Ok(0);
    }
    attended(args.keep, || Ok(create::create(root, &order)?), started)
}

/// Makes a container, starts it, waits for its end, passing signals on, and deletes it unless it is to be kept; the status
/// is its own.
pub(super) fn attended(
    keep: bool,
    make: impl FnOnce() -> Result<Created, VerbError>,
    start: impl FnOnce(Created) -> Result<(Dir, Record), VerbError>,
) -> Result<u8, VerbError> {
    // Blocked before the machine exists, so that none is lost; the machine's own are not.
    let signals: SigSet = FORWARDED.into_iter().collect();
    signals.thread_block().map_err(|errno| VerbError::Io { what: "block signals", source: errno.into() })?;
    // None if it is no terminal.
    let modes = tcgetattr(io::stdin()).ok();
    let created = make()?;
    let pid = Pid::from_raw(created.machine.pid.cast_signed());
    let (dir, record) = start(created)?;
    trace::mark("runtime", "container started");
    forward(signals, pid);
    let status = wait(pid)?;
    trace::mark("runtime", "machine reaped");
    if let Some(modes) = modes.filter(|_| record.terminal) {
        // A machine that was killed could not put the terminal back itself. One that is gone needs no modes.
        let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &modes);
    }
    if !keep {
        match dir.lock() {
            // Its end was a checkpoint's, or somebody else's delete.
            Err(StateError::Deleted) => {}
            lock => {
                let _lock = lock?;
                delete::remove(&dir, Some(&record))?;
            }
        }
    }
    trace::mark("runtime", "container deleted");
    Ok(status)
}

/// Starts what was created; if that fails nothing is left.
fn started(created: Created) -> Result<(Dir, Record), VerbError> {
    let result = start::start(&created.dir, &created.record);
    let pid = Pid::from_raw(created.machine.pid.cast_signed());
    if let Err(error) = result {
        // Our own child: it is there until it is waited for.
        let _ = kill(pid, Signal::SIGKILL);
        let _ = waitpid(pid, None);
        delete::remove(&created.dir, Some(&created.record))?;
        return Err(error);
    }
    unlocked(created)
}

/// Lets other verbs have a container that runs already.
pub(super) fn unlocked(created: Created) -> Result<(Dir, Record), VerbError> {
    let (dir, record, _) = created.unlock();
    Ok((dir, record))
}

/// Passes signals on until this process ends.
fn forward(signals: SigSet, pid: Pid) {
    let pass = move || {
        while let Ok(signal) = signals.wait() {
            // It may have ended; then there is nobody to tell. It is not reaped before this process is done with it.
            let _ = kill(pid, signal);
        }
    };
    if let Err(error) = thread::Builder::new().name("signals".into()).spawn(pass) {
        log::warn!("signals do not reach the container: {error}");
    }
}

/// The exit status of the machine, which is the container's.
fn wait(pid: Pid) -> Result<u8, VerbError> {
    loop {
        match waitpid(pid, None) {
            Ok(WaitStatus::Exited(_, status)) => return Ok(u8::try_from(status).unwrap_or(u8::MAX)),
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                return Ok(u8::try_from(128 + signal as i32).unwrap_or(u8::MAX));
            }
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(VerbError::Io { what: "wait for the container", source: errno.into() }),
        }
    }
}

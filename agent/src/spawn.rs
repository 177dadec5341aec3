//! Starting a process: checks, pipes or terminal, fork, and what a failed start means.

mod child;
mod plan;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::pty::{posix_openpt, unlockpt};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, fchown, pipe2};
use supermachine_agent_protocol::{ErrorCode, ErrorReply, Exec, WindowSize};

use crate::sys;
pub(crate) use plan::Names;
use plan::Plan;

/// A process that is on its way to its program.
#[derive(Debug)]
pub(crate) struct Spawned {
    /// Its process id.
    pub(crate) pid: libc::pid_t,
    /// Readable when it has ended.
    pub(crate) pidfd: OwnedFd,
    /// Ends without a byte when the program is entered; [`Names::start_error`] reads the bytes of a failure.
    pub(crate) report: OwnedFd,
    /// Where its standard input is written, or its terminal.
    pub(crate) stdin: Option<OwnedFd>,
    /// Where its standard output is read, or its terminal.
    pub(crate) stdout: OwnedFd,
    /// Where its standard error is read; a terminal has none.
    pub(crate) stderr: Option<OwnedFd>,
    /// For the words of a start error.
    pub(crate) names: Names,
}

/// The agent's and the process's ends of the standard streams.
struct Stdio {
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: Option<OwnedFd>,
    /// What becomes descriptors 0, 1 and 2; a missing one is the one before it.
    theirs: [Option<OwnedFd>; 3],
}

/// An `ErrorReply` for a failed system call.
pub(crate) fn os_error(what: &str, errno: Errno) -> ErrorReply {
    reply(ErrorCode::Os, Some(errno), format!("{what}: {}", words(errno)))
}

/// An `ErrorReply` for a request that cannot be meant.
pub(crate) fn bad_request(message: impl Into<String>) -> ErrorReply {
    reply(ErrorCode::BadRequest, None, message.into())
}

fn reply(code: ErrorCode, errno: Option<Errno>, message: String) -> ErrorReply {
    ErrorReply { code, errno: errno.map(|errno| errno as i32), message }
}

/// The error's words as container tools print them.
fn words(errno: Errno) -> String {
    errno.desc().to_lowercase()
}

/// Forks a process for `exec`. It may still fail to reach its program, see [`Spawned::report`].
pub(crate) fn spawn(exec: &Exec) -> Result<Spawned, ErrorReply> {
    let plan = Plan::new(exec)?;
    let call = |what| move |errno| os_error(what, errno);
    let uid = Uid::from_raw(exec.user.uid);
    let stdio = match exec.tty {
        Some(size) => terminal(size, uid).map_err(call("cannot open a terminal"))?,
        None => pipes(exec.stdin, uid).map_err(call("cannot open pipes"))?,
    };
    let (report, report_end) = pipe2(OFlag::O_CLOEXEC).map_err(call("cannot open a pipe"))?;
    nonblocking(&report).map_err(call("cannot open a pipe"))?;
    let pid = child::fork_into(&plan, stdio.theirs(), report_end.as_fd()).map_err(call("cannot fork"))?;
    let pidfd = sys::pidfd_open(pid).map_err(|error| {
        // Without a descriptor its end would go unseen: take the process back.
        sys::kill_and_reap(pid);
        os_error("cannot watch the process", errno_of(&error))
    })?;
    let Stdio { stdin, stdout, stderr, theirs: _ } = stdio;
    Ok(Spawned { pid, pidfd, report, stdin, stdout, stderr, names: plan.into_names() })
}

fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

impl Stdio {
    fn theirs(&self) -> [BorrowedFd<'_>; 3] {
        let [stdin, stdout, stderr] = &self.theirs;
        let stdin = stdin.as_ref().map_or_else(|| self.stdout.as_fd(), AsFd::as_fd);
        let stdout = stdout.as_ref().map_or(stdin, AsFd::as_fd);
        let stderr = stderr.as_ref().map_or(stdout, AsFd::as_fd);
        [stdin, stdout, stderr]
    }
}

fn terminal(size: WindowSize, owner: Uid) -> nix::Result<Stdio> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let master = posix_openpt(flags)?;
    unlockpt(&master)?;
    let slave = sys::open_terminal(&master).map_err(|error| errno_of(&error))?;
    sys::set_window_size(&master, size).map_err(|error| errno_of(&error))?;
    fchown(&slave, Some(owner), None)?;
    let stdout = OwnedFd::from(master);
    // The descriptor of each direction is watched for itself, so there are two.
    let stdin = fcntl(&stdout, FcntlArg::F_DUPFD_CLOEXEC(3)).map(sys::own)?;
    Ok(Stdio { stdin: Some(stdin), stdout, stderr: None, theirs: [Some(slave), None, None] })
}

fn pipes(with_stdin: bool, owner: Uid) -> nix::Result<Stdio> {
    let (stdout, stdout_end) = pipe2(OFlag::O_CLOEXEC)?;
    let (stderr, stderr_end) = pipe2(OFlag::O_CLOEXEC)?;
    let (stdin_end, stdin) = if with_stdin {
        let (theirs, ours) = pipe2(OFlag::O_CLOEXEC)?;
        nonblocking(&ours)?;
        fchown(&theirs, Some(owner), None)?;
        (theirs, Some(ours))
    } else {
        (open("/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?, None)
    };
    // A process that is not root may open its streams again by /dev/stdout and /dev/stderr.
    for (ours, theirs) in [(&stdout, &stdout_end), (&stderr, &stderr_end)] {
        nonblocking(ours)?;
        fchown(theirs, Some(owner), None)?;
    }
    let theirs = [Some(stdin_end), Some(stdout_end), Some(stderr_end)];
    Ok(Stdio { stdin, stdout, stderr: Some(stderr), theirs })
}

fn nonblocking(fd: &OwnedFd) -> nix::Result<()> {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map(drop)
}

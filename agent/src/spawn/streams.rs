//! The pipes of a process, both ends.

use std::os::fd::OwnedFd;

use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, fchown, pipe2};

use crate::sys;

/// The agent's ends of a process's streams.
#[derive(Debug)]
pub(crate) struct Streams {
    /// Where its standard input is written, or its terminal.
    pub(crate) stdin: Option<OwnedFd>,
    /// Where its standard output is read, or its terminal.
    pub(crate) stdout: OwnedFd,
    /// Where its standard error is read; a terminal has none.
    pub(crate) stderr: Option<OwnedFd>,
}

/// The process's ends: what becomes its descriptors 0, 1 and 2.
pub(super) type Theirs = [OwnedFd; 3];

impl Streams {
    /// The streams of a process whose terminal this is.
    pub(crate) fn terminal(master: OwnedFd) -> nix::Result<Self> {
        nonblocking(&master)?;
        // The descriptor of each direction is watched for itself, so there are two.
        let stdin = fcntl(&master, FcntlArg::F_DUPFD_CLOEXEC(3)).map(sys::own)?;
        Ok(Self { stdin: Some(stdin), stdout: master, stderr: None })
    }
}

/// Pipes for a process; without input it reads `/dev/null`.
pub(super) fn pipes(with_stdin: bool, owner: Uid) -> nix::Result<(Streams, Option<Theirs>)> {
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
    Ok((Streams { stdin, stdout, stderr: Some(stderr) }, Some([stdin_end, stdout_end, stderr_end])))
}

fn nonblocking(fd: &OwnedFd) -> nix::Result<()> {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map(drop)
}

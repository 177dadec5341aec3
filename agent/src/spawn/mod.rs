//! Starting a process: checks, streams, fork, what the child does until its program runs.

pub(crate) mod channel;
pub(crate) mod fork;
mod program;
mod session;
mod streams;

use std::os::fd::{BorrowedFd, OwnedFd};

use nix::unistd::Uid;
use supermachine_agent_protocol::container::{ContainerMount, Furnishings};
use supermachine_agent_protocol::{ErrorReply, Exec};

use crate::attributes::Outside;
use crate::reply::{Step, bad_request, failed, os_error};
use crate::sys;
pub(crate) use channel::ChildEnd;
use channel::Word;
pub(crate) use program::Program;
pub(crate) use session::Terminal;
pub(crate) use streams::Streams;

/// A process that is on its way to its program.
#[derive(Debug)]
pub(crate) struct Spawned {
    /// Its process id.
    pub(crate) pid: libc::pid_t,
    /// Readable when it has ended.
    pub(crate) pidfd: OwnedFd,
    /// Where it reports, see [`channel`].
    pub(crate) channel: OwnedFd,
    /// Its pipes; one with a terminal has none, the terminal comes with its report.
    pub(crate) streams: Option<Streams>,
    /// What is done to it before it may enter its program.
    pub(crate) outside: Outside,
}

/// Where a process is forked into.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    /// `CLONE_NEW…` flags.
    pub(crate) namespaces: u64,
    /// Its control group.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// Who owns its pipes, in the guest's ids.
    pub(crate) owner: Uid,
}

/// What is particular to a child before its program.
pub(crate) trait Way {
    /// Brings the child to where it belongs and opens its terminal if it has one.
    fn prepare(&mut self, channel: &ChildEnd) -> Result<Option<Terminal>, ErrorReply>;
    /// Puts mounts in place that come later, each by a view of what it shows.
    fn furnish(&mut self, _: &[ContainerMount], _: &[OwnedFd]) -> Step {
        Err(bad_request("furnish: the process is not a container's first"))
    }
    /// Done when it was told to start, before anything is taken from it.
    fn start(&mut self) -> Result<(), ErrorReply>;
}

/// Forks a process for `exec` in the guest itself.
pub(crate) fn spawn(exec: &Exec) -> Result<Spawned, ErrorReply> {
    let place = Place { namespaces: 0, cgroup: None, owner: Uid::from_raw(exec.user.uid) };
    launch(exec, &place, |_| Ok(()), &mut InGuest { exec })
}

/// Forks a process that goes its `way` to the program of `exec`; `parent` is what the agent does to it at once.
pub(crate) fn launch(
    exec: &Exec,
    place: &Place<'_>,
    parent: impl FnOnce(&Spawned) -> Result<(), ErrorReply>,
    way: &mut impl Way,
) -> Result<Spawned, ErrorReply> {
    let program = Program::new(exec)?;
    let outside = Outside::new(&exec.attributes)?;
    let mut pipes = match exec.tty {
        Some(_) => None,
        None => Some(streams::pipes(exec.stdin, place.owner).map_err(failed(|| "cannot open pipes".to_owned()))?),
    };
    let theirs = pipes.as_mut().and_then(|pipes| pipes.1.take());
    let (channel, child_end) = channel::pair().map_err(|errno| os_error("cannot open sockets", errno))?;
    match fork::fork(place.namespaces, place.cgroup).map_err(|errno| os_error("cannot fork", errno))? {
        fork::Forked::Child => {
            let guard = fork::LeaveOnDrop;
            drop(channel);
            let error = become_program(exec, program, theirs, &child_end, way);
            child_end.failed(&error);
            drop(guard);
            fork::leave(127)
        }
        fork::Forked::Parent { pid, pidfd } => {
            let streams = pipes.map(|pipes| pipes.0);
            let spawned = Spawned { pid, pidfd, channel, streams, outside };
            parent(&spawned).map(|()| spawned).inspect_err(|_| sys::kill_and_reap(pid))
        }
    }
}

/// Returns only if a step fails.
fn become_program(
    exec: &Exec,
    mut program: Program,
    pipes: Option<streams::Theirs>,
    channel: &ChildEnd,
    way: &mut impl Way,
) -> ErrorReply {
    let mut steps = || -> Step {
        session::begin()?;
        let terminal = way.prepare(channel)?;
        match (&terminal, &pipes) {
            (Some(terminal), _) => session::take_terminal(terminal, program.user())?,
            (None, Some(pipes)) => session::take_pipes(pipes)?,
            (None, None) => {}
        }
        channel.ready(terminal.as_ref().map(Terminal::master))?;
        drop(terminal);
        while let Word::Furnish(Furnishings { argv, env, mounts }, views) = channel.wait()? {
            way.furnish(&mounts, &views)?;
            program = Program::new(&Exec { argv, env, ..exec.clone() })?;
            program.look_up()?;
            channel.ready(None)?;
        }
        way.start()
    };
    match steps() {
        Ok(()) => program.enter(),
        Err(error) => error,
    }
}

/// The way of a process that runs in the guest itself.
struct InGuest<'a> {
    exec: &'a Exec,
}

impl Way for InGuest<'_> {
    fn prepare(&mut self, _: &ChildEnd) -> Result<Option<Terminal>, ErrorReply> {
        let terminal = self.exec.tty.map(|size| Terminal::open("/dev/ptmx", size)).transpose()?;
        if let Some(root) = &self.exec.root {
            let entered = nix::unistd::chdir(root.as_str()).and_then(|()| nix::unistd::chroot("."));
            entered.map_err(failed(|| format!("cannot enter root {root:?}")))?;
        }
        Ok(terminal)
    }

    fn start(&mut self) -> Result<(), ErrorReply> {
        Ok(())
    }
}

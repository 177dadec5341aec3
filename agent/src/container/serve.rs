//! A process that serves the container's files to the host: what processes of the host see that join the vmm's mount
//! namespace.
//!
//! It is a fork of the agent in the container's mount namespace and nothing else of it: no process of the container can
//! signal or trace it, and it counts for none of its limits. It ends with its connection.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::SigSet;
use nix::sys::stat::{Mode, umask};
use supermachine_agent_protocol::FrameKind;
use supermachine_agent_protocol::blocking::{ConnectionError, FrameReader, FrameWriter};
use supermachine_agent_protocol::spec::MAX_FUSE;
use supermachine_share::{Limits, Server, ShareConfig, ShareError};
use vm_memory::VolatileSlice;

use crate::log;
use crate::reply::{Step, os_error};
use crate::spawn::fork;
use crate::sys;

/// Requests carried out at the same time: some files of proc make their reader wait.
const THREADS: usize = 4;
/// What the host may occupy. Nothing is believed for any time: the container changes its files at any moment.
const LIMITS: Limits = Limits { nodes: 1 << 16, handles: 1024, directories: 256, shares: 1, valid: Duration::ZERO };

/// Forks the process that serves on `socket` what `init` has as its root; gives its number and what tells of its end.
pub(super) fn fork(init: BorrowedFd<'_>, socket: BorrowedFd<'_>) -> Step<(libc::pid_t, OwnedFd)> {
    match fork::fork(0, None).map_err(|errno| os_error("cannot fork", errno))? {
        fork::Forked::Parent { pid, pidfd } => Ok((pid, pidfd)),
        fork::Forked::Child => {
            let _guard = fork::LeaveOnDrop;
            if let Err(error) = serve(init, socket) {
                log::error(&format!("the container's files are not served: {error}"));
                fork::leave(1);
            }
            fork::leave(0)
        }
    }
}

/// Serves until the connection ends.
fn serve(init: BorrowedFd<'_>, socket: BorrowedFd<'_>) -> io::Result<()> {
    sys::close_others(&mut [init.as_raw_fd(), socket.as_raw_fd()]);
    nix::unistd::setsid()?;
    // The agent blocks what it waits for, and is the last to go when memory runs out.
    SigSet::all().thread_unblock()?;
    std::fs::write("/proc/self/oom_score_adj", "0")?;
    umask(Mode::empty());
    let blocking = OFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFL)?).difference(OFlag::O_NONBLOCK);
    fcntl(socket, FcntlArg::F_SETFL(blocking))?;
    let server = Server::of_tree(|| enter(init), LIMITS).map_err(io::Error::other)?;
    let socket = File::from(socket.try_clone_to_owned()?);
    let reader = Mutex::new(FrameReader::new(&socket, MAX_FUSE));
    let writer = Mutex::new(FrameWriter::new(&socket));
    std::thread::scope(|scope| {
        for _ in 1..THREADS {
            scope.spawn(|| work(&server, &reader, &writer));
        }
        work(&server, &reader, &writer)
    })
}

/// Enters the container's mount namespace and opens what is the root there, whatever its processes have as theirs.
fn enter(init: BorrowedFd<'_>) -> Result<ShareConfig, ShareError> {
    let root = Path::new("/");
    setns(init, CloneFlags::CLONE_NEWNS)
        .map_err(|errno| ShareError::Open { path: root.to_owned(), source: errno.into() })?;
    ShareConfig::open(root)
}

/// Carries out requests. The end of the connection ends the process, whatever the other threads wait for.
fn work(server: &Server, reader: &Mutex<FrameReader<&File>>, writer: &Mutex<FrameWriter<&File>>) -> ! {
    let mut room = vec![0; usize::try_from(MAX_FUSE).unwrap_or(0)];
    let mut one = || -> Result<(), ConnectionError> {
        let frame = reader.lock().unwrap_or_else(PoisonError::into_inner).frame()?;
        let mut request = frame.expect(FrameKind::Fuse)?.payload;
        let (request, reply) = (VolatileSlice::from(request.as_mut_slice()), VolatileSlice::from(room.as_mut_slice()));
        let len = server.handle(&[request], &[reply]);
        match room.get(..len).filter(|reply| !reply.is_empty()) {
            Some(reply) => writer.lock().unwrap_or_else(PoisonError::into_inner).send(FrameKind::Fuse, reply),
            None => Ok(()),
        }
    };
    loop {
        if one().is_err() {
            fork::leave(0)
        }
    }
}

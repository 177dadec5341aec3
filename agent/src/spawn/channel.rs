//! What a child and the agent tell each other until the child's program is entered.
//!
//! A pair of sockets that keep messages apart. The child's end is closed by its exec, which the agent sees.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, recvmsg, send, sendmsg,
    socketpair,
};
use rustix::fs::{MemfdFlags, memfd_create};
use supermachine_agent_protocol::container::Furnishings;
use supermachine_agent_protocol::spec::SHARED_MOUNTS_MAX;
use supermachine_agent_protocol::{ErrorCode, ErrorReply};

use crate::reply::{Step, bad_request, failed, os_error, reply};
use crate::sys;

const READY: u8 = b'r';
const FAILED: u8 = b'f';
const GO: u8 = b'g';
const FURNISH: u8 = b'u';
/// Longest message, bytes.
const LONGEST: usize = 16 << 10;

/// What a child tells.
#[derive(Debug)]
pub(crate) enum Report {
    /// Everything is prepared; its terminal, if it has one.
    Ready(Option<OwnedFd>),
    /// It cannot go on.
    Failed(ErrorReply),
    /// It has entered its program, or has died.
    Closed,
}

/// What a child is told.
#[derive(Debug)]
pub(crate) enum Word {
    /// To go on.
    Go,
    /// What its container is furnished with, and a view for each mount of that.
    Furnish(Furnishings, Vec<OwnedFd>),
}

/// The child's end.
#[derive(Debug)]
pub(crate) struct ChildEnd(OwnedFd);

/// Makes both ends: the agent's first.
pub(crate) fn pair() -> nix::Result<(OwnedFd, ChildEnd)> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    Ok((ours, ChildEnd(theirs)))
}

/// Takes a report if there is one.
pub(crate) fn receive(ours: BorrowedFd<'_>) -> Option<Report> {
    let mut bytes = [0; LONGEST];
    let mut space = nix::cmsg_space!(RawFd);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let (count, terminal) = match recvmsg::<UnixAddr>(ours.as_raw_fd(), &mut parts, Some(&mut space), flags) {
        Err(Errno::EAGAIN | Errno::EINTR) => return None,
        Err(_) => return Some(Report::Closed),
        Ok(message) => (message.bytes, descriptors(message.cmsgs()).next()),
    };
    Some(match bytes.get(..count).unwrap_or_default() {
        [] => Report::Closed,
        [READY, ..] => Report::Ready(terminal),
        [_, text @ ..] => Report::Failed(serde_json::from_slice(text).unwrap_or_else(|_| {
            reply(ErrorCode::Os, None, "the process failed before its program, and cannot say why")
        })),
    })
}

/// Those that came with a message.
fn descriptors(parts: nix::Result<impl Iterator<Item = ControlMessageOwned>>) -> impl Iterator<Item = OwnedFd> {
    let of_part = |part| match part {
        ControlMessageOwned::ScmRights(fds) => fds,
        _ => Vec::new(),
    };
    parts.into_iter().flatten().flat_map(of_part).map(sys::own)
}

/// Lets the child go on.
pub(crate) fn go(ours: BorrowedFd<'_>) -> nix::Result<()> {
    send(ours.as_raw_fd(), &[GO], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL).map(drop)
}

/// Gives the child what its container is furnished with, and a view for each of its mounts. It reports again.
pub(crate) fn furnish(ours: BorrowedFd<'_>, furnishings: &Furnishings, views: &[BorrowedFd<'_>]) -> Step {
    // In a file: an environment may be longer than a message.
    let file = write_down(furnishings).map_err(failed(|| "cannot write the furnishings down".to_owned()))?;
    let fds: Vec<RawFd> = [file.as_fd()].iter().chain(views).map(AsRawFd::as_raw_fd).collect();
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let rights = [ControlMessage::ScmRights(&fds)];
    let sent = sendmsg::<UnixAddr>(ours.as_raw_fd(), &[IoSlice::new(&[FURNISH])], &rights, flags, None);
    sent.map(drop).map_err(|errno| os_error("cannot furnish the container", errno))
}

fn write_down(furnishings: &Furnishings) -> io::Result<File> {
    let mut file = File::from(memfd_create("furnishings", MemfdFlags::CLOEXEC)?);
    file.write_all(&serde_json::to_vec(furnishings)?)?;
    file.rewind()?;
    Ok(file)
}

impl ChildEnd {
    /// Tells that everything is prepared.
    pub(crate) fn ready(&self, terminal: Option<BorrowedFd<'_>>) -> Result<(), ErrorReply> {
        let fds: Vec<RawFd> = terminal.iter().map(|fd| fd.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let parts = if fds.is_empty() { &[] } else { rights.as_slice() };
        let (fd, flags) = (self.0.as_raw_fd(), MsgFlags::MSG_NOSIGNAL);
        let sent = sendmsg::<UnixAddr>(fd, &[IoSlice::new(&[READY])], parts, flags, None);
        sent.map(drop).map_err(|errno| os_error("cannot tell the agent", errno))
    }

    /// Waits for what the agent has to say; without an agent the child ends.
    pub(crate) fn wait(&self) -> Step<Word> {
        let mut byte = [0];
        let mut space = nix::cmsg_space!([RawFd; 1 + SHARED_MOUNTS_MAX]);
        let (count, mut fds) = loop {
            let mut parts = [IoSliceMut::new(&mut byte)];
            let (fd, flags) = (self.0.as_raw_fd(), MsgFlags::MSG_CMSG_CLOEXEC);
            match recvmsg::<UnixAddr>(fd, &mut parts, Some(&mut space), flags) {
                Err(Errno::EINTR) => {}
                Err(_) => super::fork::leave(127),
                Ok(message) => break (message.bytes, descriptors(message.cmsgs()).collect::<Vec<_>>().into_iter()),
            }
        };
        match (count, byte, fds.next()) {
            (1, [GO], None) => Ok(Word::Go),
            (1, [FURNISH], Some(file)) => {
                let furnishings = serde_json::from_reader(io::BufReader::new(File::from(file)));
                let furnishings = furnishings.map_err(|error| bad_request(format!("furnishings: {error}")))?;
                Ok(Word::Furnish(furnishings, fds.collect()))
            }
            _ => super::fork::leave(127),
        }
    }

    /// Tells why it cannot go on.
    pub(crate) fn failed(&self, error: &ErrorReply) {
        let mut bytes = vec![FAILED];
        // If it cannot be told, the end of the channel is.
        let _ = serde_json::to_writer(&mut bytes, error);
        let _ = send(self.0.as_raw_fd(), &bytes, MsgFlags::MSG_NOSIGNAL);
    }
}

impl AsFd for ChildEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

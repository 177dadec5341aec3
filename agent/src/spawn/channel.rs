//! What a child and the agent tell each other until the child's program is entered.
//!
//! A pair of sockets that keep messages apart. The child's end is closed by its exec, which the agent sees.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, recv, recvmsg, send,
    sendmsg, socketpair,
};
use supermachine_agent_protocol::{ErrorCode, ErrorReply};

use crate::reply::{os_error, reply};
use crate::sys;

const READY: u8 = b'r';
const FAILED: u8 = b'f';
const GO: [u8; 1] = [b'g'];
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
        Ok(message) => {
            let fds = message.cmsgs().into_iter().flatten().flat_map(|part| match part {
                ControlMessageOwned::ScmRights(fds) => fds,
                _ => Vec::new(),
            });
            (message.bytes, fds.map(sys::own).next())
        }
    };
    Some(match bytes.get(..count).unwrap_or_default() {
        [] => Report::Closed,
        [READY, ..] => Report::Ready(terminal),
        [_, text @ ..] => Report::Failed(serde_json::from_slice(text).unwrap_or_else(|_| {
            reply(ErrorCode::Os, None, "the process failed before its program, and cannot say why")
        })),
    })
}

/// Lets the child go on.
pub(crate) fn go(ours: BorrowedFd<'_>) -> nix::Result<()> {
    send(ours.as_raw_fd(), &GO, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL).map(drop)
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

    /// Waits until the agent lets it go on; without an agent it never does.
    pub(crate) fn wait(&self) {
        let mut byte = [0];
        loop {
            match recv(self.0.as_raw_fd(), &mut byte, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                Ok(1) => return,
                _ => super::fork::leave(127),
            }
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

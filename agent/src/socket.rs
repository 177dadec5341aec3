//! Where the agent listens: vsock in a guest, a Unix socket in tests on the host.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::str::FromStr;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrLike, UnixAddr, VsockAddr, accept4, bind, connect, getpeername,
    listen, socket,
};
use supermachine_agent_protocol::spec::{AGENT_PORT, HOST_CID};

use crate::error::AgentError;

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// A vsock port, any CID of this machine.
    Vsock(u32),
    /// A Unix socket; an old file at the path is replaced.
    Unix(PathBuf),
}

impl Default for Address {
    fn default() -> Self {
        Self::Vsock(AGENT_PORT)
    }
}

impl FromStr for Address {
    type Err = AgentError;

    fn from_str(text: &str) -> Result<Self, AgentError> {
        let port = text.strip_prefix("vsock:").and_then(|port| port.parse().ok()).map(Self::Vsock);
        let path = text.strip_prefix("unix:").filter(|path| !path.is_empty()).map(|path| Self::Unix(path.into()));
        port.or(path).ok_or_else(|| AgentError::Address { address: text.to_owned() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vsock(port) => write!(f, "vsock:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Address {
    /// Binds and listens.
    pub(crate) fn listen(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Vsock(port) => bound(AddressFamily::Vsock, &VsockAddr::new(libc::VMADDR_CID_ANY, *port)),
            Self::Unix(path) => match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => bound(AddressFamily::Unix, &UnixAddr::new(path)?),
            },
        }
    }

    /// Accepts a connection; `None` if none waits or the caller is not the host.
    pub(crate) fn accept(&self, listener: impl AsFd) -> io::Result<Option<OwnedFd>> {
        let fd = match accept4(listener.as_fd().as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK) {
            Ok(fd) => crate::sys::own(fd),
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNABORTED) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(fd).filter(|fd| self.is_host(fd)))
    }

    /// Starts to call the host, who learns from it that the agent listens. Only a guest has one to call.
    pub(crate) fn call_host(&self) -> Option<OwnedFd> {
        let Self::Vsock(port) = self else { return None };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Vsock, SockType::Stream, flags, None).ok()?;
        match connect(fd.as_raw_fd(), &VsockAddr::new(HOST_CID, *port)) {
            Ok(()) | Err(Errno::EINPROGRESS) => Some(fd),
            Err(_) => None,
        }
    }

    /// vsock is not namespaced: any process of the guest can reach the port where the kernel has a loopback.
    fn is_host(&self, fd: &OwnedFd) -> bool {
        match self {
            Self::Vsock(_) => getpeername::<VsockAddr>(fd.as_raw_fd()).is_ok_and(|peer| peer.cid() == HOST_CID),
            Self::Unix(_) => true,
        }
    }
}

fn bound(family: AddressFamily, address: &dyn SockaddrLike) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Stream, flags, None)?;
    bind(fd.as_raw_fd(), address)?;
    listen(&fd, Backlog::MAXCONN)?;
    Ok(fd)
}

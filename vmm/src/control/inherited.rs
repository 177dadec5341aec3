//! The control connection that the vmm inherits from the program that makes the container.
//!
//! It is there from the vmm's first moment, so it hears why a machine could not be set up; and as long as there is no
//! container the machine is of use to nobody else, so its end is the machine's.
//!
//! UNSAFETY: the descriptor comes as a number on the command line.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockType, SockaddrLike, SockaddrStorage, getpeername, getsockopt, sockopt};
use supermachine_agent_protocol::blocking::{ConnectionError, FrameWriter};
use supermachine_agent_protocol::{ErrorCode, FrameKind};

use super::{Server, greet, refusal};
use crate::ending::{self, Ending};
use crate::life::Lifecycle;
use crate::machine::Machine;

/// See the module.
pub struct Inherited(UnixStream);

impl Inherited {
    /// Takes the descriptor over.
    ///
    /// To be called before the process opens anything: a number that the caller did not hand over is told by its being
    /// closed.
    ///
    /// # Errors
    /// It is no connected Unix stream socket.
    pub fn adopt(number: RawFd) -> io::Result<Self> {
        let socket = take(number)?;
        let unix = getpeername::<SockaddrStorage>(number)?.family() == Some(AddressFamily::Unix);
        if !unix || getsockopt(&socket, sockopt::SockType)? != SockType::Stream {
            return Err(Errno::ENOTSOCK.into());
        }
        fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(false)?;
        Ok(Self(stream))
    }

    /// Says hello, before anything else is said.
    ///
    /// # Errors
    /// The peer has gone.
    pub fn greet(&self) -> Result<(), ConnectionError> {
        greet(&self.0)
    }

    /// Tells the client why there will be no machine.
    pub fn refuse(&self, code: ErrorCode, message: &str) {
        let refused = refusal(code, message.to_owned());
        if let Err(error) = FrameWriter::new(&self.0).send_json(FrameKind::Error, &refused) {
            log::debug!("control client: {}", ending::chain(&error));
        }
    }

    /// Serves the client on a thread of its own.
    ///
    /// # Errors
    /// The host has no thread or descriptor to give.
    pub fn serve(&self, machine: &Arc<Machine>, life: &Arc<Lifecycle>) -> io::Result<()> {
        let (server, client) = (Server { machine: machine.clone(), life: life.clone() }, self.0.try_clone()?);
        let serve = move || {
            if let Err(error) = server.serve(client) {
                log::debug!("control client: {}", ending::chain(&error));
            }
            if !server.life.container().is_built() && !server.life.has_main() {
                server.life.end(Ending::Abandoned);
            }
        };
        thread::Builder::new().name("client".into()).spawn(serve)?;
        Ok(())
    }
}

/// Takes over an inherited descriptor, each once, and before the process opens anything.
#[expect(unsafe_code, reason = "a descriptor by its number")]
pub(crate) fn take(number: RawFd) -> io::Result<OwnedFd> {
    // The standard streams have other owners.
    if number <= libc::STDERR_FILENO {
        return Err(Errno::EBADF.into());
    }
    // SAFETY: fcntl looks at the number only; a number that is not open is an error.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the number is open, and nothing in this process owns it: it is not one of the standard streams, and this
    // is called once for each, before the process opens anything. The guest does not run yet.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

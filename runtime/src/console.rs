//! Terminals for containers: a pty pair whose master goes to the caller over its console socket.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::pty::Winsize;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use supermachine_agent_protocol::WindowSize;

/// What the message with the master says; callers show it at most.
const NAME: &[u8] = b"/dev/ptmx";

/// Errors with terminals.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// Nobody would have the terminal.
    #[error("cannot allocate tty if the runtime will detach without setting console socket")]
    NoSocket,
    /// Nothing would go over it.
    #[error("cannot use console socket if the runtime will not detach or allocate tty")]
    NotNeeded,
    /// Nobody listens.
    #[error("dial unix {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The pair cannot be had.
    #[error("cannot allocate a pty")]
    Open(#[source] io::Error),
    /// The master cannot be given away.
    #[error("cannot send the pty's master over the console socket")]
    Send(#[source] io::Error),
}

/// A terminal whose master waits to be sent.
#[derive(Debug)]
pub struct Console {
    socket: UnixStream,
    master: OwnedFd,
    /// The container's side.
    pub slave: OwnedFd,
}

impl Console {
    /// What a detached process needs: a pair if it has a terminal, of its size. Connects, so that a wrong socket is known at
    /// once.
    pub fn detached(terminal: Option<WindowSize>, socket: Option<&Path>) -> Result<Option<Self>, ConsoleError> {
        match (terminal, socket) {
            (Some(size), Some(path)) => Self::open(path, size).map(Some),
            (Some(_), None) => Err(ConsoleError::NoSocket),
            (None, Some(_)) => Err(ConsoleError::NotNeeded),
            (None, None) => Ok(None),
        }
    }

    fn open(path: &Path, size: WindowSize) -> Result<Self, ConsoleError> {
        let connect = |source| ConsoleError::Connect { path: path.to_owned(), source };
        let socket = UnixStream::connect(path).map_err(connect)?;
        let size = Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = nix::pty::openpty(&size, None).map_err(|errno| ConsoleError::Open(errno.into()))?;
        for fd in [&pair.master, &pair.slave] {
            close_in_children(fd).map_err(ConsoleError::Open)?;
        }
        Ok(Self { socket, master: pair.master, slave: pair.slave })
    }

    /// Gives the master to whoever listens.
    pub fn send(self) -> Result<(), ConsoleError> {
        let fds = [self.master.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        let sent = sendmsg::<()>(self.socket.as_raw_fd(), &[IoSlice::new(NAME)], &rights, MsgFlags::empty(), None);
        sent.map(drop).map_err(|errno| ConsoleError::Send(errno.into()))
    }
}

fn close_in_children(fd: &OwnedFd) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{IoSliceMut, Read, Write};
    use std::os::fd::FromRawFd;
    use std::os::unix::net::UnixListener;

    use nix::sys::socket::{ControlMessageOwned, recvmsg};

    use super::*;

    const SIZE: Option<WindowSize> = Some(WindowSize { rows: 5, cols: 6 });

    #[test]
    #[expect(unsafe_code, reason = "a received descriptor is a number")]
    fn the_master_arrives_and_is_the_other_end() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let path = dir.path().join("console");
        let listener = UnixListener::bind(&path).expect("a socket");
        let console = Console::detached(SIZE, Some(&path)).expect("opens").expect("a console");
        let mut slave = File::from(console.slave.try_clone().expect("a copy"));
        console.send().expect("sends");
        let (socket, _) = listener.accept().expect("a connection");
        let mut bytes = [0; 64];
        let mut space = nix::cmsg_space!(i32);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let got =
            recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty()).expect("a message");
        let Some(ControlMessageOwned::ScmRights(fds)) = got.cmsgs().expect("whole").next() else { panic!("no rights") };
        // SAFETY: the kernel has just made this descriptor for us.
        let mut master = unsafe { File::from_raw_fd(fds[0]) };
        slave.write_all(b"hello\n").expect("writes");
        let mut line = [0; 7];
        master.read_exact(&mut line).expect("reads");
        assert_eq!(&line, b"hello\r\n");
        assert_eq!(&bytes[..NAME.len()], NAME);
    }

    #[test]
    fn a_terminal_and_a_socket_belong_together() {
        assert!(Console::detached(None, None).expect("fine").is_none());
        assert!(matches!(Console::detached(SIZE, None), Err(ConsoleError::NoSocket)));
        assert!(matches!(Console::detached(None, Some(Path::new("/x"))), Err(ConsoleError::NotNeeded)));
        assert!(matches!(Console::detached(SIZE, Some(Path::new("/no/such"))), Err(ConsoleError::Connect { .. })));
    }
}

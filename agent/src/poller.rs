//! Event registration: which descriptor is watched for what, and for whom.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// Which descriptor of a connection (or of the server, see [`Token`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The connection's socket; for the server its listener or its signals.
    Socket,
    /// The pipe on which a starting process reports.
    Start,
    /// The process itself (a pidfd).
    Exit,
    /// The process's standard input.
    Stdin,
    /// The process's standard output, or its terminal.
    Stdout,
    /// The process's standard error.
    Stderr,
    /// Changes of the control group of the container whose first process it is.
    Group,
    /// A port that a process of the container listens on.
    Listening,
}

/// Whom an event is for. Ids are never used twice, so a late event of a closed connection finds nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    /// The connection, or one of the server's own ids.
    pub(crate) id: u64,
    /// Its descriptor.
    pub(crate) source: Source,
}

/// As many as three bits tell apart.
const SOURCES: [Source; 8] = [
    Source::Socket,
    Source::Start,
    Source::Exit,
    Source::Stdin,
    Source::Stdout,
    Source::Stderr,
    Source::Group,
    Source::Listening,
];

impl Token {
    fn pack(self) -> u64 {
        (self.id << 3) | (self.source as u64)
    }

    fn unpack(packed: u64) -> Option<Self> {
        let source = SOURCES.iter().copied().find(|source| *source as u64 == packed & 7)?;
        Some(Self { id: packed >> 3, source })
    }
}

/// An epoll instance, level-triggered.
#[derive(Debug, Clone)]
pub(crate) struct Poller(Rc<Epoll>);

impl Poller {
    /// A poller that watches nothing.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Rc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?)))
    }

    /// Takes a descriptor over; it is not watched until [`Watch::want`].
    pub(crate) fn adopt(&self, fd: OwnedFd, token: Token) -> Watch {
        Watch { fd, token, wanted: EpollFlags::empty(), poller: self.clone() }
    }

    /// Waits for events and appends them to `ready`; an interrupted or timed-out wait appends nothing.
    pub(crate) fn wait(&self, timeout: EpollTimeout, ready: &mut Vec<(Token, EpollFlags)>) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 64];
        let count = match self.0.wait(&mut events, timeout) {
            Err(nix::errno::Errno::EINTR) => 0,
            other => other?,
        };
        let found = events.iter().take(count);
        ready.extend(found.filter_map(|event| Some((Token::unpack(event.data())?, event.events()))));
        Ok(())
    }
}

/// A descriptor with its registration; dropping it ends both.
#[derive(Debug)]
pub(crate) struct Watch {
    fd: OwnedFd,
    token: Token,
    wanted: EpollFlags,
    poller: Poller,
}

impl Watch {
    /// Changes what is waited for. Nothing at all takes the descriptor out of the poller: a hang-up, which
    /// epoll always reports, would otherwise be reported without end.
    pub(crate) fn want(&mut self, wanted: EpollFlags) -> io::Result<()> {
        if wanted == self.wanted {
            return Ok(());
        }
        let mut event = EpollEvent::new(wanted, self.token.pack());
        let epoll = &self.poller.0;
        if wanted.is_empty() {
            epoll.delete(&self.fd)?;
        } else if self.wanted.is_empty() {
            epoll.add(&self.fd, event)?;
        } else {
            epoll.modify(&self.fd, &mut event)?;
        }
        self.wanted = wanted;
        Ok(())
    }

    /// The same descriptor for somebody else; it is not watched until [`Watch::want`].
    pub(crate) fn hand_over(mut self, token: Token) -> io::Result<Self> {
        self.want(EpollFlags::empty())?;
        self.token = token;
        Ok(self)
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // A forked child that has not reached its program yet still holds the file, so closing is not enough.
        let _ = self.want(EpollFlags::empty());
    }
}

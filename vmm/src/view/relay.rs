//! FUSE requests of the host's kernel to the guest's agent, and its replies back.
//!
//! The guest is hostile. It is asked nothing but what somebody waits for, its replies go to a kernel that expects no
//! better of an unprivileged user's file system, and what it never answers holds up nobody who can be killed: the
//! kernel tells that a process wants its request back, and after a moment the relay answers it.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use supermachine_agent_protocol::spec::{FUSE_DATA, MAX_FUSE, MAX_HELLO, VERSION};
use supermachine_agent_protocol::{
    Control, Decoder, ErrorReply, Frame, FrameError, FrameKind, Hello, Request, encode_frame, encode_json,
};
use supermachine_share::spec::{
    self, Wire, errno, fuse_in_header, fuse_init_in, fuse_init_in_ext, fuse_init_out, fuse_out_header,
};

use crate::agent::SOFTWARE;
use crate::ending;

/// How long a guest may go on with a request that its process wants back.
const PATIENCE: Duration = Duration::from_secs(2);
/// With so many requests that nobody waits for any more the guest's server is given up: it works on as many at a time.
const GIVEN_UP_MAX: usize = 4;
/// Most requests under way. More are refused with EBUSY.
const PENDING_MAX: usize = 1024;
/// Bytes of one read of the connection.
const CHUNK: usize = 64 << 10;

/// What the kernel may do. Nothing is cached for later writing, and locks stay in the kernel.
const FEATURES: u64 = spec::FUSE_ASYNC_READ
    | spec::FUSE_ATOMIC_O_TRUNC
    | spec::FUSE_BIG_WRITES
    | spec::FUSE_AUTO_INVAL_DATA
    | spec::FUSE_DO_READDIRPLUS
    | spec::FUSE_READDIRPLUS_AUTO
    | spec::FUSE_PARALLEL_DIROPS
    | spec::FUSE_MAX_PAGES
    | spec::FUSE_HANDLE_KILLPRIV_V2
    | spec::FUSE_INIT_EXT;

/// What the guest broke, or why it cannot be asked.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    /// The connection.
    #[error("connection failed")]
    Io(#[from] io::Error),
    /// The guest closed it.
    #[error("the guest closed the connection")]
    Closed,
    /// A frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The agent's error.
    #[error(transparent)]
    Refused(ErrorReply),
    /// Not what is due.
    #[error("unexpected answer")]
    Unexpected,
    /// A reply that cannot be one.
    #[error("a reply of {len} bytes to request {unique} with error {error}")]
    BadReply {
        /// Bytes that it says it has.
        len: u32,
        /// Which request it is said to be for.
        unique: u64,
        /// Its error.
        error: i32,
    },
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The agent's hello is due.
    Hello,
    /// Its answer to the request is due.
    Answer,
    /// It answers requests.
    Serving,
}

/// A connection to the agent.
struct Link {
    socket: UnixStream,
    decoder: Decoder,
    stage: Stage,
    /// Bytes to send, and how many of them are sent.
    out: Vec<u8>,
    sent: usize,
    /// Requests that wait until it serves, as frames.
    held: Vec<u8>,
}

impl Link {
    fn new(socket: UnixStream) -> Result<Self, LinkError> {
        socket.set_nonblocking(true)?;
        let mut out = Vec::new();
        encode_json(FrameKind::Control, &Control::Hello(Hello::new(SOFTWARE)), &mut out)?;
        encode_json(FrameKind::Request, &Request::ServeRoot {}, &mut out)?;
        let decoder = Decoder::new(MAX_HELLO);
        Ok(Self { socket, decoder, stage: Stage::Hello, out, sent: 0, held: Vec::new() })
    }

    fn queue(&mut self, request: &[u8]) -> Result<(), FrameError> {
        let to = if self.stage == Stage::Serving { &mut self.out } else { &mut self.held };
        encode_frame(FrameKind::Fuse, request, to)
    }

    fn write(&mut self) -> io::Result<()> {
        while let Some(rest) = self.out.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.socket.write(rest) {
                Ok(count) => self.sent = self.sent.saturating_add(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    /// A frame before the connection serves.
    fn agree(&mut self, frame: Frame) -> Result<(), LinkError> {
        if frame.kind == FrameKind::Error {
            return Err(LinkError::Refused(frame.parse_json()?));
        }
        match (self.stage, frame.expect(FrameKind::Control)?.parse_json()?) {
            (Stage::Hello, Control::Hello(Hello { version: VERSION, .. })) => self.stage = Stage::Answer,
            (Stage::Answer, Control::Ok {}) => {
                self.stage = Stage::Serving;
                self.decoder.set_max_payload(MAX_FUSE);
                self.out.append(&mut self.held);
            }
            _ => return Err(LinkError::Unexpected),
        }
        Ok(())
    }
}

/// See the module. `dial` gives a new connection to the agent; none while there is no container.
pub(super) struct Relay<D> {
    /// Gives one request for each read and takes one reply with each write.
    device: OwnedFd,
    dial: D,
    link: Option<Link>,
    /// Requests whose processes wait; when the relay answers those that are wanted back.
    pending: HashMap<u64, Option<Instant>>,
    /// Requests that were wanted back and answered here, and that the guest may still answer.
    given_up: HashSet<u64>,
    buffer: Vec<u8>,
}

impl<D: FnMut() -> Option<UnixStream>> Relay<D> {
    pub(super) fn new(device: OwnedFd, dial: D) -> Self {
        let buffer = vec![0; usize::try_from(MAX_FUSE).unwrap_or(CHUNK)];
        Self { device, dial, link: None, pending: HashMap::new(), given_up: HashSet::new(), buffer }
    }

    /// Answers the request that is there since the file system was mounted.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        self.take_request()
    }

    /// Relays until the file system is gone; gives how that was told.
    pub(super) fn run(mut self) -> io::Error {
        loop {
            if let Err(error) = self.turn() {
                return error;
            }
        }
    }

    /// Waits for something to do and does it.
    pub(super) fn turn(&mut self) -> io::Result<()> {
        let (asked, answered) = self.wait()?;
        if asked {
            match self.take_request() {
                Err(error) if !passes(&error) => return Err(error),
                _ => {}
            }
        }
        if answered && let Err(error) = self.take_answers() {
            self.cut(&error);
        }
        self.give_up_late(Instant::now());
        if let Some(Err(error)) = self.link.as_mut().map(Link::write) {
            self.cut(&error.into());
        }
        Ok(())
    }

    /// Waits for a request, or bytes of the guest.
    fn wait(&self) -> io::Result<(bool, bool)> {
        let next = self.pending.values().flatten().min();
        let timeout = next.map_or(PollTimeout::NONE, |next| {
            let left = next.saturating_duration_since(Instant::now()).saturating_add(Duration::from_millis(1));
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = vec![PollFd::new(self.device.as_fd(), PollFlags::POLLIN)];
        if let Some(link) = &self.link {
            let mut wanted = PollFlags::POLLIN;
            wanted.set(PollFlags::POLLOUT, !link.out.is_empty());
            fds.push(PollFd::new(link.socket.as_fd(), wanted));
        }
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_ready = |at: usize| {
            let found = fds.get(at).and_then(PollFd::revents).unwrap_or(PollFlags::empty());
            found.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR)
        };
        Ok((is_ready(0), is_ready(1)))
    }

    /// Takes one request from the kernel.
    fn take_request(&mut self) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let len = nix::unistd::read(&self.device, &mut buffer);
        if let Ok(message) = len.map(|len| buffer.get(..len).unwrap_or_default()) {
            self.on_request(message);
        }
        self.buffer = buffer;
        Ok(len.map(drop)?)
    }

    fn on_request(&mut self, message: &[u8]) {
        let mut body = message;
        let Some(header) = fuse_in_header::take(&mut body) else { return };
        let unique = header.unique;
        match header.opcode {
            spec::FUSE_INIT => self.init(unique, body),
            spec::FUSE_DESTROY => self.reply(unique, 0, &[]),
            spec::FUSE_INTERRUPT => self.want_back(body),
            spec::FUSE_FORGET | spec::FUSE_BATCH_FORGET => {
                // Without a connection the guest knows nothing that it could forget.
                if let Some(link) = &mut self.link {
                    // It is a kernel's request, and as short as those are.
                    let _ = link.queue(message);
                }
            }
            opcode if !is_asked(opcode) => self.reply(unique, errno::ENOSYS, &[]),
            _ if self.pending.len() >= PENDING_MAX => self.reply(unique, errno::EBUSY, &[]),
            _ => self.ask(unique, message),
        }
    }

    /// The kernel learns what it may do.
    fn init(&self, unique: u64, mut body: &[u8]) {
        let Some(asked) = fuse_init_in::take(&mut body) else { return self.reply(unique, errno::EPROTO, &[]) };
        let (version, oldest) = (spec::FUSE_KERNEL_VERSION, spec::OLDEST_MINOR_VERSION);
        if asked.major < version || (asked.major == version && asked.minor < oldest) {
            return self.reply(unique, errno::EPROTO, &[]);
        }
        let high = fuse_init_in_ext::take(&mut body).map_or(0, |ext| ext.flags2);
        let agreed = FEATURES & (u64::from(high) << 32 | u64::from(asked.flags));
        let out = fuse_init_out {
            major: version,
            minor: spec::FUSE_KERNEL_MINOR_VERSION,
            max_readahead: asked.max_readahead.min(FUSE_DATA),
            flags: agreed as u32,
            flags2: (agreed >> 32) as u32,
            max_background: 16,
            congestion_threshold: 12,
            max_write: FUSE_DATA,
            time_gran: 1,
            max_pages: u16::try_from(FUSE_DATA / 4096).unwrap_or(1),
            ..fuse_init_out::default()
        };
        let mut bytes = Vec::new();
        out.put(&mut bytes);
        self.reply(unique, 0, &bytes);
    }

    fn ask(&mut self, unique: u64, message: &[u8]) {
        if self.link.is_none() {
            let Some(socket) = (self.dial)() else { return self.reply(unique, errno::ENOTCONN, &[]) };
            match Link::new(socket) {
                Ok(link) => self.link = Some(link),
                Err(error) => {
                    log::warn!("the container's files: {}", ending::chain(&error));
                    return self.reply(unique, errno::EIO, &[]);
                }
            }
        }
        match self.link.as_mut().map(|link| link.queue(message)) {
            Some(Ok(())) => drop(self.pending.insert(unique, None)),
            _ => self.reply(unique, errno::EIO, &[]),
        }
    }

    /// A process has a signal to see to, or is being killed, and wants its request back.
    fn want_back(&mut self, mut body: &[u8]) {
        let request = u64::take(&mut body).and_then(|unique| self.pending.get_mut(&unique));
        if let Some(until @ None) = request {
            *until = Instant::now().checked_add(PATIENCE);
        }
    }

    /// Answers the requests that are wanted back and have taken too long.
    fn give_up_late(&mut self, now: Instant) {
        let late = |until: &Option<Instant>| until.is_some_and(|until| until <= now);
        let late: Vec<_> = self.pending.iter().filter(|(_, until)| late(until)).map(|(unique, _)| *unique).collect();
        for unique in late {
            self.pending.remove(&unique);
            self.given_up.insert(unique);
            self.reply(unique, errno::EINTR, &[]);
        }
        if self.given_up.len() >= GIVEN_UP_MAX {
            log::warn!("the container's files: the guest does not answer");
            self.forget_link();
        }
    }

    fn take_answers(&mut self) -> Result<(), LinkError> {
        let mut bytes = [0; CHUNK];
        let Some(link) = &mut self.link else { return Ok(()) };
        let count = match link.socket.read(&mut bytes) {
            Ok(0) => return Err(LinkError::Closed),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let mut rest = bytes.get(..count).unwrap_or_default();
        while let Some(link) = &mut self.link {
            let Some(frame) = link.decoder.decode(&mut rest)? else { break };
            if link.stage == Stage::Serving {
                self.on_answer(&frame.expect(FrameKind::Fuse)?.payload)?;
            } else {
                link.agree(frame)?;
            }
        }
        Ok(())
    }

    /// Passes on the reply to a request that is under way; anything else, notifications of the kernel among it, ends the
    /// connection.
    fn on_answer(&mut self, message: &[u8]) -> Result<(), LinkError> {
        let Some(header) = fuse_out_header::take(&mut &*message) else { return Err(LinkError::Unexpected) };
        let fuse_out_header { len, error, unique } = header;
        let is_whole = usize::try_from(len).is_ok_and(|len| len == message.len());
        if !is_whole || !(-511..=0).contains(&error) {
            return Err(LinkError::BadReply { len, unique, error });
        }
        if self.given_up.remove(&unique) {
            return Ok(());
        }
        self.pending.remove(&unique).ok_or(LinkError::BadReply { len, unique, error })?;
        self.write(message);
        Ok(())
    }

    /// Gives the connection up, and with it all that was asked.
    fn cut(&mut self, why: &LinkError) {
        log::warn!("the container's files: {}", ending::printable(&ending::chain(why)));
        self.forget_link();
    }

    fn forget_link(&mut self) {
        self.link = None;
        self.given_up.clear();
        for unique in std::mem::take(&mut self.pending).into_keys() {
            self.reply(unique, errno::EIO, &[]);
        }
    }

    fn reply(&self, unique: u64, error: i32, body: &[u8]) {
        let len = u32::try_from(fuse_out_header::SIZE.saturating_add(body.len())).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(fuse_out_header::SIZE.saturating_add(body.len()));
        fuse_out_header { len, error: error.saturating_neg(), unique }.put(&mut bytes);
        bytes.extend_from_slice(body);
        self.write(&bytes);
    }

    /// The kernel ends the request, whether it likes the reply or not.
    fn write(&self, reply: &[u8]) {
        if let Err(error) = nix::unistd::write(&self.device, reply) {
            log::debug!("reply of the guest about the container's files: {error}");
        }
    }
}

/// Whether a read of the device that failed like this is followed by others.
fn passes(error: &io::Error) -> bool {
    // ENOENT is a request that was taken back at this moment.
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::NotFound)
}

/// Requests that the guest is asked. The others are the kernel's own affair, which it does once it is told so: flushes,
/// locks, polls, ioctls.
const fn is_asked(opcode: u32) -> bool {
    matches!(
        opcode,
        spec::FUSE_LOOKUP
            | spec::FUSE_GETATTR
            | spec::FUSE_SETATTR
            | spec::FUSE_READLINK
            | spec::FUSE_SYMLINK
            | spec::FUSE_MKNOD
            | spec::FUSE_MKDIR
            | spec::FUSE_UNLINK
            | spec::FUSE_RMDIR
            | spec::FUSE_RENAME
            | spec::FUSE_LINK
            | spec::FUSE_OPEN
            | spec::FUSE_READ
            | spec::FUSE_WRITE
            | spec::FUSE_STATFS
            | spec::FUSE_RELEASE
            | spec::FUSE_FSYNC
            | spec::FUSE_SETXATTR
            | spec::FUSE_GETXATTR
            | spec::FUSE_LISTXATTR
            | spec::FUSE_REMOVEXATTR
            | spec::FUSE_OPENDIR
            | spec::FUSE_READDIR
            | spec::FUSE_READDIRPLUS
            | spec::FUSE_RELEASEDIR
            | spec::FUSE_FSYNCDIR
            | spec::FUSE_CREATE
            | spec::FUSE_FALLOCATE
            | spec::FUSE_RENAME2
            | spec::FUSE_LSEEK
            | spec::FUSE_COPY_FILE_RANGE
            | spec::FUSE_TMPFILE
            | spec::FUSE_STATX
    )
}

#[cfg(all(test, target_os = "linux"))]
mod tests;

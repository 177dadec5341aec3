//! A process of the host's and its streams, from fork to the last byte.

use std::io;

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use supermachine_agent_protocol::spec::WINDOW;
use supermachine_agent_protocol::{
    Close, ErrorReply, ExitStatus, Frame, FrameKind, Stream, Window, WindowSize, encode_frame,
};

use crate::outbox::Outbox;
use crate::poller::{Poller, Source, Token, Watch};
use crate::spawn::{Names, Spawned};
use crate::sys;

/// A child that is not reaped yet. Its number is its own until then, so it can be signalled.
#[derive(Debug)]
pub(crate) struct Child {
    pid: libc::pid_t,
    _pidfd: Watch,
}

impl Child {
    /// Kills the process and its whole group.
    pub(crate) fn kill(&self) {
        // A child that has not made its own group yet is only found by its own number.
        let _ = sys::kill(-self.pid, libc::SIGKILL);
        let _ = sys::kill(self.pid, libc::SIGKILL);
    }

    /// Reaps it if it has ended; false once there is nothing left to wait for.
    pub(crate) fn still_runs(&self) -> bool {
        matches!(sys::reap(self.pid), Ok(None))
    }
}

/// How far a process is.
#[derive(Debug)]
enum Life {
    /// On its way to its program.
    Starting { child: Child, report: Watch, names: Names },
    /// In its program.
    Running { child: Child },
    /// Reaped; what it wrote before is still being read.
    Ended(ExitStatus),
    /// The exit frame is sent.
    Told,
}

/// One output stream.
#[derive(Debug)]
struct Output {
    kind: FrameKind,
    watch: Watch,
    /// After the process's end: how many bytes of it may still be unread.
    owed: usize,
    /// Bytes that the host takes now.
    window: u32,
}

/// The input stream.
#[derive(Debug)]
struct Input {
    watch: Watch,
    waiting: Outbox,
    /// Bytes that the process took and that were not given back to the host yet.
    taken: u32,
}

/// A process and its streams.
#[derive(Debug)]
pub(crate) struct Process {
    pid: libc::pid_t,
    life: Life,
    is_terminal: bool,
    /// Whether the host may send input: it said it would, and has not said that it is at its end.
    expects_input: bool,
    input: Option<Input>,
    /// Bytes of input that the host may still send.
    input_window: u32,
    outputs: Vec<Output>,
}

/// What a terminal can hold of a process that has ended: the kernel's 64 KiB of buffers and a line, with room.
const TERMINAL_BUFFERS: usize = 128 << 10;

impl Process {
    /// Takes a forked process over; its events come with `id`.
    pub(crate) fn new(poller: &Poller, id: u64, spawned: Spawned) -> io::Result<Self> {
        let adopt = |fd, source, flags| {
            let mut watch = poller.adopt(fd, Token { id, source });
            watch.want(flags).map(|()| watch)
        };
        let Spawned { pid, pidfd, report, stdin, stdout, stderr, names } = spawned;
        let child = Child { pid, _pidfd: adopt(pidfd, Source::Exit, EpollFlags::EPOLLIN)? };
        let report = adopt(report, Source::Start, EpollFlags::EPOLLIN)?;
        let is_terminal = stderr.is_none();
        let input = stdin.map(|fd| adopt(fd, Source::Stdin, EpollFlags::empty())).transpose()?;
        let mut outputs = vec![Output {
            kind: FrameKind::Stdout,
            watch: adopt(stdout, Source::Stdout, EpollFlags::empty())?,
            owed: 0,
            window: WINDOW,
        }];
        if let Some(fd) = stderr {
            let watch = adopt(fd, Source::Stderr, EpollFlags::empty())?;
            outputs.push(Output { kind: FrameKind::Stderr, watch, owed: 0, window: WINDOW });
        }
        Ok(Self {
            pid,
            life: Life::Starting { child, report, names },
            is_terminal,
            expects_input: input.is_some(),
            input: input.map(|watch| Input { watch, waiting: Outbox::default(), taken: 0 }),
            input_window: WINDOW,
            outputs,
        })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        u32::try_from(self.pid).unwrap_or(0)
    }

    /// Whether frames for it have to wait.
    pub(crate) fn is_congested(&self) -> bool {
        matches!(self.life, Life::Starting { .. })
    }

    /// Whether its exit and the end of every output were put in frames.
    pub(crate) fn is_finished(&self) -> bool {
        matches!(self.life, Life::Told) && self.outputs.is_empty()
    }

    /// Ends the session; what is given back must be killed and reaped.
    pub(crate) fn into_child(self) -> Option<Child> {
        match self.life {
            Life::Starting { child, .. } | Life::Running { child } => Some(child),
            Life::Ended(_) | Life::Told => None,
        }
    }

    /// Reads the start report. `Ok(true)` once: the program was entered.
    pub(crate) fn on_report(&mut self) -> Result<bool, ErrorReply> {
        let Life::Starting { report, names, .. } = &self.life else { return Ok(false) };
        let mut bytes = [0; 16];
        let count = match nix::unistd::read(report, &mut bytes) {
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(false),
            other => other.unwrap_or(0),
        };
        if let Some(error) = names.start_error(bytes.get(..count).unwrap_or_default()) {
            return Err(error);
        }
        self.life = match std::mem::replace(&mut self.life, Life::Told) {
            Life::Starting { child, .. } => Life::Running { child },
            other => other,
        };
        Ok(true)
    }

    /// Reaps the process if it has ended, and notes what is owed of its output.
    pub(crate) fn on_exit(&mut self) {
        let Life::Running { child } = &self.life else { return };
        // A child that cannot be reaped does not exist; no status is known of it.
        let status = match sys::reap(child.pid) {
            Ok(None) => return,
            Ok(Some(status)) => status,
            Err(_) => ExitStatus::Exited(u32::MAX),
        };
        self.life = Life::Ended(status);
        for output in &mut self.outputs {
            output.owed =
                if self.is_terminal { TERMINAL_BUFFERS } else { sys::readable_bytes(&output.watch).unwrap_or(0) };
        }
    }

    /// Reads once from the stream that is ready and puts what comes into `out`.
    pub(crate) fn on_output(&mut self, kind: FrameKind, scratch: &mut [u8], out: &mut Outbox) {
        let Some(at) = self.outputs.iter().position(|output| output.kind == kind) else { return };
        let Some(output) = self.outputs.get_mut(at) else { return };
        let room = scratch.len().min(usize::try_from(output.window).unwrap_or(usize::MAX));
        let scratch = scratch.get_mut(..room).unwrap_or_default();
        if scratch.is_empty() {
            return;
        }
        match nix::unistd::read(&output.watch, scratch) {
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => output.owed = 0,
            // EIO is how a terminal says that nobody has it open any more.
            Ok(0) | Err(_) => {
                put(out, kind, &[]);
                self.outputs.remove(at);
            }
            Ok(count) => {
                output.owed = output.owed.saturating_sub(count);
                output.window = output.window.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
                put(out, kind, scratch.get(..count).unwrap_or_default());
            }
        }
    }

    /// Whether only reading can tell what its terminal still holds; no event does.
    pub(crate) fn must_drain(&self) -> bool {
        let may_send = self.outputs.iter().any(|output| output.window > 0);
        self.is_terminal && matches!(self.life, Life::Ended(_)) && self.owes_output() && may_send
    }

    /// Puts the exit frame into `out`, once everything written before the end is in it.
    pub(crate) fn tell_exit(&mut self, out: &mut Outbox) {
        let Life::Ended(status) = self.life else { return };
        if !self.owes_output() {
            let frame = Frame::from(status);
            put(out, frame.kind, &frame.payload);
            self.life = Life::Told;
        }
    }

    fn owes_output(&self) -> bool {
        self.outputs.iter().any(|output| output.owed > 0)
    }

    /// Queues bytes for standard input; none close it. Returns whether input is due, and within its window.
    pub(crate) fn feed(&mut self, bytes: Vec<u8>) -> bool {
        if bytes.is_empty() {
            self.expects_input &= self.is_terminal;
            return true;
        }
        let window = u32::try_from(bytes.len()).ok().and_then(|count| self.input_window.checked_sub(count));
        let Some(window) = window.filter(|_| self.expects_input) else { return false };
        self.input_window = window;
        if let Some(input) = &mut self.input {
            input.waiting.push(bytes);
        }
        true
    }

    /// Writes what waits for standard input, as far as the process takes it, and closes it at its end.
    ///
    /// Tells the host through `out` what was taken, or that nothing more will be.
    pub(crate) fn write_input(&mut self, out: &mut Outbox) {
        let Some(input) = &mut self.input else { return };
        let waited = input.waiting.len();
        // On an error nobody reads it any more; what still comes has nowhere to go.
        let broken = input.waiting.write_to(&input.watch).is_err();
        if broken {
            input.waiting.clear();
            let close = Frame::from(Close(Stream::Stdin));
            put(out, close.kind, &close.payload);
        }
        let taken = waited.saturating_sub(input.waiting.len());
        input.taken = input.taken.saturating_add(u32::try_from(taken).unwrap_or(u32::MAX));
        if input.taken >= WINDOW / 4 && !broken {
            let window = Frame::from(Window { stream: Stream::Stdin, bytes: input.taken });
            put(out, window.kind, &window.payload);
            self.input_window = self.input_window.saturating_add(input.taken);
            input.taken = 0;
        }
        let at_end = !self.expects_input && input.waiting.is_empty();
        if !self.is_terminal && (broken || at_end) {
            self.input = None;
        }
    }

    /// The host takes more of an output. Returns whether it may say so.
    pub(crate) fn grant(&mut self, window: Window) -> bool {
        if let Some(output) = self.outputs.iter_mut().find(|output| output.kind == window.stream.kind()) {
            output.window = output.window.saturating_add(window.bytes).min(WINDOW);
        }
        window.stream != Stream::Stdin
    }

    /// The host takes no more of an output: the process gets SIGPIPE for it. Returns whether it may say so.
    pub(crate) fn close_output(&mut self, stream: Stream) -> bool {
        // A terminal's only descriptor is its input too; what comes out of it goes nowhere then.
        self.outputs.retain(|output| output.kind != stream.kind());
        stream != Stream::Stdin
    }

    /// Changes the size of its terminal, if it has one.
    pub(crate) fn resize(&self, size: WindowSize) -> bool {
        let terminal = self.input.as_ref().filter(|_| self.is_terminal);
        terminal.is_some_and(|input| sys::set_window_size(&input.watch, size).is_ok())
    }

    /// Sends it a signal; one that has ended takes none. Returns whether the number is a signal's.
    pub(crate) fn signal(&self, number: u32) -> bool {
        let Ok(number) = libc::c_int::try_from(number) else { return false };
        match &self.life {
            Life::Running { child } => {
                let result = sys::kill(child.pid, number);
                !result.is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL))
            }
            _ => true,
        }
    }

    /// Sets what is waited for; `can_send` says whether more output can be taken.
    pub(crate) fn watch(&mut self, can_send: bool) -> io::Result<()> {
        let when = |condition, flags| if condition { flags } else { EpollFlags::empty() };
        for output in &mut self.outputs {
            output.watch.want(when(can_send && output.window > 0, EpollFlags::EPOLLIN))?;
        }
        match &mut self.input {
            Some(input) => input.watch.want(when(!input.waiting.is_empty(), EpollFlags::EPOLLOUT)),
            None => Ok(()),
        }
    }
}

fn put(out: &mut Outbox, kind: FrameKind, payload: &[u8]) {
    // At most a scratch buffer long, so it cannot be too long for a frame.
    let _ = out.append(|bytes| encode_frame(kind, payload, bytes));
}

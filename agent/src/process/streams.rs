//! The agent's side of a process's streams: windows, what waits, and what is still owed after its end.

use std::io;

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use supermachine_agent_protocol::spec::WINDOW;
use supermachine_agent_protocol::{Close, Frame, FrameKind, Stream, Window, WindowSize, encode_frame};

use crate::outbox::Outbox;
use crate::poller::{Poller, Source, Token, Watch};
use crate::spawn::Streams;
use crate::sys;

/// What a terminal can hold of a process that has ended: the kernel's 64 KiB of buffers and a line, with room.
const TERMINAL_BUFFERS: usize = 128 << 10;

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

/// The streams of a process.
#[derive(Debug)]
pub(super) struct ProcessStreams {
    is_terminal: bool,
    /// Whether the host may send input: it said it would, and has not said that it is at its end.
    expects_input: bool,
    input: Option<Input>,
    /// Bytes of input that the host may still send.
    input_window: u32,
    outputs: Vec<Output>,
}

impl ProcessStreams {
    /// Takes descriptors over; their events come with `id`.
    pub(super) fn new(poller: &Poller, id: u64, streams: Streams) -> Self {
        let adopt = |fd, source| poller.adopt(fd, Token { id, source });
        let output = |kind, watch| Output { kind, watch, owed: 0, window: WINDOW };
        let Streams { stdin, stdout, stderr } = streams;
        let is_terminal = stderr.is_none();
        let input = stdin.map(|fd| adopt(fd, Source::Stdin));
        let mut outputs = vec![output(FrameKind::Stdout, adopt(stdout, Source::Stdout))];
        outputs.extend(stderr.map(|fd| output(FrameKind::Stderr, adopt(fd, Source::Stderr))));
        Self {
            is_terminal,
            expects_input: input.is_some(),
            input: input.map(|watch| Input { watch, waiting: Outbox::default(), taken: 0 }),
            input_window: WINDOW,
            outputs,
        }
    }

    /// Whether it is a terminal.
    pub(super) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Another host takes over, to whom nothing is under way: outputs have their whole windows. Gives how much input it
    /// may send; none where it may send no input at all.
    pub(super) fn renew(&mut self) -> Option<u32> {
        for output in &mut self.outputs {
            output.window = WINDOW;
        }
        self.input.as_ref().filter(|_| self.expects_input).map(|_| self.input_window)
    }

    /// Throws away what can be read of the outputs now.
    pub(super) fn drop_output(&self, scratch: &mut [u8]) {
        for output in &self.outputs {
            // An end of the stream is met again by who reads next.
            while nix::unistd::read(&output.watch, scratch).is_ok_and(|count| count > 0) {}
        }
    }

    /// Whether every output has ended.
    pub(super) fn are_over(&self) -> bool {
        self.outputs.is_empty()
    }

    /// The process has ended: notes what is owed of its output.
    pub(super) fn process_ended(&mut self) {
        for output in &mut self.outputs {
            output.owed =
                if self.is_terminal { TERMINAL_BUFFERS } else { sys::readable_bytes(&output.watch).unwrap_or(0) };
        }
    }

    /// Whether output from before the end is still to be read.
    pub(super) fn owe_output(&self) -> bool {
        self.outputs.iter().any(|output| output.owed > 0)
    }

    /// Whether only reading can tell what a terminal still holds; no event does.
    pub(super) fn must_drain(&self) -> bool {
        self.is_terminal && self.owe_output() && self.outputs.iter().any(|output| output.window > 0)
    }

    /// Reads once from the stream that is ready and puts what comes into `out`.
    pub(super) fn on_output(&mut self, kind: FrameKind, scratch: &mut [u8], out: &mut Outbox) {
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

    /// Queues bytes for standard input; none close it. Returns whether input is due, and within its window.
    pub(super) fn feed(&mut self, bytes: Vec<u8>) -> bool {
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
    pub(super) fn write_input(&mut self, out: &mut Outbox) {
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

    /// The host takes more of an output.
    pub(super) fn grant(&mut self, window: Window) {
        if let Some(output) = self.outputs.iter_mut().find(|output| output.kind == window.stream.kind()) {
            output.window = output.window.saturating_add(window.bytes).min(WINDOW);
        }
    }

    /// The host takes no more of an output: the process gets SIGPIPE for it.
    pub(super) fn close_output(&mut self, stream: Stream) {
        // A terminal's only descriptor is its input too; what comes out of it goes nowhere then.
        self.outputs.retain(|output| output.kind != stream.kind());
    }

    /// Changes the size of the terminal, if it is one.
    pub(super) fn resize(&self, size: WindowSize) -> bool {
        let terminal = self.input.as_ref().filter(|_| self.is_terminal);
        terminal.is_some_and(|input| sys::set_window_size(&input.watch, size).is_ok())
    }

    /// Sets what is waited for; `can_send` says whether more output can be taken.
    pub(super) fn watch(&mut self, can_send: bool) -> io::Result<()> {
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

/// Puts a frame at the end of what goes out.
pub(super) fn put(out: &mut Outbox, kind: FrameKind, payload: &[u8]) {
    // At most a scratch buffer long, so it cannot be too long for a frame.
    let _ = out.append(|bytes| encode_frame(kind, payload, bytes));
}

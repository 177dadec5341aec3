//! Joins a process in the guest to streams of this process, window by window.
//!
//! The peer is the vmm after an `exec`, or the agent itself: their frames are the same. It is not trusted: more output
//! than a window, or a frame that is not due, ends the relay with an error.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use serde::Serialize;
use supermachine_agent_protocol::blocking::{ConnectionError, FrameReader, FrameWriter};
use supermachine_agent_protocol::spec::WINDOW;
use supermachine_agent_protocol::{
    Close, Credit, ExitStatus, Frame, FrameError, FrameKind, Signal, Stream, Window, WindowSize,
};

use crate::stdio::Input;
use crate::valve::Valve;

/// Bytes of standard input in one frame.
const STDIN_CHUNK: usize = 64 << 10;

/// The way to the process: shared by everybody who has something to say to it.
#[derive(Clone, Debug)]
pub struct Sender(Arc<Mutex<Option<FrameWriter<UnixStream>>>>);

impl Sender {
    /// Sends through this writer.
    pub fn new(writer: FrameWriter<UnixStream>) -> Self {
        Self(Arc::new(Mutex::new(Some(writer))))
    }

    /// Sends a frame; `false` once the connection takes none any more.
    ///
    /// Does not wait for the process: each stream has a window, so the connection takes what is sent. A write timeout
    /// on the socket guards against a peer that breaks this rule.
    pub fn send(&self, frame: impl Into<Frame>) -> bool {
        let frame = frame.into();
        self.with(|writer| writer.send_frame(frame))
    }

    /// Sends a message as JSON; `false` as with [`send`](Self::send).
    pub fn send_json<T: Serialize>(&self, kind: FrameKind, message: &T) -> bool {
        self.with(|writer| writer.send_json(kind, message))
    }

    /// Tells the process's terminal its size.
    pub fn resize(&self, size: WindowSize) -> bool {
        self.send(size)
    }

    /// Sends the process a signal.
    pub fn signal(&self, number: u32) -> bool {
        self.send(Signal(number))
    }

    /// Ends the connection, in both directions.
    pub fn close(&self) {
        if let Some(writer) = self.lock().take() {
            // It may be closed already.
            let _ = writer.get_ref().shutdown(Shutdown::Both);
        }
    }

    fn with(&self, send: impl FnOnce(&mut FrameWriter<UnixStream>) -> Result<(), ConnectionError>) -> bool {
        let mut writer = self.lock();
        let sent = writer.as_mut().is_some_and(|writer| send(writer).is_ok());
        if !sent {
            // Half a frame may be out: nothing that follows would be understood.
            *writer = None;
        }
        sent
    }

    /// Nothing panics while it holds the lock; a poisoned one is as good.
    fn lock(&self) -> MutexGuard<'_, Option<FrameWriter<UnixStream>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the process's streams are joined to.
#[derive(Default)]
pub struct Streams {
    /// Its input, up to the end. Without one the process's input stays open and empty.
    pub stdin: Option<Input>,
    /// Where its output goes; without one the process gets SIGPIPE.
    pub stdout: Option<Box<dyn Write + Send>>,
    /// Where its errors go; without one the process gets SIGPIPE.
    pub stderr: Option<Box<dyn Write + Send>>,
}

/// A process whose streams are joined; see [`wait`](Self::wait).
pub struct Relay {
    reader: FrameReader<UnixStream>,
    sender: Sender,
    credit: Arc<Credit>,
    valve: Arc<Valve>,
    /// Its end stops the thread that reads the input.
    stop: Option<UnixStream>,
    stdout: Writer,
    stderr: Writer,
}

impl Relay {
    /// Joins the streams; the connection has answered that the process was made.
    ///
    /// # Errors
    /// The host has no thread or descriptor to give.
    pub fn start(reader: FrameReader<UnixStream>, sender: Sender, streams: Streams) -> io::Result<Self> {
        Self::resume(reader, sender, streams, WINDOW)
    }

    /// The same for a process that had streams before: so many bytes of input may be sent now.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn resume(
        reader: FrameReader<UnixStream>,
        sender: Sender,
        streams: Streams,
        input_window: u32,
    ) -> io::Result<Self> {
        let (credit, valve) = (Arc::new(Credit::new(input_window)), Arc::<Valve>::default());
        let stdout = Writer::start(&sender, Stream::Stdout, streams.stdout)?;
        let stderr = Writer::start(&sender, Stream::Stderr, streams.stderr)?;
        let mut stop = None;
        if let Some(stdin) = streams.stdin {
            let (ours, feeders) = UnixStream::pair()?;
            stop = Some(ours);
            let (sender, credit, valve) = (sender.clone(), credit.clone(), valve.clone());
            let feed = move || feed(stdin, &sender, &credit, &valve, &feeders);
            thread::Builder::new().name("stdin".into()).spawn(feed)?;
        }
        Ok(Self { reader, sender, credit, valve, stop, stdout, stderr })
    }

    /// What stops the input for a while.
    pub fn valve(&self) -> Arc<Valve> {
        self.valve.clone()
    }

    /// The way to the process.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// Waits until the process has ended and all that it wrote is written, and ends the connection.
    ///
    /// # Errors
    /// The connection ended before the process, or was broken.
    pub fn wait(self) -> Result<ExitStatus, ConnectionError> {
        self.wait_with(refuse)
    }

    /// Like [`wait`](Self::wait); `other` sees control and error frames, and last the exit frame as it comes, before
    /// all output is written.
    ///
    /// # Errors
    /// As `wait`, and those of `other`.
    pub fn wait_with(
        mut self,
        mut other: impl FnMut(&Frame) -> Result<(), ConnectionError>,
    ) -> Result<ExitStatus, ConnectionError> {
        let status = self.read(&mut other);
        self.finish();
        status
    }

    /// Like [`wait`](Self::wait), and waits for the streams as well, which other processes in the guest may hold for
    /// longer.
    ///
    /// # Errors
    /// As `wait`.
    pub fn wait_for_streams(mut self) -> Result<ExitStatus, ConnectionError> {
        let status = self.read(&mut refuse).and_then(|status| {
            while let Some(frame) = self.reader.next_frame()? {
                self.take(frame, &mut refuse)?;
            }
            Ok(status)
        });
        self.finish();
        status
    }

    fn finish(self) {
        self.credit.close();
        self.valve.end();
        drop(self.stop);
        self.stdout.finish();
        self.stderr.finish();
        self.sender.close();
    }

    fn read(
        &mut self,
        other: &mut impl FnMut(&Frame) -> Result<(), ConnectionError>,
    ) -> Result<ExitStatus, ConnectionError> {
        loop {
            let frame = self.reader.frame()?;
            // The exit comes after all that the process itself wrote.
            if frame.kind == FrameKind::Exit {
                other(&frame)?;
                return Ok(ExitStatus::try_from(&frame)?);
            }
            self.take(frame, other)?;
        }
    }

    fn take(
        &mut self,
        frame: Frame,
        other: &mut impl FnMut(&Frame) -> Result<(), ConnectionError>,
    ) -> Result<(), ConnectionError> {
        match frame.kind {
            FrameKind::Stdout => self.stdout.push(frame.payload)?,
            FrameKind::Stderr => self.stderr.push(frame.payload)?,
            FrameKind::Window => match Window::try_from(&frame)? {
                Window { stream: Stream::Stdin, bytes } => self.credit.grant(bytes),
                _ => return refuse(&frame),
            },
            FrameKind::Close => match Close::try_from(&frame)? {
                Close(Stream::Stdin) => {
                    self.credit.close();
                    // What is still in the input stays there.
                    self.stop = None;
                }
                _ => return refuse(&frame),
            },
            FrameKind::Control | FrameKind::Error => return other(&frame),
            _ => return refuse(&frame),
        }
        Ok(())
    }
}

/// Of the frames besides the streams' only an exit is due.
fn refuse(frame: &Frame) -> Result<(), ConnectionError> {
    match frame.kind {
        FrameKind::Exit => Ok(()),
        FrameKind::Error => Err(ConnectionError::Refused(frame.parse_json()?)),
        got => Err(FrameError::WrongKind { got, want: FrameKind::Exit }.into()),
    }
}

/// Copies input to the process until one of the two has enough.
fn feed(mut stdin: Input, sender: &Sender, credit: &Credit, valve: &Valve, stop: &UnixStream) {
    let mut chunk = vec![0u8; STDIN_CHUNK];
    while let Some(room) = credit.spend(STDIN_CHUNK) {
        let Some(()) = stdin.wait(stop.as_fd()) else { return };
        // Between the reading and the sending nothing may be cut off.
        let Some(_passing) = valve.pass() else { return };
        let count = stdin.read(chunk.get_mut(..room).unwrap_or_default());
        let used = count.unwrap_or(0);
        // What was spent and not used comes back; an empty frame is the end of the input.
        credit.grant(u32::try_from(room.saturating_sub(used)).unwrap_or(0));
        if count.is_none() {
            continue;
        }
        let payload = chunk.get(..used).unwrap_or_default().to_vec();
        if !sender.send(Frame { kind: FrameKind::Stdin, payload }) || used == 0 {
            return;
        }
    }
}

/// A thread that writes one output stream and tells the peer how far it is.
struct Writer {
    stream: Stream,
    /// Bytes on their way to the thread, never more than a window of them.
    queue: mpsc::Sender<Vec<u8>>,
    /// Bytes that wait or are being written.
    waiting: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Writer {
    fn start(sender: &Sender, stream: Stream, output: Option<Box<dyn Write + Send>>) -> io::Result<Self> {
        let (queue, waiting_bytes) = mpsc::channel::<Vec<u8>>();
        let waiting = Arc::<AtomicUsize>::default();
        let (sender, written) = (sender.clone(), waiting.clone());
        let write = move || {
            let Some(mut output) = output else {
                sender.send(Close(stream));
                return;
            };
            for bytes in waiting_bytes {
                let result = output.write_all(&bytes).and_then(|()| output.flush());
                written.fetch_sub(bytes.len(), Ordering::Relaxed);
                if result.is_err() {
                    sender.send(Close(stream));
                    return;
                }
                sender.send(Window { stream, bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX) });
            }
        };
        let thread = thread::Builder::new().name(stream.kind().name().to_owned()).spawn(write)?;
        Ok(Self { stream, queue, waiting, thread })
    }

    /// Queues a frame's bytes; more than the stream's window is a peer that breaks the protocol.
    fn push(&self, bytes: Vec<u8>) -> Result<(), FrameError> {
        let len = bytes.len();
        let waiting = self.waiting.fetch_add(len, Ordering::Relaxed).saturating_add(len);
        if waiting > WINDOW as usize {
            return Err(FrameError::TooLong { kind: self.stream.kind(), len: waiting as u64, max: WINDOW });
        }
        // An empty frame is the end of the stream, which the writer need not know. A writer whose stream is closed is
        // gone, and what still comes is dropped with it.
        if len > 0 && self.queue.send(bytes).is_err() {
            self.waiting.fetch_sub(len, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Waits until everything is written.
    fn finish(self) {
        drop(self.queue);
        // A writer does not panic, and if it did there would be nothing more to write.
        let _ = self.thread.join();
    }
}

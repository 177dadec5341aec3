//! The main process: started when the guest is up, its streams joined to the vmm's own, its end the machine's end.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use supermachine_agent_protocol::blocking::{ConnectionError, FrameReader};
use supermachine_agent_protocol::spec::WINDOW;
use supermachine_agent_protocol::{
    Close, Credit, ErrorReply, Exec, ExitStatus, Frame, FrameError, FrameKind, Stream, Window,
};

use crate::agent::{AgentError, Link};
use crate::ending::{self, Ending};
use crate::life::Lifecycle;
use crate::stdio::{Input, Output};

/// Bytes of standard input in one frame.
const STDIN_CHUNK: usize = 64 << 10;

/// Runs `exec` until it ends.
///
/// Blocks until the guest is up, then for as long as the process runs.
pub fn run(life: &Arc<Lifecycle>, exec: Exec) -> Ending {
    start(life, exec).and_then(|link| join_streams(life, link)).map_or_else(|error| ending_of(&error), Ending::Process)
}

fn start(life: &Arc<Lifecycle>, exec: Exec) -> Result<Link, AgentError> {
    let mut link = life.agent().call()?;
    let pid = link.exec(exec)?;
    log::info!("main process has pid {pid} in the guest");
    life.set_main(link.writer.get_ref().try_clone()?)?;
    Ok(link)
}

fn ending_of(error: &AgentError) -> Ending {
    if let AgentError::Conversation(ConnectionError::Refused(ErrorReply { code, message, .. })) = error {
        let status = u8::try_from(code.shell_status()).unwrap_or(u8::MAX);
        return Ending::NotStarted { status, message: message.clone() };
    }
    match error {
        AgentError::Conversation(ConnectionError::Closed | ConnectionError::Io(_)) => Ending::AgentGone,
        _ => Ending::Agent { message: ending::chain(error) },
    }
}

/// Joins the streams until the process has ended and all that it wrote is written.
fn join_streams(life: &Arc<Lifecycle>, link: Link) -> Result<ExitStatus, AgentError> {
    let credit = Arc::new(Credit::default());
    let stdin = Input::new(io::stdin().as_fd())?;
    let feeder = (life.clone(), credit.clone());
    // Not joined: it may wait for input that never comes, and ends with the vmm.
    thread::Builder::new().name("stdin".into()).spawn(move || feed(stdin, &feeder.0, &feeder.1))?;
    let stdout = Writer::start(life, Stream::Stdout, Output::new(io::stdout().as_fd())?)?;
    let stderr = Writer::start(life, Stream::Stderr, Output::new(io::stderr().as_fd())?)?;
    let status = read_frames(link.reader, &stdout.queue, &stderr.queue, &credit);
    credit.close();
    stdout.finish();
    stderr.finish();
    Ok(status?)
}

fn read_frames<R: io::Read>(
    mut reader: FrameReader<R>,
    stdout: &Queue,
    stderr: &Queue,
    credit: &Credit,
) -> Result<ExitStatus, ConnectionError> {
    loop {
        let frame = reader.frame()?;
        match frame.kind {
            FrameKind::Stdout => stdout.push(frame)?,
            FrameKind::Stderr => stderr.push(frame)?,
            FrameKind::Window => match Window::try_from(&frame)? {
                Window { stream: Stream::Stdin, bytes } => credit.grant(bytes),
                _ => return Err(wrong(&frame).into()),
            },
            FrameKind::Close => match Close::try_from(&frame)? {
                Close(Stream::Stdin) => credit.close(),
                _ => return Err(wrong(&frame).into()),
            },
            // The agent sends this after all that the process itself wrote.
            FrameKind::Exit => return Ok(ExitStatus::try_from(&frame)?),
            FrameKind::Error => return Err(ConnectionError::Refused(frame.parse_json()?)),
            _ => return Err(wrong(&frame).into()),
        }
    }
}

fn wrong(frame: &Frame) -> FrameError {
    FrameError::WrongKind { got: frame.kind, want: FrameKind::Exit }
}

/// Copies standard input to the process until one of the two has enough.
fn feed(mut stdin: Input, life: &Lifecycle, credit: &Credit) {
    let mut chunk = vec![0u8; STDIN_CHUNK];
    while let Some(room) = credit.spend(STDIN_CHUNK) {
        let count = stdin.read(chunk.get_mut(..room).unwrap_or_default());
        // What was spent and not used comes back; an empty frame is the end of the input.
        credit.grant(u32::try_from(room.saturating_sub(count)).unwrap_or(0));
        let payload = chunk.get(..count).unwrap_or_default().to_vec();
        if !life.send(Frame { kind: FrameKind::Stdin, payload }) || count == 0 {
            return;
        }
    }
}

/// Output on its way to a writer, never more than a window of it.
struct Queue {
    sender: Sender<Vec<u8>>,
    /// Bytes that wait or are being written.
    waiting: Arc<AtomicUsize>,
}

impl Queue {
    /// Queues a frame's bytes; more than the stream's window is a guest that breaks the protocol.
    fn push(&self, frame: Frame) -> Result<(), FrameError> {
        let (kind, len) = (frame.kind, frame.payload.len());
        let waiting = self.waiting.fetch_add(len, Ordering::Relaxed).saturating_add(len);
        if waiting > WINDOW as usize {
            return Err(FrameError::TooLong { kind, len: waiting as u64, max: WINDOW });
        }
        // An empty frame is the end of the stream, which the writer need not know. A writer whose stream is closed is
        // gone, and what still comes is dropped with it.
        if len > 0 && self.sender.send(frame.payload).is_err() {
            self.waiting.fetch_sub(len, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// A thread that writes one output stream and tells the agent how far it is.
struct Writer {
    queue: Queue,
    thread: JoinHandle<()>,
}

impl Writer {
    fn start(life: &Arc<Lifecycle>, stream: Stream, mut output: Output) -> io::Result<Self> {
        let (sender, queue) = mpsc::channel::<Vec<u8>>();
        let (life, waiting) = (life.clone(), Arc::<AtomicUsize>::default());
        let written = waiting.clone();
        let write = move || {
            for bytes in queue {
                let result = output.write_all(&bytes);
                written.fetch_sub(bytes.len(), Ordering::Relaxed);
                if let Err(error) = result {
                    log::debug!("{}: {error}", stream.kind());
                    life.send(Close(stream));
                    break;
                }
                life.send(Window { stream, bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX) });
            }
        };
        let thread = thread::Builder::new().name(stream.kind().name().to_owned()).spawn(write)?;
        Ok(Self { queue: Queue { sender, waiting }, thread })
    }

    /// Waits until everything is written.
    fn finish(self) {
        drop(self.queue);
        // A writer does not panic, and if it did there would be nothing more to write.
        let _ = self.thread.join();
    }
}

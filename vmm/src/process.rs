//! The main process: started when the guest is up, its streams joined to the vmm's own, its end the machine's end.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use supermachine_agent_protocol::blocking::{ConnectionError, FrameReader, FrameWriter};
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
    life.set_main(FrameWriter::new(link.writer.get_ref().try_clone()?));
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
    let status = read_frames(link.reader, &stdout.frames, &stderr.frames, &credit);
    credit.close();
    stdout.finish();
    stderr.finish();
    Ok(status?)
}

fn read_frames<R: io::Read>(
    mut reader: FrameReader<R>,
    stdout: &Sender<Vec<u8>>,
    stderr: &Sender<Vec<u8>>,
    credit: &Credit,
) -> Result<ExitStatus, ConnectionError> {
    loop {
        let frame = reader.frame()?;
        match frame.kind {
            // A writer ends only after these senders are dropped.
            FrameKind::Stdout => drop(stdout.send(frame.payload)),
            FrameKind::Stderr => drop(stderr.send(frame.payload)),
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

/// A thread that writes one output stream and tells the agent how far it is.
struct Writer {
    frames: Sender<Vec<u8>>,
    thread: JoinHandle<()>,
}

impl Writer {
    fn start(life: &Arc<Lifecycle>, stream: Stream, output: Output) -> io::Result<Self> {
        // Holds at most a window: the agent sends no more before it is granted more.
        let (frames, queue) = mpsc::channel();
        let (name, life) = (stream.kind().name().to_owned(), life.clone());
        let thread = thread::Builder::new().name(name).spawn(move || write(output, &queue, stream, &life))?;
        Ok(Self { frames, thread })
    }

    /// Waits until everything is written.
    fn finish(self) {
        drop(self.frames);
        // A writer does not panic, and if it did there would be nothing more to write.
        let _ = self.thread.join();
    }
}

fn write(mut output: Output, queue: &Receiver<Vec<u8>>, stream: Stream, life: &Lifecycle) {
    for bytes in queue {
        let granted = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        match output.write_all(&bytes) {
            Ok(()) => life.send(Window { stream, bytes: granted }),
            Err(error) => {
                log::debug!("{}: {error}", stream.kind());
                life.send(Close(stream));
                break;
            }
        };
    }
}

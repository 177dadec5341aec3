//! Starts the built agent on a Unix socket and talks to it.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod container;

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use supermachine_agent_protocol::blocking::{Connection, ConnectionError, FrameReader, FrameWriter};
use supermachine_agent_protocol::spec::MAX_PAYLOAD;
use supermachine_agent_protocol::{Credit, ErrorReply, Exec, ExitStatus, FrameKind, Hello, Stream, Window};

/// A running agent with a folder of its own; dropping it ends both.
pub(crate) struct Agent {
    child: Child,
    folder: PathBuf,
}

/// The stream of a session.
pub(crate) type Session = Connection<UnixStream, UnixStream>;

/// What a session gave until its end.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) exit: Option<ExitStatus>,
    /// Output bytes that came after the exit frame.
    pub(crate) after_exit: usize,
    /// End-of-stream frames.
    pub(crate) ends: usize,
}

/// Starts `command`, to which the agent's arguments are added, and returns when the agent listens in `folder`.
pub(crate) fn spawn_listening(command: &mut Command, folder: &Path) -> Child {
    command.arg("--listen").arg(format!("unix:{}", folder.join("agent.sock").display()));
    let mut child = command.env("SUPERMACHINE_LOG", "1").stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("listening on unix:"), "{line:?}");
    child
}

impl Agent {
    /// Starts an agent and returns when it listens.
    pub(crate) fn start() -> Self {
        let folder = new_folder();
        let mut command = Command::new(env!("CARGO_BIN_EXE_supermachine-agent"));
        let child = spawn_listening(&mut command, &folder);
        Self { child, folder }
    }

    /// Takes over an agent that listens in its folder.
    pub(crate) fn adopt(child: Child, folder: PathBuf) -> Self {
        Self { child, folder }
    }

    /// A connection without a hello.
    pub(crate) fn raw(&self) -> UnixStream {
        UnixStream::connect(self.folder.join("agent.sock")).unwrap()
    }

    /// A connection after the hellos.
    pub(crate) fn session(&self) -> Session {
        let stream = self.raw();
        let mut session = Connection::new(stream.try_clone().unwrap(), stream, MAX_PAYLOAD);
        let hello = session.hello(&Hello::new("test")).unwrap();
        assert!(hello.software.starts_with("supermachine-agent "));
        assert!(hello.kernel.is_some());
        session
    }

    /// Starts a process.
    pub(crate) fn start_exec(&self, exec: Exec) -> Session {
        let mut session = self.session();
        assert!(session.exec(exec).unwrap() > 1);
        session
    }

    /// Runs a process to its end.
    pub(crate) fn run(&self, exec: Exec) -> Outcome {
        collect(&mut self.start_exec(exec))
    }

    /// Tries to start a process that cannot be started.
    pub(crate) fn refused(&self, exec: Exec) -> ErrorReply {
        let mut session = self.session();
        match session.exec(exec) {
            Err(ConnectionError::Refused(error)) => {
                assert!(session.reader.next_frame().unwrap().is_none(), "the error is the last frame");
                error
            }
            other => panic!("a refusal is expected, not {other:?}"),
        }
    }

    /// The number of descriptors the agent has open.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Asserts that the agent soon has this many descriptors open.
    pub(crate) fn assert_descriptors(&self, count: usize) {
        // It closes its ends a moment after ours, and nothing tells us when.
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.descriptors() != count {
            assert!(Instant::now() < deadline, "{} descriptors are open, not {count}", self.descriptors());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asserts that the agent serves on and soon has no child, dead or alive.
    pub(crate) fn assert_reaps_all(&self) {
        let id = self.child.id();
        // A killed process takes a moment to die; each round is a process started, run and reaped.
        for _ in 0..100 {
            self.assert_serves();
            let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
            if children.is_empty() {
                return;
            }
        }
        panic!("children are left");
    }

    /// Asserts that the agent still serves.
    pub(crate) fn assert_serves(&self) {
        let done = self.run(sh("echo alive"));
        assert_eq!((done.stdout.as_slice(), done.exit), (b"alive\n".as_slice(), Some(ExitStatus::Exited(0))));
    }

    /// Waits for the agent's own end.
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        self.child.wait().unwrap()
    }

    /// The agent's folder.
    pub(crate) fn folder(&self) -> &PathBuf {
        &self.folder
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A folder that no other test has.
pub(crate) fn new_folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("sm-agent-{}-{count}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A shell command with a usual `PATH`.
pub(crate) fn sh(script: &str) -> Exec {
    Exec { env: vec!["PATH=/usr/bin:/bin".into()], ..Exec::new(["sh", "-c", script]) }
}

/// Reads a session to its end.
pub(crate) fn collect(session: &mut Session) -> Outcome {
    drain(&mut session.reader, &Mutex::new(&mut session.writer), &Credit::default())
}

/// Sends `bytes` as standard input from a thread of its own while the output is read.
pub(crate) fn through(session: &mut Session, bytes: &[u8]) -> Outcome {
    let (writer, credit) = (Mutex::new(&mut session.writer), Credit::default());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut rest = bytes;
            while !rest.is_empty() {
                let Some(count) = credit.spend(rest.len().min(100_000)) else { return };
                let (now, later) = rest.split_at(count);
                writer.lock().unwrap().send(FrameKind::Stdin, now).unwrap();
                rest = later;
            }
            writer.lock().unwrap().send(FrameKind::Stdin, &[]).unwrap();
        });
        let outcome = drain(&mut session.reader, &writer, &credit);
        credit.close();
        outcome
    })
}

fn drain(
    reader: &mut FrameReader<UnixStream>,
    writer: &Mutex<&mut FrameWriter<UnixStream>>,
    credit: &Credit,
) -> Outcome {
    let mut outcome = Outcome::default();
    while let Some(frame) = reader.next_frame().unwrap() {
        let (stream, into) = match frame.kind {
            FrameKind::Stdout => (Stream::Stdout, &mut outcome.stdout),
            FrameKind::Stderr => (Stream::Stderr, &mut outcome.stderr),
            FrameKind::Exit => {
                assert_eq!(outcome.exit, None, "one exit frame");
                outcome.exit = Some(ExitStatus::try_from(&frame).unwrap());
                continue;
            }
            FrameKind::Window => {
                credit.grant(Window::try_from(&frame).unwrap().bytes);
                continue;
            }
            FrameKind::Close => {
                credit.close();
                continue;
            }
            other => panic!("{other} frame: {:?}", String::from_utf8_lossy(&frame.payload)),
        };
        // The agent may be done with the connection already.
        let _ = writer.lock().unwrap().send_frame(Window { stream, bytes: frame.payload.len().try_into().unwrap() });
        into.extend_from_slice(&frame.payload);
        outcome.ends += usize::from(frame.payload.is_empty());
        outcome.after_exit += if outcome.exit.is_some() { frame.payload.len() } else { 0 };
    }
    outcome
}

/// Reads output until it contains `text`.
pub(crate) fn read_until(session: &mut Session, text: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(text) {
        let frame = session.reader.frame().unwrap();
        assert_eq!(frame.kind, FrameKind::Stdout, "before {text:?}, after {seen:?}");
        let bytes = frame.payload.len().try_into().unwrap();
        session.writer.send_frame(Window { stream: Stream::Stdout, bytes }).unwrap();
        seen.push_str(&String::from_utf8_lossy(&frame.payload));
    }
    seen
}

/// Bytes that repeat only after long, different for each seed.
pub(crate) fn noise(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}
